"""See `realuid.commands.evaluate`."""

import sys

from realuid.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
