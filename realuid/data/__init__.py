"""Data sets: webdataset shards with an index, read and written over fsspec.

dataset           what training sees; streaming, memory, mixed, pairs and others are such sets
shards            how sets are stored
sources           what shards are made from
preparation       from sources to shards
builtin           small sets that are made on the spot
pixels            uint8 pixels to network units and back
"""

import os

# webdataset reads this at its first import. Nothing here unpickles or opens `pipe:` URLs; this holds for the process.
os.environ.setdefault("WDS_SECURE", "1")
