"""See `realuid.commands.study`."""

import sys

from realuid.commands.study import main

if __name__ == "__main__":
    sys.exit(main())
