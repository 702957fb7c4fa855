#!/usr/bin/env python3
"""Block masks to time: one layer and step of a video shape, every head with its own random blocks.

usage: make_masks.py OUT.safetensors --grid T H W [--heads N] [--head-dim D] [--keep FRACTION | --repetitive]
Writes bitmaps for `calibatt profile import`. Each row keeps the same number of blocks (the diagonal
block among them) at random places: the worst case for the L2 cache, where calibrated masks have runs.
"""

import argparse
import json

import numpy
import safetensors.numpy

BLOCK = 128


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out")
    parser.add_argument("--grid", type=int, nargs=3, required=True, metavar=("T", "H", "W"))
    parser.add_argument("--heads", type=int, default=40)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--keep", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repetitive", action="store_true", help="every head; with --keep 1")
    arguments = parser.parse_args()
    tokens = int(numpy.prod(arguments.grid))
    blocks = -(-tokens // BLOCK)
    count = max(1, round(arguments.keep * blocks))
    generator = numpy.random.default_rng(arguments.seed)
    order = generator.random((arguments.heads, blocks, blocks))
    order[:, numpy.arange(blocks), numpy.arange(blocks)] = -1  # the diagonal is always kept
    kept = order.argsort(axis=-1).argsort(axis=-1) < count
    packed = numpy.packbits(kept, axis=-1, bitorder="little")
    document = {
        "format": "calibatt.bitmaps", "version": "1.0", "model": f"random, keep {arguments.keep}",
        "grid": arguments.grid, "layers": 1, "heads": arguments.heads,
        "head_dim": arguments.head_dim,
        "steps": [{"timestep": 0.0, "sigma": 0.0, "module": "transformer"}]}
    tensors = {"mask/0/0": packed}
    if arguments.repetitive:
        tensors["repetition"] = numpy.ones((1, arguments.heads, 1), numpy.float32)
    safetensors.numpy.save_file(tensors, arguments.out,
                                {"calibatt": json.dumps(document)})


if __name__ == "__main__":
    main()
