"""See `realuid.commands.benchmark`."""

import sys

from realuid.commands.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
