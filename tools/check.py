"""See `realuid.commands.check`."""

import sys

from realuid.commands.check import main

if __name__ == "__main__":
    sys.exit(main())
