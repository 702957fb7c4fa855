#!/usr/bin/env python3
"""What counting costs beside the model: adding a prompt, folding it in, selecting a profile.

usage: counts_cost.py [--build DIR] [--layers N] [--steps N] [--repeat N]

Random energies of real size, on the disk of the temporary folder. Prints core seconds (user and
system, which other programs on the machine do not change) a site, that is a head of a layer and
step, and what they make of a whole prompt of 80,000 sites; and the same of block energies on the
CPU, at a size where that can be waited for.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy

ROOT = Path(__file__).resolve().parents[2]
SITES_14B = 40 * 40 * 50


def clock(work):
    start = time.process_time()
    work()
    return time.process_time() - start


def counting(abi, grid, arguments):
    """Blocks, and core seconds a site of adding, committing and selecting."""
    heads, random = 8, numpy.random.default_rng()
    sites = arguments.layers * heads * arguments.steps
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "c")
        problem = abi.problem(grid, arguments.layers, heads, arguments.steps, head_dim=128)
        with abi.Counts(path, problem) as counts:
            blocks = counts.info().blocks
            energies = random.lognormal(0, 3, (heads, blocks, blocks)).astype(numpy.float32)
            energies /= energies.sum(axis=-1, keepdims=True)
            scores = numpy.zeros(heads)
            times = {"add": [], "commit": [], "select": []}
            for prompt in range(arguments.repeat):
                counts.begin(str(prompt))
                times["add"].append(clock(lambda: [
                    counts.add(layer, step, energies, scores)
                    for layer in range(arguments.layers) for step in range(arguments.steps)]))
                times["commit"].append(clock(counts.commit))
                times["select"].append(clock(lambda: counts.select(Path(folder, "p"))))
    return blocks, {name: numpy.median(t) / sites for name, t in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["CALIBATT_PROFILE_LIBRARY"] = str(arguments.build / "lib/libcalibatt_profile.so")
    sys.path.insert(0, str(ROOT / "test/calib/python"))
    import profile_abi as abi

    print("blocks  stage    core ms a site  80,000 sites")
    for grid in [(21, 30, 52), (21, 45, 80)]:
        blocks, seconds = counting(abi, grid, arguments)
        for name, time_of_site in seconds.items():
            print(f"{blocks:6}  {name:7}  {time_of_site * 1e3:14.3f}  "
                  f"{time_of_site * SITES_14B / 60:8.1f} core min")
    for grid in [(4, 15, 26), (4, 30, 52)]:
        tokens = numpy.prod(grid)
        q, k = numpy.random.default_rng().normal(size=(2, 2, tokens, 128)).astype(numpy.float32)
        seconds = clock(lambda: abi.block_energies(q, k, grid)) / 2
        print(f"energies on the CPU, {tokens} tokens: {seconds:.2f} core s a head, "
              f"{seconds / tokens**2 * 1e9:.1f} ns a pair of tokens")


if __name__ == "__main__":
    main()
