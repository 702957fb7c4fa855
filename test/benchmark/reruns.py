#!/usr/bin/env python3
"""How often a frozen maximum makes a tile run twice, and what that costs beside the online softmax, by the standard
deviation of the scaled logits: where compiler/CostModel.cpp has its numbers from.

usage: reruns.py CALIBATT NAME-frozen.calibatt NAME-online.calibatt [--deviations 1,4,8,...] [--runs N]
The two packages are compiles of one profile with `--softmax frozen` and `--softmax online`.
"""

import argparse
import json
import subprocess


def bench(tool, package, deviation, runs):
    """The first call that is no dense fallback, as `calibatt bench` tells it."""
    done = subprocess.run([tool, "bench", package, "--layer", "0", "--step", "0", "--runs", str(runs), "--json",
                           "--logit-deviation", str(deviation)], check=True, capture_output=True, text=True)
    return next(call for call in json.loads(done.stdout)["calls"] if not call["dense_fallback"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tool")
    parser.add_argument("frozen")
    parser.add_argument("online")
    parser.add_argument("--deviations", default="1,4,8,10,11,12,13,14,16")
    parser.add_argument("--runs", type=int, default=20)
    arguments = parser.parse_args()
    print(f"{arguments.frozen}\n\n| deviation of logits | frozen | online | frozen / online | tiles run twice |\n|---|---|---|---|---|")
    for deviation in arguments.deviations.split(","):
        frozen, online = (bench(arguments.tool, path, deviation, arguments.runs)
                          for path in (arguments.frozen, arguments.online))
        print(f"| {deviation} | {frozen['median_s'] * 1e3:.3f} ms | {online['median_s'] * 1e3:.3f} ms "
              f"| {frozen['median_s'] / online['median_s']:.2f} | {frozen['reruns'] / frozen['tiles']:.2%} |", flush=True)


if __name__ == "__main__":
    main()
