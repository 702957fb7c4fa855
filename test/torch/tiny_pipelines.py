"""Pipelines of diffusers with tiny random transformers: real classes, nothing to download.

Text enters as embeddings and latents come out, so that no text encoder or VAE is needed.
"""

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)

HEADS, HEAD_DIM, CHANNELS, TEXT_DIM, TEXT_TOKENS = 2, 64, 4, 24, 12


def sharpen(transformer):
    """Attention of random weights is all but even; larger query norms make it choose."""
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if name.endswith(("norm_q.weight", "norm_added_q.weight")):
                parameter.copy_(2 + torch.rand_like(parameter))
            if name == "pos_frequencies":
                parameter.copy_(torch.randn_like(parameter) / 4)
    return transformer.eval()


def wan_transformer(layers=2, dtype=torch.float32, cls=WanTransformer3DModel, **more):
    options = dict(
        patch_size=(1, 2, 2), num_attention_heads=HEADS, attention_head_dim=HEAD_DIM,
        in_channels=CHANNELS, out_channels=CHANNELS, text_dim=TEXT_DIM, freq_dim=32, ffn_dim=128,
        num_layers=layers, rope_max_seq_len=64)
    model = sharpen(cls(**(options | more)))
    # But for what the model itself asks to keep in float32.
    for name, parameter in model.named_parameters():
        if not set(name.split(".")) & set(model._keep_in_fp32_modules):
            parameter.data = parameter.data.to(dtype)
    return model


def wan(two_transformers=False, boundary=0.8, expand_timesteps=False, **options):
    """Wan 2.1, or 2.2 with a transformer for the early and one for the late steps."""
    second = wan_transformer(**options) if two_transformers else None
    pipe = WanPipeline(
        tokenizer=None, text_encoder=None, vae=None, transformer=wan_transformer(**options),
        transformer_2=second, boundary_ratio=boundary if two_transformers else None, expand_timesteps=expand_timesteps,
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0))
    return quiet(pipe)


def mochi():
    transformer = sharpen(MochiTransformer3DModel(
        patch_size=2, num_attention_heads=HEADS, attention_head_dim=HEAD_DIM, num_layers=2,
        pooled_projection_dim=16, in_channels=CHANNELS, text_embed_dim=TEXT_DIM, time_embed_dim=32,
        max_sequence_length=TEXT_TOKENS))
    return quiet(MochiPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True), vae=None, text_encoder=None,
        tokenizer=None, transformer=transformer))


def hunyuan():
    transformer = sharpen(HunyuanVideoTransformer3DModel(
        in_channels=CHANNELS, out_channels=CHANNELS, num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM, num_layers=1, num_single_layers=1, num_refiner_layers=1,
        patch_size=2, patch_size_t=1, guidance_embeds=True, text_embed_dim=TEXT_DIM,
        pooled_projection_dim=16, rope_axes_dim=(16, 24, 24)))
    return quiet(HunyuanVideoPipeline(
        text_encoder=None, tokenizer=None, transformer=transformer, vae=None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0), text_encoder_2=None, tokenizer_2=None))


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def arguments(pipe, seed, grid, steps):
    """Of a call of the pipeline for the prompt `seed`, with guidance where it has some."""
    generator = torch.Generator().manual_seed(seed)
    frames, height, width = grid

    def text(tokens=TEXT_TOKENS):
        return torch.randn(1, tokens, TEXT_DIM, generator=generator)

    def mask(shown):
        return (torch.arange(TEXT_TOKENS) < shown)[None]

    call = {
        "prompt_embeds": text(), "num_inference_steps": steps, "output_type": "latent",
        "latents": torch.randn(1, CHANNELS, frames, 2 * height, 2 * width, generator=generator),
        "height": 16 * height, "width": 16 * width,
    }
    if isinstance(pipe, WanPipeline):
        call |= {"negative_prompt_embeds": text(), "num_frames": 4 * (frames - 1) + 1}
    elif isinstance(pipe, MochiPipeline):
        call |= {"prompt_attention_mask": mask(7 + seed % 4), "negative_prompt_embeds": text(),
                 "negative_prompt_attention_mask": mask(2), "num_frames": 6 * (frames - 1) + 1}
    else:
        call |= {"prompt_attention_mask": mask(9 - seed % 3), "num_frames": 4 * (frames - 1) + 1,
                 "pooled_prompt_embeds": torch.randn(1, 16, generator=generator),
                 "true_cfg_scale": 3.0, "negative_prompt_embeds": text(),
                 "negative_pooled_prompt_embeds": torch.randn(1, 16, generator=generator),
                 "negative_prompt_attention_mask": mask(3)}
    return call


def run(pipe, seed=0, grid=(3, 7, 13), steps=3, **more):
    """The latents of one video."""
    return pipe(**arguments(pipe, seed, grid, steps), **more).frames
