"""Shards of samples: where they lie, what their index says, one shard to samples and samples to shards.

location, listing, index     where a set lies, and what it holds
fetching, cache, pool        shards on the local disk, and those that are open
tars, layout, repair         where a shard's members stand, against what its index says
decode, reader, stored       members to arrays
files, writer                samples to shards
"""
