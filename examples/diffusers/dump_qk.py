#!/usr/bin/env python3
"""Dumps Q and K of a small Wan transformer, one safetensors file a prompt.

The files under examples/sample were written by this script with its defaults
(`.ci/install-deps --torch`, then `.venv/bin/python examples/diffusers/dump_qk.py`). A dump is what
`calibatt calibrate` reads, and good for a look at few layers and steps; whole models are calibrated
as they run, by `calibrate_wan.py`.
"""

import argparse
import json
import math
import pathlib
import sys

import torch
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "runtime/python"))

from calibatt.diffusers.models import VideoTransformer
from calibatt.diffusers.processors import Processors
from tiny_wan import (
    GRID, HEAD_DIM, HEADS, LAYERS, SHIFT, STEPS, TEXT_DIM, TEXT_TOKENS, draw_transformer)

SIGMAS = [SHIFT * s / (1 + (SHIFT - 1) * s) for s in (1 - step / STEPS for step in range(STEPS))]


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
    tensors = {}
    for step, sigma in enumerate(SIGMAS):
        def record(layer, call, attention, step=step):
            tensors[f"q.{layer}.{step}"] = attention.query[0].contiguous()
            tensors[f"k.{layer}.{step}"] = attention.key[0].contiguous()
            return attention.dense()

        latent = ((1 - sigma) * video + sigma * noise).to(torch.bfloat16)
        with torch.no_grad(), Processors([VideoTransformer("transformer", model)], record):
            model(hidden_states=latent, timestep=torch.tensor([1000 * sigma]),
                  encoder_hidden_states=text, return_dict=False)
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
                        default=ROOT / "examples/sample")
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = draw_transformer(arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for prompt in range(arguments.prompts):
        tensors, metadata = dump_prompt(model, prompt, arguments.seed)
        path = arguments.out / f"prompt{prompt}.safetensors"
        save_file(tensors, path, metadata={"calibatt_dump": json.dumps(metadata)})
        print(f"{path}: {len(tensors)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
