"""A small WanTransformer3DModel whose weights are drawn, not trained.

Its query and key biases give every head a preferred offset in (frame, row, column) through the
rotary embedding, the way trained heads hold theirs, and its projections add a content term that
weakens as the noise goes. So it has what calibration looks for, and runs on any CPU in a second.
"""

import hashlib
import math

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel

GRID = (3, 7, 20)  # frames, height, width in patches: 420 tokens
HEAD_DIM = 64
HEADS = 2
LAYERS = 2
STEPS = 4
TEXT_TOKENS = 16
TEXT_DIM = 32
CHANNELS = 16
# Of a distilled model: sigma = 5 s / (1 + 4 s) at s = 1, 3/4, 1/2, 1/4.
SHIFT = 5.0

# What each head is drawn to prefer. Per axis: (rotary pair, logit weight, offset),
# meaning `weight * cos(frequency[pair] * (key - query - offset))`.
HEAD_PATTERNS = {
    # its own frame, near rows and columns
    (0, 0): {"t": [(0, 3.0, 0.0), (1, 2.0, 0.0)], "h": [(1, 1.5, 0.0)], "w": [(1, 1.5, 0.0)]},
    # every frame but the one before
    (0, 1): {"t": [(0, -6.0, -1.0)], "w": [(1, 1.0, 0.0)]},
    # near rows of every frame, its own frame a little more
    (1, 0): {"t": [(0, 0.5, 0.0)], "h": [(0, 3.0, 0.0), (1, 2.0, 0.0)]},
    # its own column, no matter which row asks: a repetitive head
    (1, 1): {"w": [(0, 2.5, 0.0), (1, 2.0, 0.0)]},
}
# Share of the content term in each head's queries and keys.
HEAD_CONTENT = {(0, 0): 0.45, (0, 1): 0.6, (1, 0): 0.8, (1, 1): 0.1}


def rotary_axes():
    """{axis: (first dimension, frequencies of its pairs)} of one head."""
    spatial = 2 * (HEAD_DIM // 6)
    temporal = HEAD_DIM - 2 * spatial
    axes, first = {}, 0
    for name, size in (("t", temporal), ("h", spatial), ("w", spatial)):
        axes[name] = (first, 10000.0 ** (-np.arange(0, size, 2) / size))
        first += size
    return axes


def bias_vectors(pattern):
    """Query and key vectors [head_dim] whose rotated product is the pattern's logits."""
    query, key = np.zeros(HEAD_DIM), np.zeros(HEAD_DIM)
    for axis, terms in pattern.items():
        first, frequencies = rotary_axes()[axis]
        for pair, weight, offset in terms:
            amplitude = math.sqrt(abs(weight) * math.sqrt(HEAD_DIM))
            at = first + 2 * pair
            phase = frequencies[pair] * offset
            query[at:at + 2] = math.copysign(amplitude, weight) * np.array([math.cos(phase), math.sin(phase)])
            key[at:at + 2] = amplitude * np.array([1.0, 0.0])
    return query, key


def draw_transformer(seed, dtype=torch.bfloat16):
    """The transformer with its drawn weights."""
    torch.manual_seed(seed)
    model = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=HEADS, attention_head_dim=HEAD_DIM,
        in_channels=CHANNELS, out_channels=CHANNELS, text_dim=TEXT_DIM, freq_dim=64, ffn_dim=256,
        num_layers=LAYERS, cross_attn_norm=True, rope_max_seq_len=64)
    generator = torch.Generator().manual_seed(seed + 1)
    width = HEADS * HEAD_DIM
    with torch.no_grad():
        # Steps matter: the modulation of the first norm follows the time embedding.
        model.condition_embedder.time_proj.weight.mul_(4.0)
        for layer, block in enumerate(model.blocks):
            attn = block.attn1
            shared = torch.randn(width, width, generator=generator) / math.sqrt(width)
            own = torch.randn(width, width, generator=generator) / math.sqrt(width)
            share = torch.tensor([HEAD_CONTENT[layer, head] for head in range(HEADS)])
            share = share.repeat_interleave(HEAD_DIM)[:, None]
            biases = [bias_vectors(HEAD_PATTERNS[layer, head]) for head in range(HEADS)]
            for linear, norm, bias, weight in (
                    (attn.to_q, attn.norm_q, [b[0] for b in biases], shared),
                    (attn.to_k, attn.norm_k, [b[1] for b in biases], 0.8 * shared + 0.6 * own)):
                linear.bias.copy_(torch.from_numpy(np.concatenate(bias)))
                linear.weight.copy_(weight * share)
                # The norm divides by the root mean square of both heads; give it back.
                power = linear.bias.square().mean() + share.square().mean()
                norm.weight.fill_(power.sqrt().item())
    # But for what the model itself asks to keep in float32.
    for name, parameter in model.named_parameters():
        if not set(name.split(".")) & set(model._keep_in_fp32_modules):
            parameter.data = parameter.data.to(dtype)
    return model.eval()


class TinyWanPipeline(WanPipeline):
    """A WanPipeline that needs neither text encoder nor VAE: a prompt's embedding is drawn from its
    text, and the videos are latents."""

    def __call__(self, prompt, **options):
        seed = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "little")
        embedding = torch.randn(
            1, TEXT_TOKENS, TEXT_DIM, generator=torch.Generator().manual_seed(seed))
        return super().__call__(
            prompt_embeds=embedding.to(self.transformer.device), output_type="latent", **options)


def tiny_wan_pipeline(seed=7, dtype=torch.bfloat16):
    pipe = TinyWanPipeline(
        tokenizer=None, text_encoder=None, vae=None, transformer=draw_transformer(seed, dtype),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT))
    pipe.set_progress_bar_config(disable=True)
    return pipe


#: Options of a pipeline call that makes a video of GRID in STEPS steps, without guidance.
CALL = {"height": 16 * GRID[1], "width": 16 * GRID[2], "num_frames": 4 * (GRID[0] - 1) + 1,
        "num_inference_steps": STEPS, "guidance_scale": 1.0}
