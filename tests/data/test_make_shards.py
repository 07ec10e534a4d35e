import uuid

import fsspec
import pytest

from realuid.commands.make_shards import main
from realuid.data.index import ShardIndex


def test_writes_and_refuses_to_overwrite(tmp_path, capsys):
    dest = str(tmp_path / "digits")
    assert main(["digits", dest, "--shard-size", "1000"]) == 0
    out = capsys.readouterr().out
    assert dest in out
    assert "train: 1797 samples in 2 shards" in out
    index = ShardIndex.read(dest)
    assert [shard.samples for shard in index.splits["train"].shards] == [1000, 797]

    assert main(["digits", dest]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{dest} already holds a data set" in error
    assert ShardIndex.read(dest) == index


def test_any_url():
    url = f"memory://{uuid.uuid4().hex}/digits"
    assert main(["digits", url]) == 0
    assert ShardIndex.read(url).splits["train"].samples == 1797
    fs, root = fsspec.core.url_to_fs(url)
    fs.rm(root, recursive=True)


def test_unusable_url(capsys):
    assert main(["digits", "s9://bucket/digits"]) == 2
    assert capsys.readouterr().err.startswith("make_shards: s9://bucket/digits cannot be opened")


@pytest.mark.parametrize(
    "arguments",
    [
        ["digits"],
        ["digits", "x", "--shard-size", "0"],
        ["digits", "x", "--crop", "middle"],
        ["a", "b", "--workers", "-1"],
    ],
)
def test_wrong_arguments(arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
