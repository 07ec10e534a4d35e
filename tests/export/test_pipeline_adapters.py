"""Roles that are adapters of a pipeline's network, and the student's file opened by the pipeline itself."""

import argparse
import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from realuid.conditions import Condition
from realuid.distillation.initialisation import share_teacher
from realuid.distillation.students import OneStep
from realuid.export import adapters, text_to_image, to_exported
from realuid.jobs import export as job
from realuid.models.matching import MatchingModel
from realuid.networks.lora import LoRA, own_parameters
from realuid.paths.couplings import IndependentCoupling
from realuid.pretrained import components, read
from realuid.utils.errors import RunError

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from realuid.pretrained.pipelines.encoder import PipelineEncoder  # noqa: E402
from realuid.pretrained.pipelines.network import PipelineNetwork  # noqa: E402
from realuid.training.costs import held  # noqa: E402
from tests.distillation.test_lora import distillation  # noqa: E402
from tests.pretrained.pipelines.cases import CASES  # noqa: E402
from tests.pretrained.pipelines.conftest import saved  # noqa: E402, F401

PROMPTS = ["a red cube", "two dogs, one of them asleep"]
NAMES = sorted(CASES)
TIMES = {"StableDiffusionXLPipeline": 399.0}


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("REALUID_CACHE", str(tmp_path / "cache"))


def matching(foreign, network):
    return MatchingModel(
        network=network,
        interpolant=components.path(foreign.path).build(),
        coupling=IndependentCoupling(),
        target=components.TARGETS[foreign.target](),
        preconditioning=components.preconditioning(foreign.preconditioning, foreign.target).build(),
    )


def roles(foreign, time=None):
    """The teacher's model, and a student that adapts its network and has left it by a few steps of an optimiser."""
    teacher = matching(foreign, foreign.build())
    student = matching(foreign, LoRA(rank=2, alpha=3.0))
    assert share_teacher(teacher, {"student": (student, "teacher", None)}) == {"student"}
    teacher.requires_grad_(False)
    torch.manual_seed(1)
    for parameter in own_parameters(student):
        nn.init.normal_(parameter, std=0.1)
    return teacher, OneStep(model=student, time=time).eval()


def foreign_of(folder, case):
    return read(folder, known={"tokens": case.tokens, "guidance": case.embedded, "shape": case.shape})


def compared(one, other):
    size = max(1.0, float(other.abs().max()))
    torch.testing.assert_close(one / size, other / size, atol=1e-5, rtol=0)


QUICK = {"StableDiffusion3Pipeline"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in NAMES])
def test_adapters_on_a_pipelines_network(saved, tmp_path, name):  # noqa: F811
    """Off, they are the teacher; merged and in a file of their own, they are the student's pictures."""
    pipeline, folder = saved(name)
    case = CASES[name]
    foreign = foreign_of(folder, case)
    teacher, student = roles(foreign, TIMES.get(name))
    arguments = {name: foreign.arguments[name] for name in ("pipeline", "config", "tokens")}
    condition = PipelineEncoder(folder=folder, dtype="float32", **arguments)(PROMPTS)
    x0 = torch.randn(2, *case.shape, generator=torch.Generator().manual_seed(7))
    base, network = teacher.network, student.model.network
    assert {id(p) for p in base.parameters()} < {id(p) for p in network.parameters()}
    time = torch.full((2,), student.time)
    with torch.no_grad():
        wanted, plain = student(x0, condition, None), base(x0, time, condition)
        assert not torch.allclose(network(x0, time, condition), plain, rtol=1e-3, atol=1e-3)
        for layer in network.layers().values():
            layer.enable_adapters(False)
        assert torch.equal(network(x0, time, condition), plain)
        for layer in network.layers().values():
            layer.enable_adapters(True)

    adapters.save(tmp_path / "lora", network)
    merged = copy.deepcopy(student)
    merged.model.network = network.merged()

    with torch.no_grad():
        form = to_exported(merged.model, merged, shape=case.shape, conditions=base.conditions)
    text_to_image.save(tmp_path / "whole", form, folder)
    whole = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "whole", trust_remote_code=False)
    whole.set_progress_bar_config(disable=True)
    compared(case.run(whole, x0, PROMPTS, steps=1, scale=None), wanted)

    if not hasattr(type(pipeline), "load_lora_weights"):
        return  # diffusers' PixArt takes no adapters: its students are exported merged
    text_to_image.save_scheduler(tmp_path / "lora", form)
    kind = getattr(diffusers, text_to_image.scheduler_of(form)["_class_name"])
    scheduler = kind.from_pretrained(tmp_path / "lora" / "scheduler")
    adapted = diffusers.DiffusionPipeline.from_pretrained(folder, scheduler=scheduler)
    adapted.set_progress_bar_config(disable=True)
    before = case.run(adapted, x0, PROMPTS, steps=1, scale=None)
    adapted.load_lora_weights(str(tmp_path / "lora"))
    shown = case.run(adapted, x0, PROMPTS, steps=1, scale=None)
    compared(shown, wanted)
    assert not torch.allclose(before, shown, rtol=1e-2, atol=1e-2)


