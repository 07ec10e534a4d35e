"""Seeds from names and numbers."""

import hashlib


def key(*parts: str | int) -> int:
    """A 63-bit seed from a tuple of names and numbers, the same on every machine and in every process."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
