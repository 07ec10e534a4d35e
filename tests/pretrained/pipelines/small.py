"""Small parts of pipelines with random weights, made from configurations."""

import diffusers
import torch
import transformers

CHARACTERS = [chr(code) for code in range(33, 127)]


def clip_tokenizer(length=77):
    letters = [*CHARACTERS, *(f"{char}</w>" for char in CHARACTERS), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(letters)}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=length)


def clip(width=32, projection=None, seed=0):
    torch.manual_seed(seed)
    config = transformers.CLIPTextConfig(
        vocab_size=200,
        hidden_size=width,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=projection or width,
        bos_token_id=188,
        eos_token_id=189,
        pad_token_id=189,
        hidden_act="gelu",
    )
    kind = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    return kind(config).eval()


def t5_tokenizer(length=512):
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *((char, -3.0) for char in CHARACTERS)]
    return transformers.T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=length)


def t5(width=32, seed=1):
    torch.manual_seed(seed)
    config = transformers.T5Config(vocab_size=128, d_model=width, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    return transformers.T5EncoderModel(config).eval()


def autoencoder(channels=4, seed=2, **changes):
    torch.manual_seed(seed)
    config = {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (8, 8, 8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 1,
        "latent_channels": channels,
        "norm_num_groups": 4,
    }
    return diffusers.AutoencoderKL(**(config | changes)).eval()


def random_weights(model, seed=3):
    """Every weight is drawn, also those that constructors set to zero, so that nothing has no effect."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        scale = 0.3 if parameter.ndim < 2 else 1.0 / parameter[0].numel() ** 0.5
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def gemma_tokenizer(length=300):
    vocabulary = {name: number for number, name in enumerate(("<pad>", "<eos>", "<bos>", "<unk>", "<mask>"))}
    vocabulary |= {char: 5 + number for number, char in enumerate([*CHARACTERS, "\u2581", "\n"])}
    return transformers.GemmaTokenizer(vocab=vocabulary, merges=[], model_max_length=length)


def gemma(width=32, seed=6):
    torch.manual_seed(seed)
    config = transformers.Gemma2Config(
        vocab_size=128,
        hidden_size=width,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
    )
    return transformers.Gemma2Model(config).eval()


def qwen_tokenizer():
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    vocabulary = {char: number for number, char in enumerate(sorted(bytes_to_unicode().values()))}
    vocabulary["<|endoftext|>"] = len(vocabulary)
    return transformers.Qwen2Tokenizer(vocab=vocabulary, merges=[])


def qwen(width=16, seed=7):
    torch.manual_seed(seed)
    text = {
        "vocab_size": 300,
        "hidden_size": width,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
        "rope_theta": 1000000.0,
    }
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 16,
    }
    config = transformers.Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        hidden_size=width,
        vision_start_token_id=257,
        vision_token_id=258,
        vision_end_token_id=259,
    )
    return transformers.Qwen2_5_VLForConditionalGeneration(config).eval()
