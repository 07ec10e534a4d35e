"""Seeds are fixed for ever: a changed key would change every run."""

import subprocess
import sys

from realuid.utils.keys import key


def test_keys_tell_their_parts_apart():
    keys = [key(0, "source", 1, 2), key(0, "source", 11, 2), key(0, "source", 1, 12), key(0, "latent", 1, 2), key("0")]
    assert len({*keys}) == len(keys)
    assert all(0 <= k < 2**63 for k in keys)


def test_keys_are_the_same_in_every_process():
    code = "from realuid.utils.keys import key; print(key(0, 'source', 1, 2))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(other) == key(0, "source", 1, 2) == 1153919220381184590
