"""Adapters that diffusers opens itself, and the student merged."""

import copy

import pytest
import torch
from torch import nn

from realuid.conditions import Condition
from realuid.export import adapters
from realuid.networks.base import Network
from realuid.networks.lora import LoRA, own_parameters
from realuid.networks.mlp import MLP
from realuid.utils.errors import RunError

diffusers = pytest.importorskip("diffusers")


class Transformer(Network):
    """A small transformer of Stable Diffusion 3 that is always told the same."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=16,
            caption_projection_dim=16,
            pooled_projection_dim=8,
            out_channels=4,
            pos_embed_max_size=8,
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.2)

    def forward(self, x, time, condition):
        return answer(self.model, x, time)


def answer(model: nn.Module, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    text, pooled = torch.ones(len(x), 3, 16), torch.ones(len(x), 8)
    return model(x, text, pooled, 1000 * time, return_dict=False)[0]


def adapted(base: Network, rank: int, seed: int) -> LoRA:
    network = LoRA(rank=rank, alpha=6.0, targets=("to_q", "to_v", "proj_out"))
    network.adapt(base)
    torch.manual_seed(seed)
    for parameter in own_parameters(network):
        nn.init.normal_(parameter, std=0.2)
    return network


def test_a_pipeline_opens_the_file_and_gives_the_students_answers(tmp_path):
    """Also beside a second one, and switched back to the first."""
    base = Transformer()
    one, other = adapted(base, 2, 1), adapted(base, 3, 2)
    assert adapters.save(tmp_path / "one", one) == "pytorch_lora_weights.safetensors"
    adapters.save(tmp_path / "other", other)
    pipeline = diffusers.StableDiffusion3Pipeline(
        transformer=copy.deepcopy(base.model),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        **dict.fromkeys(("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")),
        **dict.fromkeys(("text_encoder_3", "tokenizer_3")),
    )
    x, t = torch.randn(2, 4, 8, 8), torch.rand(2)
    plain, expected = answer(pipeline.transformer, x, t), one(x, t, Condition())
    assert not torch.allclose(plain, expected, atol=1e-2)
    for name in ("one", "other"):
        pipeline.load_lora_weights(str(tmp_path / name), adapter_name=name)
    for name, network in (("other", other), ("one", one)):
        pipeline.set_adapters([name])
        theirs = answer(pipeline.transformer, x, t)
        torch.testing.assert_close(theirs, network(x, t, Condition()), rtol=1e-5, atol=1e-5)
    pipeline.set_adapters(["one", "other"])
    assert not torch.allclose(answer(pipeline.transformer, x, t), expected, atol=1e-2)
    torch.testing.assert_close(one.merged()(x, t, Condition()), expected, rtol=1e-4, atol=1e-4)


def test_refusals(tmp_path):
    with pytest.raises(RunError, match=r"bind student/MatchingModel.network = @LoRA"):
        adapters.save(tmp_path, MLP(shape=(2,)))
    network = LoRA(rank=1)
    network.adapt(MLP(shape=(2,)))
    with pytest.raises(RunError, match="no pipeline for adapters of a MLP"):
        adapters.save(tmp_path, network)
