"""CLIP's scores and the spread within a prompt, against transformers itself and sums written out."""

import pytest
import torch
from PIL import Image

from realuid.conditions import Condition, Field
from realuid.evaluation.evaluator import Evaluator
from realuid.evaluation.inputs import GaussianInputs, repeated
from realuid.evaluation.prompts import PromptScore, PromptSpread, coded, prompts_of
from realuid.utils.errors import CheckpointError, DataError
from tests.evaluation.stand_ins import Given

transformers = pytest.importorskip("transformers")

from realuid.evaluation.clip import CLIP  # noqa: E402
from tests.pretrained.pipelines.small import clip_tokenizer  # noqa: E402

PROMPTS = ["a red cube", "two dogs", "a very long one " * 20]
SIDE = 32


class Captioned(Given):
    """Images with captions and an embedding of each."""

    @property
    def conditions(self):
        return (Field("text", (2,)),)

    def captions(self, count):
        return [PROMPTS[i % 3] for i in range(count)]

    def condition_examples(self, start, count):
        return Condition({"text": torch.arange(start, start + count)[:, None] % 3 * torch.ones(2)})


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
        text = shape | {"vocab_size": 200, "bos_token_id": 188, "eos_token_id": 189, "pad_token_id": 189}
        config = transformers.CLIPConfig(
            text_config=text, vision_config=shape | {"image_size": SIDE, "patch_size": 8}, projection_dim=16
        )
        transformers.CLIPModel(config).save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    transformers.CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    ).save_pretrained(folder)
    return str(folder)


def pictures(count, height=SIDE, width=SIDE):
    generator = torch.Generator().manual_seed(1)
    rough = torch.randint(0, 256, (count, 3, 8, 8), generator=generator).float()
    return torch.nn.functional.interpolate(rough, (height, width), mode="bilinear").round().to(torch.uint8)


def theirs(folder, images, prompts):
    """100 times the cosine, by transformers' own processor and model."""
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    processor = transformers.CLIPImageProcessor.from_pretrained(folder)
    seen = processor([Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images], return_tensors="pt")
    told = clip_tokenizer()(prompts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        answer = model(**told, **seen)
    return 100 * (answer.image_embeds * answer.text_embeds).sum(dim=1)


@pytest.mark.parametrize(("sides", "tolerance"), [((SIDE, SIDE), 1e-3), ((64, 64), 0.3), ((48, 80), 0.5)])
def test_scores_are_transformers_own(folder, sides, tolerance):
    """Their pictures are resized in whole numbers; ours are not."""
    images = pictures(3, *sides)
    network = CLIP(folder=folder)
    network.prepare(Given(images, torch.zeros(3, dtype=torch.int64)), "cpu")
    found, wanted = network.scores(network(images), PROMPTS), theirs(folder, images, PROMPTS)
    assert wanted.std() > 0.5
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=0)
    assert network.num_features == 16


def test_an_evaluation_of_prompts(folder, tmp_path):
    """Several images of each prompt, whose scores and distances are summed up by hand."""
    data = Captioned(pictures(9), torch.zeros(9, dtype=torch.int64))
    network = CLIP(folder=folder, scale=1.0)
    evaluator = Evaluator(
        features=network,
        metrics=[PromptScore(), PromptSpread()],
        count=8,
        images_per_prompt=3,
        batch=5,
        cache=str(tmp_path),
    )
    evaluator.check(data)
    evaluator.prepare(data, "cpu")
    inputs = GaussianInputs(data, 0)
    asked = []

    def sample(x0, condition, noise):
        asked.extend(condition["text"][:, 0].int().tolist())
        return (x0 * 0.3 + condition["text"][:, :1, None, None] / 3).clamp(-1, 1)

    samples = evaluator.generate(sample, [inputs], evaluator.metrics)
    values = evaluator.measure(evaluator.metrics, samples)
    assert asked == [0, 0, 0, 1, 1, 1, 2, 2]
    told = [PROMPTS[number] for number in asked]
    made = ((sample(inputs.x0(0, 8), Condition({"text": torch.tensor(asked)[:, None]}), None) + 1) * 127.5).round()
    features = network(made.to(torch.uint8))
    assert values["prompt_score"] == pytest.approx(
        float(theirs(folder, made.to(torch.uint8), told).mean()) / 100, abs=2e-4
    )
    pairs = {0: [(0, 1), (0, 2), (1, 2)], 1: [(3, 4), (3, 5), (4, 5)], 2: [(6, 7)]}
    means = [sum(float((features[i] - features[j]).norm()) for i, j in of) / len(of) for of in pairs.values()]
    assert values["prompt_spread"] == pytest.approx(sum(means) / 3, rel=1e-3)
    provenance = evaluator.provenance()
    assert provenance["images_per_prompt"] == 3
    assert provenance["scale"] == 1.0
    assert provenance["tokenizer"]


def test_a_share_of_repeated_inputs_is_that_of_all():
    data = Captioned(pictures(3), torch.zeros(3, dtype=torch.int64))
    inputs = repeated(GaussianInputs(data, 0), 2)
    whole, prompts = inputs.condition(0, 10)["text"], inputs.prompts(0, 10)
    assert torch.equal(inputs.condition(3, 4)["text"], whole[3:7])
    assert inputs.prompts(3, 4) == prompts[3:7]
    assert prompts[:6] == [PROMPTS[0], PROMPTS[0], PROMPTS[1], PROMPTS[1], PROMPTS[2], PROMPTS[2]]
    assert prompts_of(coded(["", "é" * 3, "x" * 5000]))[:2] == ["", "ééé"]


def test_refusals(folder, tmp_path, digits, classifier):
    with pytest.raises(ValueError, match="PromptScore reads scores, which small-classifier does not give"):
        Evaluator(features=classifier, metrics=[PromptScore()])
    evaluator = Evaluator(features=CLIP(folder=folder), metrics=[PromptScore()], cache=str(tmp_path))
    with pytest.raises(DataError, match="PromptScore reads prompt of the condition, which the data set does not give"):
        evaluator.check(digits)
    with pytest.raises(CheckpointError, match=r"CLIP.folder: there is no .*config.json"):
        CLIP(folder=str(tmp_path / "none")).check(digits)
    metric = PromptSpread()
    metric.update({"features": torch.zeros(3, 2), "prompt": coded(PROMPTS)}, torch.arange(3), real=False)
    with pytest.raises(DataError, match=r"bind Evaluator\.images_per_prompt"):
        metric.compute()
