"""Every recipe's steps on CUDA, without CUDA: no mixing of devices, and nothing that a host waits for."""

import pytest
import torch

from realuid.config import load
from realuid.distillation.distillation import Distillation
from realuid.evaluation.inputs import GaussianInputs, ImageInputs, batches
from realuid.evaluation.small_classifier import SmallClassifier
from realuid.training.compute import Compute
from realuid.training.method import Context, Method, empty_condition
from realuid.training.world import World
from tests.shipped import cases
from tests.training.fake_cuda import CUDA, FakeCuda, HostWork, Watch
from tests.training.recipes_on_cuda import RECIPES, built, configured, started

ASSIGNS = {"ot_digits.gin"}
"""Minibatch optimal transport is assigned on the host, so these wait: once for the costs of a batch, once for the copy
of the assignment."""
CASES = cases(RECIPES)


def check(watch: Watch, recipe: str, couplings: int) -> None:
    """Nothing waits but for the assignments of so many couplings."""
    if recipe not in ASSIGNS:
        watch.check()
        return
    assert len(watch.waits) == 2 * couplings, watch.waits
    assert all("couplings.py" in wait for wait in watch.waits)


def check_precisions(watch: Watch, bfloat16: bool) -> None:
    """Convolutions of the blocks see channels last, whatever their precision; matrix products may use TF32."""
    convolved = {dtype: watch.convolved(dtype) for dtype in (torch.bfloat16, torch.float32)}
    assert bfloat16 == any(dtype == torch.bfloat16 for dtype, _, _ in watch.products)
    for found in convolved.values():
        assert all(tf32 for tf32, _ in found)
        assert all(last for _, last in found), watch.products


@pytest.mark.parametrize("recipe", CASES)
def test_a_distillation(recipe):
    """The fake network's update in bfloat16, the generator's in TF32, both without a wait."""
    trainer = built(configured(recipe))
    method = trainer.method
    assert isinstance(method, Distillation)
    with started(trainer) as (cuda, context):
        first = method.leading_steps(context.batch)
        if first:
            with cuda.watched() as watch:
                method.step(0)
            check(watch, recipe, 1)
            method.enter(first)
        with cuda.watched() as watch:
            method.step(first)
        check(watch, recipe, 2)
        check_precisions(watch, bfloat16=True)
        check_sampling(cuda, method, context, recipe)


@pytest.mark.slow
def test_samples_seen_again_and_at_several_times_wait_for_nothing():
    bindings = ("fake_steps = 2", "steps_per_sample = 2", "times_per_sample = 2")
    trainer = built(load(["gin/smoke.gin"], [f"Distillation.{text}" for text in bindings]))
    with started(trainer) as (cuda, _):
        trainer.method.step(0)
        with cuda.watched() as watch:
            trainer.method.step(1)
        watch.check()


@pytest.mark.parametrize("recipe", CASES)
def test_a_teacher(recipe):
    """Its regression, in bfloat16."""
    config = configured(recipe).rooted("teacher")
    if config is None:
        pytest.skip("the recipe trains no teacher")
    trainer = built(config)
    with started(trainer) as (cuda, _), cuda.watched() as watch:
        trainer.method.step(0)
    check(watch, recipe, 1)
    check_precisions(watch, bfloat16=True)


def check_sampling(cuda: FakeCuda, method: Method, context: Context, recipe: str) -> None:
    """Student and teacher, the latter in few steps; and a batch of an evaluation, whose images go to the host."""
    method.sampler.steps = 2
    size = 4
    for role, generate in method.generators().items():
        x0 = torch.zeros(size, *context.shape, device=CUDA)
        condition = empty_condition(context.data.conditions, size, CUDA)
        with cuda.watched() as watch:
            generate(x0, condition, lambda k, x0=x0: torch.randn_like(x0))
        try:
            watch.check()
        except HostWork as error:
            raise HostWork(f"{recipe}, the {role}: {error}") from None

    inputs = (GaussianInputs if method.coupling.gaussian_source else ImageInputs)(context.data, 0)
    with cuda.watched() as watch:
        (images,) = batches(method.generators()["student"], inputs, count=size, batch=size, device=CUDA)
    assert images.device.type == "cpu"
    given = 1 + len(context.data.conditions) + sum("fresh" in wait for wait in watch.waits)
    kinds = [wait.split(" in ")[0] for wait in watch.waits]
    assert kinds.count("a copy to the device") <= given
    assert (kinds.count("a value is read"), kinds.count("a copy to the host")) == (1, 1), watch.waits


def test_features_take_one_copy_each_way():
    classifier = SmallClassifier(width=8)
    classifier._build((1, 8, 8), 10)
    with FakeCuda() as cuda:
        classifier.to(CUDA)
        with cuda.watched() as watch:
            features = classifier(torch.zeros(4, 1, 8, 8, dtype=torch.uint8)).cpu()
    assert features.shape == (4, 64)
    assert [wait.split(" in ")[0] for wait in watch.waits] == ["a copy to the device", "a copy to the host"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "shards", "groups"), [(2, None, {"allgather", "reduce_scatter"}), (4, 2, {"allreduce"})]
)
def test_sharded_networks(processes, shards, groups):
    """Of two processes, or of four in two groups: weights and gradients travel between the devices, never through the
    host."""
    bindings = ["Distillation.fake_steps = 1", "Trainer.parallelism = @FSDP()", "Trainer.lanes = 4"]
    trainer = built(load(["gin/smoke.gin"], [*bindings, f"FSDP.shards = {shards}"]))
    with started(trainer, World(CUDA, 0, processes)) as (cuda, _), cuda.watched() as watch:
        trainer.method.step(0)
    watch.check()
    seen = " ".join({name for name, *_ in watch.trace if name.startswith("c10d")})
    assert all(group in seen for group in groups), seen


@pytest.mark.slow
def test_a_step_is_the_same_operations_every_time():
    """Of the same shapes in the same order, once the first step has kept what it keeps: what a CUDA graph needs."""
    trainer = built(configured("smoke.gin"))
    traces = []
    with started(trainer) as (cuda, _):
        trainer.method.step(0)
        for index in (1, 2):
            with cuda.watched() as watch:
                trainer.method.step(index)
            traces.append(watch.trace)
    assert traces[0] == traces[1]


@pytest.mark.parametrize("recipe", CASES)
def test_blocks_have_no_graph_breaks(recipe, monkeypatch):
    """Both kinds of updates through compiled blocks, as CUDA has them, on shapes alone. A break is an error."""
    compiler = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda run, mode, **how: compiler(run, backend="eager", fullgraph=True, **how)
    )
    torch._dynamo.reset()
    trainer = built(configured(recipe))
    method, context = trainer.method, trainer.context(World(torch.device("meta")))
    networks = list(method.networks().values())
    Compute(compile="default", channels_last=True).prepare(networks, CUDA)
    for network in networks:
        network.to("meta")
    graphs = torch._dynamo.utils.counters["stats"]
    for _, loss in method.passes(context).values():
        before = graphs["unique_graphs"]
        loss().backward()
        assert graphs["unique_graphs"] > before
