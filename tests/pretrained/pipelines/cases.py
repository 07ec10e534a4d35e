"""Small pipelines of every class in the table, and how the tests run them."""

import diffusers
import torch
from einops import rearrange

from tests.pretrained.pipelines import small
from tests.pretrained.pipelines.configs import CONFIGS
from tests.pretrained.pipelines.small import autoencoder, clip, clip_tokenizer, random_weights, t5, t5_tokenizer

SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def network(name):
    from realuid.pretrained.pipelines.table import FAMILIES

    return random_weights(getattr(diffusers, FAMILIES[name].model)(**CONFIGS[name]))


def stable_diffusion_3():
    return diffusers.StableDiffusion3Pipeline(
        transformer=network("StableDiffusion3Pipeline"),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=clip(32, 16),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip(32, 32, seed=5),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(64),
        tokenizer_3=t5_tokenizer(),
    )


def flux():
    return diffusers.FluxPipeline(
        transformer=network("FluxPipeline"),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        vae=autoencoder(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=clip(32),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5(32),
        tokenizer_2=t5_tokenizer(),
    )


def sana():
    torch.manual_seed(8)
    vae = diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    return diffusers.SanaPipeline(
        tokenizer=small.gemma_tokenizer(),
        text_encoder=small.gemma(),
        vae=vae.eval(),
        transformer=network("SanaPipeline"),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def pixart_sigma():
    return diffusers.PixArtSigmaPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5(32),
        vae=autoencoder(scaling_factor=0.13025),
        transformer=network("PixArtSigmaPipeline"),
        scheduler=diffusers.DPMSolverMultistepScheduler(beta_schedule="linear"),
    )


def stable_diffusion_xl(**scheduler):
    return diffusers.StableDiffusionXLPipeline(
        vae=autoencoder(scaling_factor=0.13025),
        text_encoder=clip(32),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip(32, 32, seed=5),
        tokenizer_2=clip_tokenizer(),
        unet=network("StableDiffusionXLPipeline"),
        scheduler=diffusers.EulerDiscreteScheduler(
            **(SCALED | {"timestep_spacing": "leading", "steps_offset": 1} | scheduler)
        ),
    )


def stable_diffusion(**scheduler):
    settings = SCALED | {"clip_sample": False, "set_alpha_to_one": True, "steps_offset": 1} | scheduler
    return diffusers.StableDiffusionPipeline(
        vae=autoencoder(scaling_factor=0.18215),
        text_encoder=clip(32),
        tokenizer=clip_tokenizer(),
        unet=network("StableDiffusionPipeline"),
        scheduler=diffusers.DDIMScheduler(**settings),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def qwen_image():
    torch.manual_seed(9)
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 2.0, 0.7, 1.1],
    )
    dynamic = {"base_shift": 0.5, "max_shift": 0.9, "base_image_seq_len": 256, "max_image_seq_len": 8192}
    return diffusers.QwenImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.02, **dynamic),
        vae=vae.eval(),
        text_encoder=small.qwen(),
        tokenizer=small.qwen_tokenizer(),
        transformer=network("QwenImagePipeline"),
    )


class Case:
    """How the tests run a pipeline.

    Attributes:
        make: the pipeline.
        tokens: length of the text.
        scale: guidance scale without a classifier; None for pipelines that have none.
        embedded: scale that the network is told.
        side: pixels of a latent.
        shape: of the latents, not square, so that nothing is transposed unseen.
    """

    make = staticmethod(stable_diffusion_3)
    tokens, scale, embedded, side = 93, 4.0, None, 8
    shape = (4, 8, 12)

    def arguments(self, scale):
        return {"guidance_scale": scale or 1.0, "max_sequence_length": self.tokens - 77}

    def run(self, pipeline, x0, prompts, *, steps, scale, output="latent"):
        """The pipeline's own latents `[B, C, H, W]` from noise, or its pictures."""
        height, width = (self.side * side for side in x0.shape[2:])
        made = pipeline(
            prompt=prompts,
            latents=self.packed(x0),
            num_inference_steps=steps,
            height=height,
            width=width,
            output_type=output,
            **self.arguments(scale),
        )
        return made.images if output == "pt" else self.unpacked(made.images, x0)

    def packed(self, x):
        return x

    def unpacked(self, x, like):
        return x


class Packed(Case):
    def packed(self, x):
        b, c, h, w = x.shape
        parts = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
        return parts.reshape(b, (h // 2) * (w // 2), 4 * c)

    def unpacked(self, x, like):
        rows = like.shape[2] // 2
        return rearrange(x, "b (h w) (c p q) -> b c (h p) (w q)", h=rows, p=2, q=2)


class FluxCase(Packed):
    make = staticmethod(flux)
    tokens, scale, embedded = 24, None, 2.5

    def arguments(self, scale):
        return {"guidance_scale": self.embedded, "max_sequence_length": self.tokens}


class QwenCase(Packed):
    make = staticmethod(qwen_image)
    tokens = 320  # its template comes before the prompt, here letter by letter

    def arguments(self, scale):
        negative = {} if scale is None else {"negative_prompt": " ", "true_cfg_scale": scale}
        return negative | {"max_sequence_length": self.tokens}


class SanaCase(Case):
    make = staticmethod(sana)
    tokens, side, shape = 32, 2, (4, 16, 32)

    def arguments(self, scale):
        return {
            "guidance_scale": scale or 1.0,
            "max_sequence_length": self.tokens,
            "use_resolution_binning": False,
        }


class PixArtCase(SanaCase):
    make = staticmethod(pixart_sigma)
    side, shape = 8, (4, 8, 12)


class UNetCase(Case):
    tokens = 77

    def __init__(self, make):
        self.make = make

    def arguments(self, scale):
        return {"guidance_scale": scale or 1.0}


CASES = {
    "StableDiffusion3Pipeline": Case(),
    "FluxPipeline": FluxCase(),
    "SanaPipeline": SanaCase(),
    "PixArtSigmaPipeline": PixArtCase(),
    "StableDiffusionXLPipeline": UNetCase(stable_diffusion_xl),
    "StableDiffusionXLPipeline v": UNetCase(lambda: stable_diffusion_xl(prediction_type="v_prediction")),
    "StableDiffusionPipeline": UNetCase(stable_diffusion),
    "StableDiffusionPipeline v": UNetCase(lambda: stable_diffusion(prediction_type="v_prediction")),
    "QwenImagePipeline": QwenCase(),
}
