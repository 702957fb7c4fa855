#!/usr/bin/env python3
"""Packages on hostile inputs, on a GPU, against a float64 masked reference: huge logits, one-hot and
all-equal rows, maxima that grow late, huge values, NaN and infinity.

usage: hostile.py M.calibatt... [--sites N] [--seed S] [--json FILE]
A finite output has to be within --limit of the reference, by relative RMS over the rows that are finite
there; NaN and infinity have to be where the reference has them, and nowhere else. Exits 1 where one is not.
"""

import argparse
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "runtime" / "python"))

import torch

import calibatt
from masks import BLOCK, gpu_state, site_rows, versions, write_json

LOG2 = 0.6931471805599453


class Inputs:
    """q, k, v of one head in float64, to be rounded to bf16."""

    def __init__(self, tokens, dim, scale, generator, device):
        self.tokens, self.dim, self.scale, self.device = tokens, dim, scale, device
        self.generator = generator
        self.blocks = -(-tokens // BLOCK)
        self.q, self.k, self.v = (self.normal(tokens, dim) for _ in range(3))

    def normal(self, *shape):
        return torch.randn(shape, generator=self.generator, device=self.device, dtype=torch.float64)

    def along(self, bumps):
        """Logits that are `bumps` (log2, one a key) and noise far below one."""
        direction = torch.zeros(self.dim, device=self.device, dtype=torch.float64)
        direction[: self.dim // 2] = 1
        self.q = direction + 0.01 * self.normal(self.tokens, self.dim)
        self.k = (0.01 * self.normal(self.tokens, self.dim)
                  + bumps[:, None] * LOG2 / self.scale / (self.dim // 2) * direction)

    def late(self, log2, blocks):
        """One key of each of `blocks` is `log2` above the last visited block before it."""
        bumps = torch.zeros(self.tokens, device=self.device, dtype=torch.float64)
        for rank, block in enumerate(sorted(blocks, reverse=True), 1):
            bumps[block * BLOCK + 5] = rank * log2
        self.along(bumps)


def logits_times_30(x):
    x.q *= 30


def one_hot(x):
    # Every query is a key, much longer than the others' share of it.
    x.q = x.k[torch.randperm(x.tokens, generator=x.generator, device=x.device)] * 20


def all_equal(x):
    x.k[:] = x.k[0]


def only_the_tail(x):
    bumps = torch.zeros(x.tokens, device=x.device, dtype=torch.float64)
    bumps[-1] = 60
    x.along(bumps)


def huge_values(x):
    x.v *= 2.0**100


def late_huge_values(x):
    x.late(70, range(x.blocks - 1))
    x.v *= 2.0**100


def late(log2):
    def change(x):
        x.late(log2, range(x.blocks - 1))
    return change


def late_in_one_block(x):
    x.late(130, [0])


def nan_query(x):
    x.q[x.tokens // 3, 7] = torch.nan


def nan_key(x):
    x.k[x.tokens // 2, 3] = torch.nan


def nan_value(x):
    x.v[5, 11] = torch.nan


def infinite_query(x):
    x.q[x.tokens - 1, 0] = torch.inf


def infinite_key(x):
    x.k[x.tokens // 4, 9] = -torch.inf


def infinite_value(x):
    x.v[x.tokens // 2, 2] = torch.inf


CASES = {
    "logits x 30": logits_times_30, "one-hot rows": one_hot, "all-equal rows": all_equal,
    "only the tail": only_the_tail, "|V| 2^100": huge_values,
    "every block 40 later": late(40), "every block 70 later": late(70),
    "every block 130 later": late(130), "every block 200 later": late(200),
    "one block 130 later": late_in_one_block, "70 later, |V| 2^100": late_huge_values,
    "NaN in Q": nan_query, "NaN in K": nan_key, "NaN in V": nan_value, "infinity in Q": infinite_query,
    "infinity in K": infinite_key, "infinity in V": infinite_value,
}


def reference(q, k, v, mask, scale):
    """One head in float64, a few rows at a time."""
    pieces = []
    for start in range(0, q.shape[0], 1024):
        rows = slice(start, start + 1024)
        logits = q[rows].double() @ k.double().T * scale
        logits.masked_fill_(~token_rows(mask, rows, k.shape[0]), -torch.inf)
        weights = torch.softmax(logits, dim=-1)
        # Masked keys are not multiplied at all: what they hold must not come through.
        out = weights @ v.double().nan_to_num(0, 0, 0)
        for key in (~v.isfinite()).any(dim=-1).nonzero().flatten():
            hit = token_rows(mask, rows, k.shape[0])[:, key]
            out[hit] += torch.where(v[key].isfinite(), 0.0, v[key].double())
        pieces.append(out)
    return torch.cat(pieces)


def token_rows(mask, rows, tokens):
    blocks = torch.arange(rows.start, min(rows.stop, tokens), device=mask.device) // BLOCK
    return mask[blocks].repeat_interleave(BLOCK, -1)[:, :tokens]


def check(package, name, layer, step, seed, limit, device):
    info = package.info
    blocks = site_rows(package, layer, step, info["heads"], device)
    shape = (1, info["heads"], info["tokens"], info["head_dim"])
    q, k, v = (torch.empty(shape, device=device, dtype=torch.bfloat16) for _ in range(3))
    for head in range(info["heads"]):
        generator = torch.Generator(device).manual_seed(seed + head)
        x = Inputs(info["tokens"], info["head_dim"], info["scale"], generator, device)
        CASES[name](x)
        q[0, head], k[0, head], v[0, head] = x.q.bfloat16(), x.k.bfloat16(), x.v.bfloat16()
    out = torch.full_like(q, torch.nan)
    package.attention(q, k, v, layer=layer, step=step, out=out)
    torch.cuda.synchronize()
    worst, misplaced = 0.0, 0
    for head in range(info["heads"]):
        if package.site_anchors(layer, head, step) is not None:
            continue  # its rows are other rows' queries: accuracy.py compares those
        wanted = reference(q[0, head], k[0, head], v[0, head], blocks[head], info["scale"])
        got = out[0, head].double()
        misplaced += (got.isfinite() != wanted.isfinite()).sum().item()
        misplaced += (got.isnan() & wanted.isinf()).sum().item() if "infinity in V" not in name else 0
        both = got.isfinite() & wanted.isfinite()
        norm = wanted[both].square().sum().sqrt().item()
        error = (got - wanted)[both].square().sum().sqrt().item()
        worst = max(worst, error / norm if norm else error)
    return {"case": name, "layer": layer, "step": step, "rms": worst, "misplaced": misplaced,
            "passed": worst <= limit and misplaced == 0}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("packages", nargs="+")
    parser.add_argument("--sites", type=int, default=1, help="sites a package, at random")
    parser.add_argument("--limit", type=float, default=6e-3)
    parser.add_argument("--seed", type=int, help="default: a fresh one")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--json", help="write the rows here too")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("hostile.py: torch finds no CUDA device", file=sys.stderr)
        return 2
    device = torch.device(arguments.device)
    torch.cuda.set_device(device)
    seed = random.SystemRandom().randrange(2**31) if arguments.seed is None else arguments.seed
    print(f"seed {seed}, {gpu_state(device.index or 0).get('name', 'unknown GPU')}\n")
    print("| package | layer | step | inputs | rel. RMS | misplaced NaN or infinity |")
    print("|---|---|---|---|---|---|")
    rows = []
    for path in arguments.packages:
        with calibatt.load(path) as package:
            pairs = [(layer, step) for layer in range(package.info["layers"])
                     for step in range(package.info["steps"])]
            random.Random(seed).shuffle(pairs)
            for layer, step in sorted(pairs[: arguments.sites]):
                for name in CASES:
                    row = check(package, name, layer, step, seed, arguments.limit, device)
                    rows.append({"package": Path(path).name} | row)
                    print(f"| {Path(path).name} | {layer} | {step} | {name} | {row['rms']:.1e} "
                          f"| {row['misplaced']} |{'' if row['passed'] else ' FAILED'}", flush=True)
    failed = sum(not row["passed"] for row in rows)
    write_json(arguments.json, {"seed": seed, "limit": arguments.limit, "versions": versions(),
                                "rows": rows})
    print(f"\n{len(rows)} cases, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
