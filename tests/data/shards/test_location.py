import pytest

from realuid.data.shards.location import locate, open_folder
from realuid.utils.errors import DataError


@pytest.mark.parametrize("path", ["s3://bucket/set", "memory://set", "/abs/set", "simplecache::s3://bucket/set"])
def test_complete_paths_stay(monkeypatch, path):
    monkeypatch.setenv("REALUID_DATA", "/elsewhere")
    assert locate(path) == path


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        (None, "data/digits"),
        ("", "data/digits"),
        ("/sets", "/sets/digits"),
        ("/sets/", "/sets/digits"),
        ("s3://bucket/sets", "s3://bucket/sets/digits"),
    ],
)
def test_names_lie_in_realuid_data(monkeypatch, variable, place):
    if variable is None:
        monkeypatch.delenv("REALUID_DATA", raising=False)
    else:
        monkeypatch.setenv("REALUID_DATA", variable)
    assert locate("digits") == place


def test_unknown_kind_of_url():
    with pytest.raises(DataError, match=r"s9://bucket/set cannot be opened: .*s9"):
        open_folder("s9://bucket/set")
