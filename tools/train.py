"""See `realuid.commands.train`."""

import sys

from realuid.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
