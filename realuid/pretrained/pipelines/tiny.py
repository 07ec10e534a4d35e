"""A pipeline that is small enough to be made and distilled on a CPU, of the classes that FLUX.1 has.

Its text encoders and its denoising network are made from configurations, with random weights; its autoencoder is
trained on the pictures that it is for. The words of the captions are tokens of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realuid.utils.errors import RunError

__all__ = ["NETWORK", "save_tiny"]

NETWORK: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 3,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 32,
    "axes_dims_rope": [4, 6, 6],
    "guidance_embeds": False,
}
"""Arguments of the denoising network."""
WIDTH = 32
"""Of a token."""
AUTOENCODER: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "mid_block_add_attention": False,
}
BATCH, RATE, KL = 32, 4e-3, 1e-4
CHARACTERS = [chr(code) for code in range(33, 127)]


def save_tiny(folder: Path, pictures: Tensor, words: Sequence[str], *, steps: int, seed: int = 0) -> float:
    """Makes a `FluxPipeline` and saves it as diffusers does.

    Args:
        folder: where it goes.
        pictures: that its autoencoder is trained on, `[N, 3, H, W]` in [-1, 1]; the sides are even.
        words: that are one token each; others are spelt letter by letter.
        steps: of that training.
        seed: of all weights.

    Returns:
        Root mean square of the difference between the pictures and what the autoencoder makes of them.

    Raises:
        RunError: if a package is missing.
    """
    try:
        import diffusers
        import transformers
    except ImportError:
        raise RunError("a pipeline needs `pip install realuid[pipelines]`") from None
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        autoencoder, error = _trained(diffusers.AutoencoderKL(**AUTOENCODER), pictures, steps)
        pipeline = diffusers.FluxPipeline(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0),
            vae=autoencoder,
            text_encoder=_clip(transformers),
            tokenizer=_clip_tokenizer(transformers),
            text_encoder_2=_t5(transformers, words),
            tokenizer_2=_t5_tokenizer(transformers, words),
            transformer=diffusers.FluxTransformer2DModel(**NETWORK),
        )
    pipeline.save_pretrained(str(folder))
    return error


def _trained(model: Any, pictures: Tensor, steps: int) -> tuple[Any, float]:
    """The autoencoder, trained by squared error and a little of the divergence from a normal distribution, with the
    statistics of its latents in its configuration; and its error."""
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(steps):
        batch = pictures[torch.randint(len(pictures), (BATCH,))]
        latents = model.encode(batch).latent_dist
        loss = (model.decode(latents.sample()).sample - batch).square().mean() + KL * latents.kl().mean() / batch[
            0
        ].numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval().requires_grad_(False)
    latents = torch.cat([model.encode(part).latent_dist.sample() for part in pictures.split(BATCH)])
    made = torch.cat([model.decode(part).sample for part in latents.split(BATCH)])
    model.register_to_config(scaling_factor=float(1 / latents.std()), shift_factor=float(latents.mean()))
    return model, float((made - pictures).square().mean().sqrt())


def _clip(transformers: Any) -> Any:
    config = transformers.CLIPTextConfig(
        vocab_size=2 * len(CHARACTERS) + 2,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=WIDTH,
        bos_token_id=2 * len(CHARACTERS),
        eos_token_id=2 * len(CHARACTERS) + 1,
        pad_token_id=2 * len(CHARACTERS) + 1,
    )
    return transformers.CLIPTextModel(config).eval()


def _clip_tokenizer(transformers: Any) -> Any:
    letters = [*CHARACTERS, *(f"{char}</w>" for char in CHARACTERS), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(letters)}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def _t5(transformers: Any, words: Sequence[str]) -> Any:
    size = 4 + len(CHARACTERS) + len(words)
    config = transformers.T5Config(vocab_size=size, d_model=WIDTH, d_kv=8, d_ff=WIDTH, num_layers=2, num_heads=4)
    return transformers.T5EncoderModel(config).eval()


def _t5_tokenizer(transformers: Any, words: Sequence[str]) -> Any:
    """Words begin with SentencePiece's mark of a space."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -4.0)]
    pieces += [(f"\u2581{word}", -1.0) for word in words] + [(char, -6.0) for char in CHARACTERS]
    return transformers.T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)
