"""open_clip's CLIP written down on its own: from a state dict by its names to embeddings, without any module."""

import torch
from torch.nn import functional as F


def drawn(*, vision=128, text=64, embedding=24, layers=2, side=24, patch=8, words=190, length=77, seed=0):
    """A state dict of a small model, all of whose weights are drawn."""
    generator = torch.Generator().manual_seed(seed)

    def weight(*shape):
        return torch.randn(*shape, generator=generator) / max(1.0, shape[-1] ** 0.5)

    def norm(name, width):
        return {f"{name}.weight": 1 + 0.2 * weight(width), f"{name}.bias": weight(width)}

    def tower(prefix, width):
        made = {}
        for number in range(layers):
            block = f"{prefix}transformer.resblocks.{number}"
            made |= norm(f"{block}.ln_1", width) | norm(f"{block}.ln_2", width)
            for name, rows, columns in (
                ("attn.in_proj_", 3 * width, width),
                ("attn.out_proj.", width, width),
                ("mlp.c_fc.", 4 * width, width),
                ("mlp.c_proj.", width, 4 * width),
            ):
                made |= {f"{block}.{name}weight": 2 * weight(rows, columns), f"{block}.{name}bias": weight(rows)}
        return made

    return {
        "positional_embedding": weight(length, text),
        "text_projection": weight(text, embedding),
        "logit_scale": torch.tensor(4.6),
        "visual.class_embedding": weight(vision),
        "visual.positional_embedding": weight((side // patch) ** 2 + 1, vision),
        "visual.proj": weight(vision, embedding),
        "visual.conv1.weight": weight(vision, 3, patch, patch),
        **norm("visual.ln_pre", vision),
        **tower("visual.", vision),
        **norm("visual.ln_post", vision),
        **tower("", text),
        "token_embedding.weight": weight(words, text) * 4,
        **norm("ln_final", text),
    }


def _norm(state, name, x):
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def _blocks(state, prefix, x, heads, quick, mask=None):
    layers = len({name.split(".resblocks.")[1].split(".")[0] for name in state if name.startswith(f"{prefix}transf")})
    for number in range(layers):
        at = f"{prefix}transformer.resblocks.{number}"
        y = _norm(state, f"{at}.ln_1", x)
        q, k, v = (y @ state[f"{at}.attn.in_proj_weight"].T + state[f"{at}.attn.in_proj_bias"]).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        scores = scores if mask is None else scores + mask
        y = (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)
        x = x + y @ state[f"{at}.attn.out_proj.weight"].T + state[f"{at}.attn.out_proj.bias"]
        y = _norm(state, f"{at}.ln_2", x) @ state[f"{at}.mlp.c_fc.weight"].T + state[f"{at}.mlp.c_fc.bias"]
        y = y * torch.sigmoid(1.702 * y) if quick else 0.5 * y * (1 + torch.erf(y / 2**0.5))
        x = x + y @ state[f"{at}.mlp.c_proj.weight"].T + state[f"{at}.mlp.c_proj.bias"]
    return x


def encode_image(state, images, *, heads, quick=False):
    """Of normalised images `[B, 3, H, W]`, not normalised themselves."""
    conv = state["visual.conv1.weight"]
    x = F.conv2d(images, conv, stride=conv.shape[-1]).flatten(2).transpose(1, 2)
    first = state["visual.class_embedding"].expand(len(x), 1, -1)
    x = torch.cat([first, x], dim=1) + state["visual.positional_embedding"]
    x = _blocks(state, "visual.", _norm(state, "visual.ln_pre", x), heads, quick)
    return _norm(state, "visual.ln_post", x[:, 0]) @ state["visual.proj"]


def encode_text(state, ids, *, heads, quick=False):
    """Of token ids `[B, length]`, of which the end of the text is the largest."""
    length = ids.shape[1]
    mask = torch.full((length, length), float("-inf")).triu(1)
    x = state["token_embedding.weight"][ids] + state["positional_embedding"][:length]
    x = _norm(state, "ln_final", _blocks(state, "", x, heads, quick, mask))
    return x[torch.arange(len(ids)), ids.argmax(dim=1)] @ state["text_projection"]
