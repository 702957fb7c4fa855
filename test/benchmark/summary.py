#!/usr/bin/env python3
"""Prints what compare.py measured as one table, a row a package: the table of the README.

usage: summary.py BENCH.json...
Rates are of the blocks that are computed. Of every other kernel its time over ours: in shuffled rounds, and, after
the slash, each alone.
"""

import json
import sys

RIVALS = ("cuDNN dense", "FlashAttention-3 dense", "FlashAttention-4", "FlexAttention")


def groups(rows):
    """The rows that were timed together."""
    found = {}
    for row in rows:
        place = tuple(row[key] for key in ("tokens", "batch", "heads", "head_dim", "layer", "step", "density"))
        found.setdefault(place, []).append(row)
    return found.values()


def ratio(other, ours):
    return " / ".join(f"{other[key][0] / ours[key][0]:.2f}" for key in ("milliseconds", "milliseconds_alone"))


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if len(sys.argv) > 1 else 2
    print("| package, site | tokens | heads | computed | ms | TFLOP/s |", " | ".join(RIVALS), "|")
    print("|---" * (6 + len(RIVALS)) + "|")
    for path in sys.argv[1:]:
        with open(path) as file:
            rows = json.load(file)["rows"]
        for group in groups(rows):
            named = {row["name"]: row for row in group}
            for ours in group:
                if ours["visits"] is None:
                    continue  # not a package
                blocks = (-(-ours["tokens"] // 128)) ** 2 * ours["heads"] * ours["batch"]
                cells = [ratio(named[name], ours) if name in named else "-" for name in RIVALS]
                batch = f", batch {ours['batch']}" if ours["batch"] > 1 else ""
                print(f"| {ours['name']}, {ours['layer']}/{ours['step']}{batch} | {ours['tokens']:,} "
                      f"| {ours['heads']} of {ours['head_dim']} | {ours['visits'] / blocks:.1%} "
                      f"| {ours['milliseconds'][0]:.2f} | {ours['tflops']:.0f} |", " | ".join(cells), "|")
    return 0


if __name__ == "__main__":
    sys.exit(main())
