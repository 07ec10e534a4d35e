"""See `realuid.commands.tiny_text`."""

import sys

from realuid.commands.tiny_text import main

if __name__ == "__main__":
    sys.exit(main())
