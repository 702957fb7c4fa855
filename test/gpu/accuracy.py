#!/usr/bin/env python3
"""Relative RMS and maximum error of packages on a GPU against a float64 masked reference, beside
PyTorch's SDPA in bf16 with the same mask.

usage: accuracy.py M.calibatt... [--sites N] [--batch B] [--seed S] [--deviation D] [--json FILE]
Needs torch with CUDA and libcalibatt.so (CALIBATT_LIBRARY, or a build folder). Exits 1 where the relative
RMS of ours is more than --limit times that of SDPA or the maximum error more than --max-limit times,
or an output is not finite. Logits are normal with --deviation: 1 is what normal Q and K give.
"""

import argparse
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "runtime" / "python"))

import torch

import calibatt
from masks import BLOCK, anchor_tokens, gpu_state, inputs, site_rows, token_mask, versions, write_json

# Rows compared at a time: float64 logits of one chunk and head are this many times the tokens.
CHUNK_ROWS = 8 * BLOCK


def sdpa(q, k, v, mask, scale):
    """SDPA in bf16 with a boolean mask, in row chunks: a whole 720p mask would not fit."""
    pieces = [
        torch.nn.functional.scaled_dot_product_attention(
            q[:, :, rows], k, v, attn_mask=mask(rows), scale=scale)
        for rows in chunks(q.shape[2])
    ]
    return torch.cat(pieces, dim=2)


def chunks(tokens):
    return [slice(start, min(start + CHUNK_ROWS, tokens)) for start in range(0, tokens, CHUNK_ROWS)]


def reference(q, k, v, mask, rows, scale):
    """O and LSE of some rows of one head in float64."""
    logits = q[rows].double() @ k.double().T * scale
    logits.masked_fill_(~mask, -torch.inf)
    lse = logits.logsumexp(dim=-1)
    return (logits - lse[:, None]).exp() @ v.double(), lse


class Errors:
    """Relative RMS and maximum absolute error, gathered piece by piece."""

    def __init__(self):
        self.squares = self.norm = self.maximum = 0.0

    def add(self, got, wanted):
        difference = got.double() - wanted
        self.squares += difference.square().sum().item()
        self.norm += wanted.square().sum().item()
        worst = difference.abs().max().item()
        # A NaN must stay: max(0, nan) would lose it.
        self.maximum = worst if not worst <= self.maximum else self.maximum

    @property
    def rms(self):
        return (self.squares / self.norm) ** 0.5


def check_site(package, layer, step, arguments, device):
    tokens, heads = package.info["tokens"], package.info["heads"]
    scale = package.info["scale"]
    blocks = site_rows(package, layer, step, heads, device)
    q, k, v = inputs(package, arguments.batch, device, arguments.seed + 1000 * layer + step,
                     deviation=arguments.deviation)
    out = torch.full_like(q, torch.nan)
    _, lse = package.attention(q, k, v, layer=layer, step=step, out=out, lse=True)
    torch.cuda.synchronize()
    ours, theirs, lse_error = Errors(), Errors(), 0.0
    for head in range(heads):
        def mask(rows, head=head):
            first = rows.start // BLOCK
            kept = blocks[head, first:first + -(-(rows.stop - rows.start) // BLOCK)]
            return token_mask(kept, tokens)[: rows.stop - rows.start]
        one = slice(head, head + 1)
        # A repetitive head answers every query with its anchor's.
        asked = q[:, one]
        source = anchor_tokens(package, layer, head, step, device)
        if source is not None:
            asked = asked[:, :, source]
        other = sdpa(asked, k[:, one], v[:, one], mask, scale)
        for batch in range(arguments.batch):
            for rows in chunks(tokens):
                wanted, wanted_lse = reference(
                    asked[batch, 0], k[batch, head], v[batch, head], mask(rows), rows, scale)
                ours.add(out[batch, head, rows], wanted)
                theirs.add(other[batch, 0, rows], wanted)
                worst = (lse[batch, head, rows].double() - wanted_lse).abs().max().item()
                lse_error = worst if not worst <= lse_error else lse_error
    return {
        "package": package.path, "layer": layer, "step": step, "tokens": tokens,
        "head_dim": package.info["head_dim"], "heads": heads,
        "density": blocks.float().mean().item(),
        "rms": ours.rms, "sdpa_rms": theirs.rms, "rms_ratio": ours.rms / theirs.rms,
        "max": ours.maximum, "sdpa_max": theirs.maximum,
        "max_ratio": ours.maximum / theirs.maximum, "lse_max": lse_error,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("packages", nargs="+")
    parser.add_argument("--sites", type=int, default=4, help="(layer, step) pairs a package")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seed", type=int, default=None, help="default: fresh, and printed")
    parser.add_argument("--limit", type=float, default=1.15, help="times SDPA's relative RMS")
    parser.add_argument("--max-limit", type=float, default=2.0, help="times SDPA's maximum error")
    parser.add_argument("--deviation", type=float, default=1.5, help="of the logits")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--json", help="write the table here too")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("accuracy.py: torch finds no CUDA device", file=sys.stderr)
        return 2
    device = torch.device(arguments.device)
    torch.cuda.set_device(device)
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(2**31)
    print(f"seed {arguments.seed}, {gpu_state(device.index or 0).get('name', 'unknown GPU')}\n")
    print("| package | layer | step | density | rel. RMS | SDPA | ratio | max | SDPA | ratio | LSE max |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    rows, failed = [], False
    for path in arguments.packages:
        with calibatt.load(path) as package:
            pairs = [(layer, step) for layer in range(package.info["layers"])
                     for step in range(package.info["steps"])]
            random.Random(arguments.seed).shuffle(pairs)
            for layer, step in sorted(pairs[: arguments.sites]):
                row = check_site(package, layer, step, arguments, device)
                # Written so that a NaN fails.
                row["passed"] = (row["rms_ratio"] <= arguments.limit
                                 and row["max_ratio"] <= arguments.max_limit and row["lse_max"] < 1e-2)
                failed |= not row["passed"]
                rows.append(row)
                print(f"| {Path(path).name} | {layer} | {step} | {row['density']:.3f} "
                      f"| {row['rms']:.2e} | {row['sdpa_rms']:.2e} | {row['rms_ratio']:.2f} "
                      f"| {row['max']:.2e} | {row['sdpa_max']:.2e} | {row['max_ratio']:.2f} "
                      f"| {row['lse_max']:.1e} |{'' if row['passed'] else ' FAILED'}", flush=True)
    write_json(arguments.json, {"seed": arguments.seed, "limit": arguments.limit,
                                "versions": versions(), "rows": rows})
    print(f"\n{len(rows)} sites, {sum(not row['passed'] for row in rows)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
