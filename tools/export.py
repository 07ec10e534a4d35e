"""See `realuid.commands.export`."""

import sys

from realuid.commands.export import main

if __name__ == "__main__":
    sys.exit(main())
