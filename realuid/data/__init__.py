"""Data sets: webdataset shards with an index, read and written over fsspec.

location, index      where a data set lies and what it holds
reader, writer       one shard to samples, samples to shards
builtin              small sets that are made on the spot
dataset, memory      what training sees
pixels               uint8 pixels to network units and back
"""

import os

# webdataset reads this at its first import. Nothing here unpickles or opens `pipe:` URLs; this holds for the process.
os.environ.setdefault("WDS_SECURE", "1")