def test_gradients_reach_the_adapters_alone(saved):  # noqa: F811
    case = CASES["StableDiffusion3Pipeline"]
    teacher, student = roles(foreign_of(saved("StableDiffusion3Pipeline")[1], case))
    told = {f.name: torch.ones((1, *f.sizes), dtype=f.torch_dtype) for f in teacher.network.conditions}
    student(torch.randn(1, *case.shape), Condition(told), None).square().mean().backward()
    own = {id(p) for p in own_parameters(student)}
    assert all((p.grad is not None) == (id(p) in own) for p in student.parameters())
    assert all(p.grad is None for p in teacher.parameters())


def test_three_roles_take_less_than_half_of_three_whole_networks(saved):  # noqa: F811
    """Bytes as the dry run counts them, of adapters on a pipeline's network of 3 million weights."""
    from realuid.pretrained.pipelines.network import PipelineNetwork

    config = foreign_of(saved("SanaPipeline")[1], CASES["SanaPipeline"]).arguments["config"]
    config = {**config, "num_attention_heads": 16, "attention_head_dim": 16, "num_layers": 2}
    config |= {"num_cross_attention_heads": 16, "cross_attention_head_dim": 16, "cross_attention_dim": 256}

    def network() -> PipelineNetwork:
        return PipelineNetwork(pipeline="SanaPipeline", config=config, shape=(4, 8, 8), tokens=32)

    def held_bytes(student, fake, storage):
        made = distillation("none", student, fake, storage=storage, base=network)
        made.pack()
        return sum(held(made)[1].values())

    whole = held_bytes(network(), network(), "float32")
    assert held_bytes(LoRA(rank=4), LoRA(rank=4), "bfloat16") < 0.45 * whole


@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_written_before_all_is_checked(saved, tmp_path, monkeypatch, there):  # noqa: F811
    """Adapters beside a folder that cannot be written: the teacher's pipeline is not known, or the place is taken."""
    case = CASES["FluxPipeline"]
    foreign = foreign_of(saved("FluxPipeline")[1], case)
    teacher, student = roles(foreign)
    network = SimpleNamespace(
        kind=SimpleNamespace(target=PipelineNetwork),
        arguments={name: SimpleNamespace(value=value) for name, value in foreign.arguments.items()},
    )
    method = SimpleNamespace(teacher=None, ema=SimpleNamespace(averaged=lambda ema: student))
    data = SimpleNamespace(shape=case.shape, conditions=teacher.network.conditions)
    model = SimpleNamespace(config=None, trainer=SimpleNamespace(method=method, data=data))
    monkeypatch.setattr(job, "_network", lambda config: network)
    monkeypatch.setattr(job.runs, "reopen", lambda arguments: model)
    out = tmp_path / "out"
    if there:
        (out / "diffusers").mkdir(parents=True)
        (out / "diffusers" / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="is of an earlier export" if there else "needs the teacher's pipeline"):
        job._written(argparse.Namespace(out=str(out), formats=["lora", "diffusers"], ema=None, name=None))
    assert [path.name for path in out.rglob("*")] == (["diffusers", "mine.txt"] if there else [])
