"""See `realuid.commands.sample`."""

import sys

from realuid.commands.sample import main

if __name__ == "__main__":
    sys.exit(main())
