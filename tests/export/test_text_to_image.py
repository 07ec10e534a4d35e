"""Students of text-to-image teachers, exported as pipelines and opened by diffusers alone."""

import json

import pytest
import torch

from realuid.conditions import Condition
from realuid.distillation.students import FewSteps, OneStep
from realuid.export import export, load, text_to_image, to_exported
from realuid.models.matching import MatchingModel
from realuid.paths.couplings import IndependentCoupling
from realuid.paths.preconditioning import UnitVariancePreconditioning
from realuid.pretrained import components, read
from realuid.utils.errors import RunError

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")
save_file = pytest.importorskip("safetensors.torch").save_file

from realuid.pretrained.pipelines.decoder import PipelineDecoder  # noqa: E402
from realuid.pretrained.pipelines.encoder import PipelineEncoder  # noqa: E402
from tests.pretrained.pipelines import originals  # noqa: E402
from tests.pretrained.pipelines.cases import CASES  # noqa: E402
from tests.pretrained.pipelines.conftest import saved  # noqa: E402, F401

PROMPTS = ["a red cube", "two dogs, one of them asleep"]


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("REALUID_CACHE", str(tmp_path / "cache"))


def student_of(foreign, *, time=None, preconditioning=None):
    """A one-step student that has left its teacher: some steps of an optimiser, on no loss in particular."""
    model = MatchingModel(
        network=foreign.build(),
        interpolant=components.path(foreign.path).build(),
        coupling=IndependentCoupling(),
        target=components.TARGETS[foreign.target](),
        preconditioning=preconditioning or components.preconditioning(foreign.preconditioning, foreign.target).build(),
    )
    student = OneStep(model=model, time=time)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
    network = student.model.network
    told = {f.name: torch.ones((2, *f.sizes), dtype=f.torch_dtype) for f in network.conditions}
    for seed in range(2):
        x0 = torch.randn(2, *network.shape, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        (student(x0, Condition(told), None) ** 2).mean().backward()
        optimizer.step()
    return student.eval()


def exported(student):
    shape, fields = student.model.network.shape, student.model.network.conditions
    return to_exported(student.model, student, shape=shape, conditions=fields)


def foreign_of(folder, case):
    return read(folder, known={"tokens": case.tokens, "guidance": case.embedded, "shape": case.shape})


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_exported_pipeline_gives_the_students_pictures(saved, tmp_path, name):  # noqa: F811
    _, folder = saved(name)
    case = CASES[name]
    foreign = foreign_of(folder, case)
    student = student_of(foreign)
    text_to_image.save(tmp_path / "out", exported(student), folder)
    opened = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out", trust_remote_code=False)
    opened.set_progress_bar_config(disable=True)
    assert type(opened).__name__ == foreign.arguments["pipeline"]
    arguments = {name: foreign.arguments[name] for name in ("pipeline", "config", "tokens")}
    condition = PipelineEncoder(folder=folder, dtype="float32", **arguments)(PROMPTS)
    x0 = torch.randn(2, *case.shape, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        latents = student(x0, condition, None)
        pictures = PipelineDecoder(folder=folder, pipeline=foreign.arguments["pipeline"])(latents)
    theirs = case.run(opened, x0, PROMPTS, steps=1, scale=None)
    size = max(1.0, float(latents.abs().max()))
    torch.testing.assert_close(theirs / size, latents / size, atol=1e-5, rtol=0)
    shown = case.run(opened, x0, PROMPTS, steps=1, scale=None, output="pt")
    torch.testing.assert_close(shown, (pictures / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "times", "redraw"),
    [
        ("StableDiffusion3Pipeline", (1.0, 0.5), 1.0),
        ("SanaPipeline", (1.0, 0.8, 0.6, 0.4), 1.0),
        ("FluxPipeline", (1.0, 0.7, 0.4), 0.0),
        ("QwenImagePipeline", (1.0, 0.25), 0.0),
    ],
)
def test_a_pipeline_in_the_students_own_number_of_steps(saved, tmp_path, monkeypatch, name, times, redraw):  # noqa: F811
    _, folder = saved(name)
    case = CASES[name]
    foreign = foreign_of(folder, case)
    student = FewSteps(model=student_of(foreign).model, times=times, redraw=redraw).eval()
    form = exported(student)
    text_to_image.save(tmp_path / "out", form, folder)
    assert f"num_inference_steps={len(times)}," in text_to_image.call(form)
    opened = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out", trust_remote_code=False)
    opened.set_progress_bar_config(disable=True)
    arguments = {name: foreign.arguments[name] for name in ("pipeline", "config", "tokens")}
    condition = PipelineEncoder(folder=folder, dtype="float32", **arguments)(PROMPTS)
    x0, *fresh = torch.randn(1 + len(times), 2, *case.shape, generator=torch.Generator().manual_seed(7))
    drawn = iter(fresh)
    monkeypatch.setattr(
        diffusers.schedulers.scheduling_flow_match_euler_discrete, "randn_tensor", lambda *a, **k: next(drawn)
    )
    with torch.no_grad():
        latents = student(x0, condition, fresh.__getitem__)
    theirs = case.run(opened, x0, PROMPTS, steps=len(times), scale=None)
    size = max(1.0, float(latents.abs().max()))
    torch.testing.assert_close(theirs / size, latents / size, atol=2e-5, rtol=0)


def test_an_earlier_time_and_the_network_itself_is_left_as_it_was(saved, tmp_path):  # noqa: F811
    case = CASES["StableDiffusionPipeline"]
    _, folder = saved("StableDiffusionPipeline")
    student = student_of(foreign_of(folder, case), time=700.0)
    before = {name: value.clone() for name, value in student.model.network.state_dict().items()}
    form = exported(student)
    text_to_image.save(tmp_path / "out", form, folder)
    assert all(torch.equal(value, before[name]) for name, value in form.network.state_dict().items())
    scheduler = json.loads((tmp_path / "out/scheduler/scheduler_config.json").read_text())
    assert scheduler["num_train_timesteps"] == 701
    opened = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out", trust_remote_code=False)
    x0 = torch.randn(1, *case.shape, generator=torch.Generator().manual_seed(8))
    text, _ = opened.encode_prompt(PROMPTS[:1], "cpu", 1, False)
    with torch.no_grad():
        wanted = student(x0, Condition({"text": text}), None)
    theirs = case.run(opened, x0, PROMPTS[:1], steps=1, scale=None)
    torch.testing.assert_close(theirs, wanted, atol=1e-5 * max(1.0, float(wanted.abs().max())), rtol=0)


def test_what_no_scheduler_takes_is_refused_in_one_line(saved, tmp_path):  # noqa: F811
    case = CASES["FluxPipeline"]
    _, folder = saved("FluxPipeline")
    foreign = foreign_of(folder, case)
    form = exported(student_of(foreign, time=0.98765))
    with pytest.raises(RunError, match=r"whole numbers, and the student's is 987.65: bind OneStep.time, or the first"):
        text_to_image.save(tmp_path / "a", form, folder)
    form = exported(student_of(foreign, preconditioning=UnitVariancePreconditioning()))
    with pytest.raises(RunError, match=r"^a FluxPipeline takes flow-matching steps alone"):
        text_to_image.save(tmp_path / "b", form, folder)
    few = FewSteps(model=student_of(foreign).model, times=(1.0, 0.9, 0.4))
    with pytest.raises(RunError, match=r"equal steps from 1 to the last: bind FewSteps.times = \(1, 0.7, 0.4\)$"):
        text_to_image.save(tmp_path / "e", exported(few), folder)
    few = FewSteps(model=student_of(foreign).model, times=(1.0, 0.4), redraw=0.5)
    with pytest.raises(RunError, match=r"of several steps only those of flow matching from t = 1"):
        text_to_image.save(tmp_path / "f", exported(few), folder)
    with pytest.raises(RunError, match=r"this run's teacher has no checkpoint$"):
        text_to_image.save(tmp_path / "c", form, None)
    with pytest.raises(RunError, match=r"is a StableDiffusionPipeline, the student's network is of a FluxPipeline$"):
        text_to_image.save(tmp_path / "d", form, saved("StableDiffusionPipeline")[1])


def test_the_whole_export_opens_here_as_well(saved, tmp_path):  # noqa: F811
    case = CASES["PixArtSigmaPipeline"]
    _, folder = saved("PixArtSigmaPipeline")
    foreign = foreign_of(folder, case)
    form = exported(student_of(foreign))
    facts = {"path": "DDPMInterpolant"}
    files = export.write(
        tmp_path / "out",
        form,
        name="small",
        network="PipelineNetwork",
        arguments=foreign.arguments,
        facts=facts,
        formats=["diffusers"],
        base=folder,
    )
    assert "diffusers" in files
    card = (tmp_path / "out" / "README.md").read_text()
    assert "num_inference_steps=1, guidance_scale=1.0, height=64, width=96" in card
    opened = load(str(tmp_path / "out"))
    condition = Condition({f.name: torch.ones((2, *f.sizes), dtype=f.torch_dtype) for f in form.conditions})
    x0 = torch.randn(2, *case.shape)
    torch.testing.assert_close(opened(x0, condition), form(x0, condition))


@pytest.mark.parametrize("name", ["StableDiffusion3Pipeline", "StableDiffusionPipeline"])
def test_the_card_of_adapters_gives_the_pipeline_the_network_of_its_file(saved, tmp_path, name):  # noqa: F811
    """What the card says is run: it is the teacher's network, from a file whose averages it was."""
    pipeline, folder = saved(name)
    foreign = foreign_of(folder, CASES[name])
    form, place = exported(student_of(foreign)), foreign.build().family.place
    network = getattr(pipeline, place)
    state = (
        originals.sd3(network.state_dict())
        if place == "transformer"
        else originals.ldm_unet(network.state_dict(), 2, 1)
    )
    content = {originals.PREFIX + key: value.contiguous() for key, value in state.items()}
    if place == "unet":
        averages = {key: value.contiguous() for key, value in originals.averaged(state).items()}
        content = {key: value + 1 for key, value in content.items()} | averages
    file = tmp_path / "x.safetensors"
    save_file(content, file)
    facts = {"teacher": str(file)}
    written = {"name": "small", "network": "PipelineNetwork", "arguments": foreign.arguments, "facts": facts}
    scheduler = text_to_image.save_scheduler(tmp_path / "out", form)
    export.write(tmp_path / "out", form, **written, base=folder, weights=str(file), adapters=[scheduler])
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{place}=network)" in card
    assert f"| teacher | {file} |" in card
    (line,) = (line for line in card.splitlines() if line.startswith("network = "))
    made = {}
    exec(f"from diffusers import {line.split()[2].partition('.')[0]}\n{line}", made)
    own = network.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in made["network"].state_dict().items())
    hub = {"base": "hf://owner/base", "weights": "hf://owner/name@v1/x.safetensors"}
    export.write(tmp_path / "out", form, **written, **hub, adapters=[scheduler])
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base_model: owner/name\n" in card
    assert 'from_single_file("https://huggingface.co/owner/name/blob/v1/x.safetensors", config="owner/base", ' in card


def test_nothing_but_the_pipelines_own_files_is_given_away(tmp_path):
    """A link to the hub's blobs is followed; one to a file of this machine is refused; code is left behind."""
    home = tmp_path / "repository"
    source = home / "snapshots" / "1"
    (source / "tokenizer").mkdir(parents=True)
    (home / "blobs").mkdir()
    (home / "blobs" / "a").write_text("{}")
    (source / "tokenizer" / "vocab.json").symlink_to(home / "blobs" / "a")
    (source / "tokenizer" / "evil.py").write_text("raise SystemExit\n")
    text_to_image._copy(source, tmp_path / "out", ["tokenizer"])
    copied = tmp_path / "out" / "tokenizer"
    assert [path.name for path in copied.iterdir()] == ["vocab.json"]
    assert not (copied / "vocab.json").is_symlink()
    (tmp_path / "key").write_text("secret")
    (source / "tokenizer" / "merges.txt").symlink_to(tmp_path / "key")
    with pytest.raises(RunError, match="symbolic link out of the pipeline's folder"):
        text_to_image._copy(source, tmp_path / "other", ["tokenizer"])
    assert not any(text_to_image.PART.fullmatch(part) for part in ("../secret", "/etc", "a/b", "_class_name", ""))
