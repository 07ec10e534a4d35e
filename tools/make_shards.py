"""python tools/make_shards.py SOURCE DEST [--shard-size N]"""

import sys

from realuid.commands.make_shards import main

sys.exit(main())
