"""Files with flipped bits, cut files and files with payloads, against every loader: each is refused in one line, or
read as what it was; nothing in it is executed, and the process lives. Every case has a process of its own."""

import math
import os
import pickle
import random
import resource
import signal
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import realuid
from realuid import checkpoints
from realuid.checkpoints import CheckpointStore
from realuid.checkpoints.nested import split
from realuid.data.memory import InMemory
from realuid.evaluation.frechet import Moments
from realuid.evaluation.reference import read_reference, write_reference
from realuid.networks.unet import UNet
from realuid.pretrained import read
from realuid.utils.errors import CheckpointError, DataError, RunError
from tests.data.handmade import numbered_set
from tests.pretrained.made_up import fill
from tests.pretrained.test_dit import state as dit_state
from tests.pretrained.test_edm import snapshot, song
from tests.pretrained.test_guided import SMALL

KNOWN = {"shape": (3, 8, 8), "head_channels": 32, "heads": 1}
REFUSED, RIGHT, WRONG, UNCAUGHT, EXECUTED = range(10, 15)
CASES = 24
"""Of each loader."""


class Payload:
    def __reduce__(self):
        return os.system, ("touch EXECUTED",)


def state() -> dict:
    """What a run keeps, in small."""
    weights = {"a.weight": torch.randn(16, 16), "a.bias": torch.randn(16)}
    return {"step": 7, "method": {"student": weights}, "meters": {"names": ["x"]}, "config": "A.b = 1\n" * 20}


def write_own(folder: Path) -> None:
    CheckpointStore(str(folder)).save(1, state())


def write_shards(folder: Path) -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        CheckpointStore(str(folder)).save_shards(1, *split(state()), dist.group.WORLD, True)
    finally:
        dist.destroy_process_group()


def without_marker(write):
    def writer(folder: Path) -> None:
        write(folder)
        (folder / "step_00000001.json").unlink()

    return writer


def write_safetensors(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(fill(UNet(**SMALL)).state_dict(), folder / "x.safetensors")


def write_diffusers(folder: Path) -> None:
    from tests.pretrained.test_diffusers import unet

    unet().save_pretrained(folder)


def write_student(folder: Path) -> None:
    from tests.export.test_export import exported

    exported(folder)


def write_moments(folder: Path) -> None:
    write_reference(folder / "x.npz", Moments(torch.randn(8).double(), torch.eye(8).double()), 10, {"network": "x"})


def write_data(folder: Path) -> None:
    numbered_set(folder, [3, 4])


def read_data(folder: Path):
    data = InMemory(path=str(folder), shape=(1, 2, 2), classes=3)
    data.open(seed=0, device=torch.device("cpu"))
    return data.examples(0, len(data)).images


# A loader's name: how its file is written, how it is read, and whether what is read must be exactly what was written.
LOADERS = {
    "checkpoint": (write_own, lambda f: checkpoints.load(f"{f}/step_00000001.pt"), True),
    "sharded checkpoint": (write_shards, lambda f: checkpoints.load(f"{f}/step_00000001"), True),
    "checkpoint alone": (without_marker(write_own), lambda f: checkpoints.load(f"{f}/step_00000001.pt"), False),
    "shards alone": (without_marker(write_shards), lambda f: checkpoints.load(f"{f}/step_00000001"), False),
    "edm": (lambda f: snapshot(f / "x.pkl", song()), lambda f: read(f"{f}/x.pkl", "edm").state, False),
    "torchcfm": (
        lambda f: torch.save({"net_model": fill(UNet(**SMALL)).state_dict()}, f / "x.pt"),
        lambda f: read(f"{f}/x.pt", "torchcfm", known=KNOWN).state,
        False,
    ),
    "torchcfm, old form": (
        lambda f: torch.save(
            {"net_model": fill(UNet(**SMALL)).state_dict()}, f / "x.pt", _use_new_zipfile_serialization=False
        ),
        lambda f: read(f"{f}/x.pt", "torchcfm", known=KNOWN).state,
        False,
    ),
    "sit": (
        lambda f: torch.save({"ema": dit_state()}, f / "x.pt"),
        lambda f: read(f"{f}/x.pt", "sit", known={"heads": 4}).state,
        False,
    ),
    "safetensors": (write_safetensors, lambda f: read(f"{f}/x.safetensors", "torchcfm", known=KNOWN).state, False),
    "diffusers": (write_diffusers, lambda f: read(str(f)).state, False),
    "student": (write_student, lambda f: realuid.load(f"{f}/out").state_dict(), False),
    "reference": (write_moments, lambda f: vars(read_reference(f"{f}/x.npz").moments), False),
    "data": (write_data, lambda f: {"images": read_data(f)}, False),
}


def tensors(content, place="") -> dict[str, torch.Tensor]:
    if isinstance(content, torch.Tensor):
        return {place: content}
    found = {}
    for name, value in content.items() if hasattr(content, "items") else enumerate(content):
        if isinstance(value, torch.Tensor | dict | list):
            found |= tensors(value, f"{place}/{name}")
    return found


def is_right(found, expected, exactly: bool) -> bool:
    found, expected = tensors(found), tensors(expected)
    if found.keys() != expected.keys() or any(found[n].shape != v.shape for n, v in expected.items()):
        return False
    if exactly:
        return all(torch.equal(found[n], v) for n, v in expected.items())
    return True


def damaged(content: bytes, case: int, chance: random.Random) -> bytes:
    if case % 8 == 0:
        return pickle.dumps(Payload(), protocol=2 + case % 4)
    if case % 8 == 1:
        return content[: chance.randrange(len(content))]
    flipped = bytearray(content)
    # The beginning and the end hold the structure; the middle, mostly numbers.
    spans = {2: (0, 512), 3: (0, 512), 4: (-2048, 0)}
    low, high = spans.get(case % 8, (0, len(content)))
    low, high = (max(0, len(content) + low), len(content)) if low < 0 else (low, min(high, len(content)))
    for _ in range(chance.choice((1, 2, 8))):
        flipped[chance.randrange(low, high)] ^= 1 << chance.randrange(8)
    return bytes(flipped)


def outcome(load, folder: Path, expected, exactly: bool) -> int:
    """How a process of its own ends that reads the folder; its memory and time are bounded."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)
    code = UNCAUGHT
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.chdir(folder)
        torch.set_num_threads(1)
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (4 << 30), size + (4 << 30)))
        try:
            code = RIGHT if is_right(load(folder), expected, exactly) else WRONG
        except (CheckpointError, DataError, RunError) as error:
            code = REFUSED if "\n" not in str(error) else UNCAUGHT
        code = EXECUTED if list(folder.rglob("EXECUTED")) else code
    finally:
        os._exit(code)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOADERS)
def test_damaged_and_hostile_files(name, tmp_path, monkeypatch):
    if name in ("safetensors", "diffusers", "student"):
        pytest.importorskip("safetensors")
    if name == "diffusers":
        pytest.importorskip("diffusers")
    write, load, exactly = LOADERS[name]
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    write(tmp_path)
    chance = random.Random(name)
    expected = load(tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".md")
    counts = dict.fromkeys((REFUSED, RIGHT), 0)
    for case in range(CASES):
        path = chance.choices(files, [math.sqrt(p.stat().st_size) for p in files])[0]
        whole = path.read_bytes()
        path.write_bytes(damaged(whole, case, chance))
        ended = outcome(load, tmp_path, expected, exactly)
        assert ended in counts, (case, path.name, signal.Signals(-ended).name if ended < 0 else ended)
        counts[ended] += 1
        path.write_bytes(whole)
    assert counts[REFUSED] >= CASES // 4, counts
