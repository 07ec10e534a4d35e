"""See `realuid.commands.new`."""

import sys

from realuid.commands.new import main

if __name__ == "__main__":
    sys.exit(main())
