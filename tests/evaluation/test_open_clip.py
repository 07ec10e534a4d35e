"""CLIP from open_clip's files, against a forward pass of its own."""

import json

import pytest
import torch

from realuid.config.registry import kinds, register_components
from realuid.utils.errors import CheckpointError
from tests.evaluation.open_clip_forward import drawn, encode_image, encode_text
from tests.evaluation.stand_ins import Given
from tests.evaluation.test_prompts import pictures

pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")

from realuid.evaluation.clip import DEVIATION, MEAN  # noqa: E402
from realuid.evaluation.open_clip import OpenCLIP  # noqa: E402
from realuid.evaluation.open_clip_names import to_transformers  # noqa: E402
from tests.pretrained.pipelines.small import clip_tokenizer  # noqa: E402

PROMPTS = ["a red cube", "two dogs", "a very long one " * 20, ""]
SIDE = 24


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    clip_tokenizer().save_pretrained(folder)
    return str(folder)


def ids_of(prompts):
    """As open_clip's own tokeniser gives them: zeros behind the end of the text."""
    told = clip_tokenizer()(prompts, truncation=True, max_length=77)["input_ids"]
    return torch.tensor([row + [0] * (77 - len(row)) for row in told])


def prepared(path, folder, **arguments):
    network = OpenCLIP(weights=str(path), folder=folder, **arguments)
    network.prepare(Given(pictures(2, SIDE, SIDE), torch.zeros(2, dtype=torch.int64)), "cpu")
    return network


def plain(state, path):
    safetensors.save_file(state, path)


def kept(state, path):
    """As a training of several processes keeps it, and HPSv2 is published."""
    torch.save({"epoch": 1, "state_dict": {f"module.{name}": value for name, value in state.items()}}, path)


@pytest.mark.parametrize(
    ("write", "activation"), [(plain, "gelu"), (kept, "gelu"), (plain, "quick_gelu")], ids=["plain", "kept", "quick"]
)
def test_embeddings_are_open_clip_s(folder, tmp_path, write, activation):
    state = drawn()
    write(state, tmp_path / "weights")
    network = prepared(tmp_path / "weights", folder, activation=activation)
    images, quick = pictures(4, SIDE, SIDE), activation == "quick_gelu"
    shown = (images / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
    seen = encode_image(state, shown, heads=2, quick=quick)
    read = encode_text(state, ids_of(PROMPTS), heads=1, quick=quick)
    features = network(images)
    torch.testing.assert_close(features, seen, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.cat(list(network._read(PROMPTS))), read, atol=1e-5, rtol=1e-5)
    cosines = 100 * torch.nn.functional.cosine_similarity(seen, read)
    torch.testing.assert_close(network.scores(features, PROMPTS), cosines, atol=1e-3, rtol=0)
    assert cosines.std() > 1
    assert network.num_features == 24
    provenance = network.provenance()
    assert provenance["activation"] == activation
    assert provenance["tokenizer"]


@pytest.mark.parametrize(
    ("vision", "text", "heads"), [(1280, 1024, (16, 16)), (1664, 1280, (16, 20)), (768, 512, (12, 8))]
)
def test_heads_follow_from_the_widths(vision, text, heads):
    """Of ViT-H-14, ViT-bigG-14 and ViT-B-32, as open_clip's own configurations have them."""
    config, _ = to_transformers(drawn(vision=vision, text=text, layers=1), "x")
    found = tuple(config[f"{name}_config"]["num_attention_heads"] for name in ("vision", "text"))
    assert found == heads


def test_a_gin_file_can_bind_it():
    register_components()
    assert OpenCLIP in [kind.target for kind in kinds()]


def without(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


REFUSED = {
    "a ResNet": (
        lambda state: without("visual.conv1.weight")(state) | {"visual.layer1.0.conv1.weight": torch.zeros(3)},
        r"has visual.layer1.0.conv1.weight, which a CLIP of two transformers has not",
    ),
    "CoCa": (lambda state: state | {"text_decoder.x": torch.zeros(3)}, r"has text_decoder.x, which a CLIP"),
    "a tower missing": (without("visual.proj"), r"lacks visual.proj: it is no CLIP of two transformers"),
    "a weight missing": (
        without("transformer.resblocks.1.ln_2.bias"),
        r"layers.1.layer_norm2.bias is missing or different$",
    ),
    "no square": (
        lambda state: state | {"visual.positional_embedding": torch.zeros(9, 128)},
        r"its pictures have 8 patches, which are no square$",
    ),
    "other tokens": (
        lambda state: state | {"token_embedding.weight": torch.zeros(191, 64)},
        r"knows 191 tokens, the tokeniser in .* 190$",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_clip_is_one_line(folder, tmp_path, case):
    change, message = REFUSED[case]
    plain(change(drawn()), tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=message) as error:
        prepared(tmp_path / "x.safetensors", folder)
    assert "\n" not in str(error.value)


def test_files_that_hold_something_else(folder, tmp_path):
    torch.save({"state_dict": 3}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"holds no weights of open_clip"):
        prepared(tmp_path / "x.pt", folder)
    (tmp_path / "y.safetensors").write_bytes(b"\x10" + b"\0" * 7 + b"{" + b"\0" * 20)
    with pytest.raises(CheckpointError, match=r"y.safetensors cannot be read"):
        prepared(tmp_path / "y.safetensors", folder)
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*none.pt"):
        prepared(tmp_path / "none.pt", folder)
    plain(drawn(), tmp_path / "z.safetensors")
    with pytest.raises(CheckpointError, match=r"OpenCLIP.folder: there is no .*tokenizer.json, nor vocab.json$"):
        prepared(tmp_path / "z.safetensors", str(tmp_path))


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            {"model_cfg": {"quick_gelu": True}},
            r"its activation is quick_gelu: bind OpenCLIP.activation = 'quick_gelu'$",
        ),
        ({"model_cfg": {"vision_cfg": {"pool_type": "avg"}}}, r"its vision_cfg has pool_type: it is no CLIP"),
        ({"preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}}, r"its images have the mean \[0.5, 0.5, 0.5\], CLIP's"),
    ],
)
def test_open_clip_s_configuration_is_compared(folder, tmp_path, told, message):
    plain(drawn(), tmp_path / "weights.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match=message):
        prepared(tmp_path / "weights.safetensors", folder)
    right = {
        "model_cfg": {"vision_cfg": {"width": 128}},
        "preprocess_cfg": {"mean": list(MEAN), "std": list(DEVIATION)},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(right))
    prepared(tmp_path / "weights.safetensors", folder)
