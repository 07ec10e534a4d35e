"""See `realuid.commands.make_shards`."""

import sys

from realuid.commands.make_shards import main

if __name__ == "__main__":
    sys.exit(main())
