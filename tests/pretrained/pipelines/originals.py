"""The names that Stable Diffusion, Stable Diffusion 3, FLUX, Sana and PixArt give their weights in their own projects.

They are made from those of diffusers: the inverse of what a reader does, written down on its own.
"""

import re

import torch

PREFIX = "model.diffusion_model."
SUFFIXES = ("weight", "bias")


def swapped(value):
    """Scale and shift, which the projects keep the other way round."""
    first, second = value.chunk(2)
    return torch.cat([second, first])


def moved(state, made, old, new, change=lambda value: value):
    for suffix in SUFFIXES:
        if f"{old}.{suffix}" in state:
            made[f"{new}.{suffix}"] = change(state[f"{old}.{suffix}"])


def joined(state, made, olds, new):
    for suffix in SUFFIXES:
        if f"{olds[0]}.{suffix}" in state:
            made[f"{new}.{suffix}"] = torch.cat([state[f"{old}.{suffix}"] for old in olds])


def count(state, prefix):
    return 1 + max(int(name.split(".")[1]) for name in state if name.startswith(prefix))


def sd3(state):
    made = {"pos_embed": state["pos_embed.pos_embed"]}
    for old, new in {
        "pos_embed.proj": "x_embedder.proj",
        "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
        "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
        "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
        "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
        "context_embedder": "context_embedder",
        "proj_out": "final_layer.linear",
    }.items():
        moved(state, made, old, new)
    moved(state, made, "norm_out.linear", "final_layer.adaLN_modulation.1", swapped)
    blocks = count(state, "transformer_blocks.")
    for i in range(blocks):
        old, image, text = (f"{place}.{i}" for place in ("transformer_blocks", "joint_blocks", "joint_blocks"))
        image, text = f"{image}.x_block", f"{text}.context_block"
        for attention in ("attn", "attn2"):
            joined(state, made, [f"{old}.{attention}.to_{part}" for part in "qkv"], f"{image}.{attention}.qkv")
            moved(state, made, f"{old}.{attention}.to_out.0", f"{image}.{attention}.proj")
            for part in "qk":
                moved(state, made, f"{old}.{attention}.norm_{part}", f"{image}.{attention}.ln_{part}")
        joined(state, made, [f"{old}.attn.add_{part}_proj" for part in "qkv"], f"{text}.attn.qkv")
        moved(state, made, f"{old}.attn.to_add_out", f"{text}.attn.proj")
        for part in "qk":
            moved(state, made, f"{old}.attn.norm_added_{part}", f"{text}.attn.ln_{part}")
        moved(state, made, f"{old}.norm1.linear", f"{image}.adaLN_modulation.1")
        last = swapped if i == blocks - 1 else lambda value: value
        moved(state, made, f"{old}.norm1_context.linear", f"{text}.adaLN_modulation.1", last)
        for layers, place in (("ff", image), ("ff_context", text)):
            moved(state, made, f"{old}.{layers}.net.0.proj", f"{place}.mlp.fc1")
            moved(state, made, f"{old}.{layers}.net.2", f"{place}.mlp.fc2")
    return made


RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def ldm_unet(state, levels, layers):
    """Of a U-Net with so many resolutions and so many blocks at each on the way down."""
    made = {}
    for old, new in {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }.items():
        moved(state, made, old, new)

    def block(place, number, new):
        """A residual block and its attention; returns how many parts that are."""
        for old, inside in RESNET.items():
            moved(state, made, f"{place}.resnets.{number}.{old}", f"{new}.0.{inside}")
        start = f"{place}.attentions.{number}."
        attention = {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
        made.update({f"{new}.1.{name}": value for name, value in attention.items()})
        return 2 if attention else 1

    place = 1
    for level in range(levels):
        for number in range(layers):
            block(f"down_blocks.{level}", number, f"input_blocks.{place}")
            place += 1
        if level < levels - 1:
            moved(state, made, f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{place}.0.op")
            place += 1
    for old, inside in RESNET.items():
        moved(state, made, f"mid_block.resnets.0.{old}", f"middle_block.0.{inside}")
        moved(state, made, f"mid_block.resnets.1.{old}", f"middle_block.2.{inside}")
    for name, value in state.items():
        if name.startswith("mid_block.attentions.0."):
            made[name.replace("mid_block.attentions.0.", "middle_block.1.")] = value
    place = 0
    for level in range(levels):
        for number in range(layers + 1):
            parts = block(f"up_blocks.{level}", number, f"output_blocks.{place}")
            if number == layers:
                moved(state, made, f"up_blocks.{level}.upsamplers.0.conv", f"output_blocks.{place}.{parts}.conv")
            place += 1
    return made


def averaged(state):
    """The names that LDM gives the averages of these weights."""
    return {f"model_ema.diffusion_model{name.replace('.', '')}": value for name, value in state.items()}


def flux(state):
    made = {}
    for old, new in {
        "time_text_embed.timestep_embedder": "time_in",
        "time_text_embed.text_embedder": "vector_in",
        "time_text_embed.guidance_embedder": "guidance_in",
    }.items():
        moved(state, made, f"{old}.linear_1", f"{new}.in_layer")
        moved(state, made, f"{old}.linear_2", f"{new}.out_layer")
    moved(state, made, "context_embedder", "txt_in")
    moved(state, made, "x_embedder", "img_in")
    moved(state, made, "proj_out", "final_layer.linear")
    moved(state, made, "norm_out.linear", "final_layer.adaLN_modulation.1", swapped)
    for i in range(count(state, "transformer_blocks.")):
        old = f"transformer_blocks.{i}"
        for kind, parts, out, norms, layers, norm in (
            ("img", [f"to_{part}" for part in "qkv"], "to_out.0", "norm", "ff", "norm1"),
            ("txt", [f"add_{part}_proj" for part in "qkv"], "to_add_out", "norm_added", "ff_context", "norm1_context"),
        ):
            new = f"double_blocks.{i}.{kind}"
            joined(state, made, [f"{old}.attn.{part}" for part in parts], f"{new}_attn.qkv")
            moved(state, made, f"{old}.attn.{out}", f"{new}_attn.proj")
            for letter, word in (("q", "query"), ("k", "key")):
                made[f"{new}_attn.norm.{word}_norm.scale"] = state[f"{old}.attn.{norms}_{letter}.weight"]
            moved(state, made, f"{old}.{norm}.linear", f"{new}_mod.lin")
            moved(state, made, f"{old}.{layers}.net.0.proj", f"{new}_mlp.0")
            moved(state, made, f"{old}.{layers}.net.2", f"{new}_mlp.2")
    for i in range(count(state, "single_transformer_blocks.")):
        old, new = f"single_transformer_blocks.{i}", f"single_blocks.{i}"
        joined(state, made, [*(f"{old}.attn.to_{part}" for part in "qkv"), f"{old}.proj_mlp"], f"{new}.linear1")
        moved(state, made, f"{old}.proj_out", f"{new}.linear2")
        moved(state, made, f"{old}.norm.linear", f"{new}.modulation.lin")
        for letter, word in (("q", "query"), ("k", "key")):
            made[f"{new}.norm.{word}_norm.scale"] = state[f"{old}.attn.norm_{letter}.weight"]
    assert not any(re.search("transformer_blocks", name) for name in made)
    return made


def sana(state):
    """With a table of positions and a null caption, which the network of diffusers does not have."""
    made = {"pos_embed": torch.zeros(1, 4, 8), "y_embedder.y_embedding": torch.zeros(5, 8)}
    for old, new in {
        "patch_embed.proj": "x_embedder.proj",
        "time_embed.emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
        "time_embed.emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
        "time_embed.linear": "t_block.1",
        "caption_projection.linear_1": "y_embedder.y_proj.fc1",
        "caption_projection.linear_2": "y_embedder.y_proj.fc2",
        "caption_norm": "attention_y_norm",
        "proj_out": "final_layer.linear",
    }.items():
        moved(state, made, old, new)
    made["final_layer.scale_shift_table"] = state["scale_shift_table"]
    for i in range(count(state, "transformer_blocks.")):
        old, new = f"transformer_blocks.{i}", f"blocks.{i}"
        made[f"{new}.scale_shift_table"] = state[f"{old}.scale_shift_table"]
        joined(state, made, [f"{old}.attn1.to_{part}" for part in "qkv"], f"{new}.attn.qkv")
        moved(state, made, f"{old}.attn1.to_out.0", f"{new}.attn.proj")
        moved(state, made, f"{old}.attn2.to_q", f"{new}.cross_attn.q_linear")
        joined(state, made, [f"{old}.attn2.to_{part}" for part in "kv"], f"{new}.cross_attn.kv_linear")
        moved(state, made, f"{old}.attn2.to_out.0", f"{new}.cross_attn.proj")
        for part in ("inverted", "depth", "point"):
            moved(state, made, f"{old}.ff.conv_{part}", f"{new}.mlp.{part}_conv.conv")
    return made


def pixart(state):
    """With a table of positions and a null caption, which the network of diffusers does not have."""
    made = {"pos_embed": torch.zeros(1, 4, 8), "y_embedder.y_embedding": torch.zeros(5, 8)}
    for old, new in {
        "pos_embed.proj": "x_embedder.proj",
        "adaln_single.emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
        "adaln_single.emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
        "adaln_single.linear": "t_block.1",
        "caption_projection.linear_1": "y_embedder.y_proj.fc1",
        "caption_projection.linear_2": "y_embedder.y_proj.fc2",
        "proj_out": "final_layer.linear",
    }.items():
        moved(state, made, old, new)
    made["final_layer.scale_shift_table"] = state["scale_shift_table"]
    for i in range(count(state, "transformer_blocks.")):
        old, new = f"transformer_blocks.{i}", f"blocks.{i}"
        made[f"{new}.scale_shift_table"] = state[f"{old}.scale_shift_table"]
        joined(state, made, [f"{old}.attn1.to_{part}" for part in "qkv"], f"{new}.attn.qkv")
        moved(state, made, f"{old}.attn1.to_out.0", f"{new}.attn.proj")
        moved(state, made, f"{old}.attn2.to_q", f"{new}.cross_attn.q_linear")
        joined(state, made, [f"{old}.attn2.to_{part}" for part in "kv"], f"{new}.cross_attn.kv_linear")
        moved(state, made, f"{old}.attn2.to_out.0", f"{new}.cross_attn.proj")
        moved(state, made, f"{old}.ff.net.0.proj", f"{new}.mlp.fc1")
        moved(state, made, f"{old}.ff.net.2", f"{new}.mlp.fc2")
    return made
