#!/usr/bin/env python3
"""Dumps Q and K of a small diffusers WanTransformer3DModel, one safetensors file a prompt.

The files under examples/sample were written by this script with its defaults
(`.ci/install-deps --torch`, then `.venv/bin/python examples/dump_qk.py`). The
weights are drawn, not trained: the query and key biases give every head a
preferred offset in (frame, row, column) through the rotary embedding, the way
trained heads hold theirs, and the projections add a content term that weakens
as the noise goes. `SelfAttentionRecorder` works on any Wan transformer.
"""

import argparse
import json
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from safetensors.torch import save_file

GRID = (3, 7, 20)  # frames, height, width in patches: 420 tokens
HEAD_DIM = 64
HEADS = 2
LAYERS = 2
TEXT_TOKENS = 16
TEXT_DIM = 32
# A four-step distilled schedule: sigma = 5 s / (1 + 4 s) at s = 1, 3/4, 1/2, 1/4.
SIGMAS = [5 * s / (1 + 4 * s) for s in (1.0, 0.75, 0.5, 0.25)]

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


class SelfAttentionRecorder(WanAttnProcessor):
    """Runs WanAttnProcessor and keeps what its self-attention multiplies.

    `query`, `key` [batch, heads, tokens, head_dim] are taken after the q/k norm
    and the rotary embedding, in the dtype the attention runs in.
    """

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None,
                 rotary_emb=None):
        output = super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask,
                                  rotary_emb)
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        key = attn.norm_k(attn.to_k(hidden_states)).unflatten(2, (attn.heads, -1))
        value = attn.to_v(hidden_states).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        self.query = rotate(query, *rotary_emb).transpose(1, 2).contiguous()
        self.key = rotate(key, *rotary_emb).transpose(1, 2).contiguous()
        # What was recorded must be what the module used: it gives the same output.
        again = F.scaled_dot_product_attention(self.query, self.key, value)
        again = attn.to_out[0](again.transpose(1, 2).flatten(2, 3))
        error = (again.double() - output.double()).norm() / output.double().norm()
        if not error < 1e-2:
            raise RuntimeError(f"recorded q and k miss the module's output by {error:.3g} (relative)")
        self.error = error.item()
        return output


def rotate(x, freqs_cos, freqs_sin):
    """WanAttnProcessor's rotary embedding of x [batch, tokens, heads, head_dim]."""
    x1, x2 = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = freqs_cos[..., 0::2], freqs_sin[..., 1::2]
    out = torch.empty_like(x)
    out[..., 0::2] = x1 * cos - x2 * sin
    out[..., 1::2] = x1 * sin + x2 * cos
    return out.type_as(x)


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


def draw_model(seed):
    """The transformer with its drawn weights, in bf16."""
    torch.manual_seed(seed)
    model = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=HEADS, attention_head_dim=HEAD_DIM,
        in_channels=16, out_channels=16, text_dim=TEXT_DIM, freq_dim=64, ffn_dim=256,
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
    # bf16, but for what the model itself asks to keep in float32.
    for name, parameter in model.named_parameters():
        if not set(name.split(".")) & set(model._keep_in_fp32_modules):
            parameter.data = parameter.data.to(torch.bfloat16)
    return model.eval()


def draw_video(generator):
    """A smooth latent video [1, 16, frames, 2 height, 2 width] of a few moving blobs."""
    frames, height, width = GRID[0], 2 * GRID[1], 2 * GRID[2]
    t, y, x = torch.meshgrid(torch.arange(frames), torch.arange(height), torch.arange(width),
                             indexing="ij")
    video = torch.zeros(16, frames, height, width)
    for _ in range(6):
        u = torch.rand(5, generator=generator)
        centre_y = u[0] * height + (u[2] - 0.5) * 4 * t
        centre_x = u[1] * width + (u[3] - 0.5) * 12 * t
        radius = 3 + 5 * u[4]
        blob = torch.exp(-((y - centre_y) ** 2 + (x - centre_x) ** 2) / (2 * radius**2))
        video += 2 * torch.randn(16, 1, 1, 1, generator=generator) * blob
    return video[None]


def dump_prompt(model, prompt, seed):
    """(tensors, metadata) of one prompt: its text and video are drawn from the seed."""
    generator = torch.Generator().manual_seed(seed + 1000 * (prompt + 1))
    text = torch.randn(1, TEXT_TOKENS, TEXT_DIM, generator=generator).to(torch.bfloat16)
    video = draw_video(generator)
    noise = torch.randn(video.shape, generator=generator)
    recorders = [SelfAttentionRecorder() for _ in model.blocks]
    for block, recorder in zip(model.blocks, recorders):
        block.attn1.set_processor(recorder)
    tensors = {}
    for step, sigma in enumerate(SIGMAS):
        latent = ((1 - sigma) * video + sigma * noise).to(torch.bfloat16)
        with torch.no_grad():
            model(hidden_states=latent, timestep=torch.tensor([1000 * sigma]),
                  encoder_hidden_states=text, return_dict=False)
        for layer, recorder in enumerate(recorders):
            tensors[f"q.{layer}.{step}"] = recorder.query[0]
            tensors[f"k.{layer}.{step}"] = recorder.key[0]
    metadata = {
        "version": 1, "model": "wan-sample", "grid": list(GRID), "head_dim": HEAD_DIM,
        "layers": LAYERS, "heads": HEADS,
        "steps": [{"timestep": 1000 * s, "sigma": s, "module": "transformer"} for s in SIGMAS],
        "prompt_id": f"prompt{prompt}", "scale": 1 / math.sqrt(HEAD_DIM),
    }
    return tensors, metadata


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parent / "sample")
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = draw_model(arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for prompt in range(arguments.prompts):
        tensors, metadata = dump_prompt(model, prompt, arguments.seed)
        path = arguments.out / f"prompt{prompt}.safetensors"
        save_file(tensors, path, metadata={"calibatt_dump": json.dumps(metadata)})
        print(f"{path}: {len(tensors)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
