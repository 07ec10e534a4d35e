"""Pictures and captions to shards: what make_shards.py does, in one size or in several.

conversion, tasks     a whole set, and its shards by many processes
prepare, encoding     one sample: cropped and resized, or encoded
buckets, measuring    a set for each of several sizes
aspects               which size keeps most of a picture
"""
