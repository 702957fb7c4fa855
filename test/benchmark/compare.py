#!/usr/bin/env python3
"""Times packages on a GPU beside cuDNN's dense attention (through PyTorch SDPA), an 8192^3 matrix product, and
what `--with` names, in the same run on the same tensors: fa3 (FlashAttention-3, dense; fa3-fwd of PyPI), fa4
(FlashAttention-4's block-sparse path, same blocks; flash-attn-4 of PyPI), flex (FlexAttention, same blocks).

usage: compare.py M.calibatt... [--site LAYER/STEP]... [--runs N] [--seed N] [--with fa3,fa4,flex]
                  [--json FILE] [--markdown FILE]
Packages of one problem (tokens, heads, head_dim) and one mask at the site are timed side by side: that
is how two compiles of one profile are compared. TFLOP/s count the blocks that are computed,
4 * 128 * 128 * head_dim a visit; for the dense baselines 4 * tokens^2 * head_dim. Every round runs each once, in
an order shuffled with the seed; then each runs alone for half a second (rounds.py says why). Medians of CUDA
events. Outputs are compared with ours first. A package of few heads does not fill a GPU: time whole layers, or
a --batch. Needs torch with CUDA and libcalibatt.so (CALIBATT_LIBRARY, or a build folder).
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "runtime" / "python"), str(ROOT / "test" / "gpu")]

import torch

import calibatt
import rivals
import rounds
from masks import BLOCK, gpu_state, inputs, site_rows, site_visits, versions, write_json

MATRIX = 8192
#: What `--with` names: label, function, and whether it takes the blocks.
RIVALS = {
    "fa3": ("FlashAttention-3 dense", rivals.flash_attention_3, False),
    "fa4": ("FlashAttention-4", rivals.flash_attention_4, True),
    "flex": ("FlexAttention", rivals.flex, True),
}


def candidates_of(packages, layer, step, blocks, arguments, device):
    """{name: function}: every package, cuDNN, what `--with` names, and the matrix product."""
    first = next(iter(packages.values()))
    scale = first.info["scale"]
    q, k, v = inputs(first, arguments.batch, device, 1)
    candidates = {}
    for name, package in packages.items():
        package.prewarm([step], device=str(device), batch=arguments.batch)
        candidates[name] = lambda package=package, out=torch.empty_like(q): package.attention(
            q, k, v, layer=layer, step=step, out=out)
    candidates["cuDNN dense"] = rivals.cudnn(q, k, v, scale)
    for word in arguments.rivals:
        label, make, masked = RIVALS[word]
        candidates[label] = make(q, k, v, scale, *([blocks] if masked else []))
    a, b = (torch.randn(MATRIX, MATRIX, device=device, dtype=torch.bfloat16) for _ in range(2))
    candidates[f"matmul {MATRIX}^3"] = lambda: a @ b
    return candidates


def differences(candidates, copying, ours, whole):
    """{name: relative RMS difference of its output from that of `ours`}, of those that compute the same: not of
    packages that are `copying` rows, of dense attention where `whole`, every block, is kept."""
    wanted = candidates[ours]().float()
    found = {}
    for name, run in candidates.items():
        if name not in copying and "matmul" not in name and (whole or not name.endswith("dense")):
            found[name] = ((run().float() - wanted).norm() / wanted.norm()).item()
    return found


def bench_site(packages, layer, step, arguments, device):
    """Rows of the table."""
    first = next(iter(packages.values()))
    info = first.info
    blocks = site_rows(first, layer, step, info["heads"], device)
    # Of two packages with one mask one may compute anchor rows only.
    visits = {name: site_visits(package, layer, step, blocks) for name, package in packages.items()}
    kept = blocks.sum().item()
    candidates = candidates_of(packages, layer, step, blocks, arguments, device)
    copying = [name for name, count in visits.items() if count != kept]  # repetitive heads
    ours = next((name for name in packages if name not in copying), next(iter(packages)))
    unlike = {} if ours in copying else differences(candidates, copying, ours, kept == blocks.numel())
    before = gpu_state(device.index or 0)
    times = rounds.shuffled(candidates, arguments.runs, arguments.seed)
    alone = {name: rounds.alone(run) for name, run in candidates.items()}
    after = gpu_state(device.index or 0)
    flop = {name: 4 * BLOCK * BLOCK * info["head_dim"] * visits.get(name, kept) * arguments.batch
            for name in candidates}
    dense = 4 * info["tokens"] ** 2 * info["head_dim"] * info["heads"] * arguments.batch
    flop |= {name: dense for name in candidates if name.endswith("dense")}
    flop[f"matmul {MATRIX}^3"] = 2 * MATRIX**3
    shown = {name: rounds.summary(series) for name, series in times.items()}
    lonely = {name: rounds.summary(series) for name, series in alone.items()}
    rate = {name: flop[name] / (shown[name][0] * 1e9) for name in shown}
    return [{
        "name": name, "layer": layer, "step": step, "tokens": info["tokens"],
        "heads": info["heads"], "batch": arguments.batch, "head_dim": info["head_dim"],
        "density": blocks.float().mean().item(), "visits": visits.get(name), "runs": arguments.runs,
        "seed": arguments.seed, "milliseconds": shown[name], "milliseconds_alone": lonely[name],
        "tflops": rate[name], "rate_over_cudnn": rate[name] / rate["cuDNN dense"],
        "time_over_ours": shown[name][0] / shown[ours][0],
        "time_over_ours_alone": lonely[name][0] / lonely[ours][0],
        "difference": unlike.get(name), "gpu_before": before, "gpu_after": after,
    } for name in candidates]


def markdown(rows, state):
    lines = [
        f"{state.get('name', 'unknown GPU')} ({state.get('uuid', 'no uuid')[:12]}), "
        f"driver {state.get('driver_version', '?')}, "
        f"torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}; medians of "
        f"{rows[0]['runs'] if rows else 0} rounds in shuffled order (seed "
        f"{rows[0]['seed'] if rows else 0}), and of half a second alone.", ""]
    place = None
    for row in rows:
        here = (row["tokens"], row["batch"], row["heads"], row["layer"], row["step"], row["density"])
        if here != place:
            place, after = here, row["gpu_after"]
            lines += [
                "", f"{row['tokens']} tokens, {row['batch']}x{row['heads']} heads of "
                f"{row['head_dim']}, layer {row['layer']}, step {row['step']}, density "
                f"{row['density']:.3f}; after: SM clock {after.get('clocks.sm', '?')}, "
                f"{after.get('power.draw', '?')}, throttle reasons "
                f"{after.get('clocks_throttle_reasons.active', '?')}", "",
                "| | ms (min..max) | alone, ms | TFLOP/s | rate / cuDNN | time: this / ours | alone "
                "| differs from ours |",
                "|---|---|---|---|---|---|---|---|"]
        median, least, most = row["milliseconds"]
        unlike = "-" if row["difference"] is None else f"{row['difference']:.1e}"
        lines.append(f"| {row['name']} | {median:.3f} ({least:.3f}..{most:.3f}) "
                     f"| {row['milliseconds_alone'][0]:.3f} | {row['tflops']:.0f} "
                     f"| {row['rate_over_cudnn']:.3f} | {row['time_over_ours']:.2f} "
                     f"| {row['time_over_ours_alone']:.2f} | {unlike} |")
    return "\n".join(lines)


def groups(packages, sites):
    """Sets of packages with one problem and one mask at a site: ({name: package}, layer, step)."""
    found = {}
    for name, package in packages.items():
        info = package.info
        for layer, step in sites or [(0, 0)]:
            if layer >= info["layers"] or step >= info["steps"]:
                continue
            bits = b"".join(package.site_mask_bits(layer, h, step) for h in range(info["heads"]))
            key = (info["tokens"], info["heads"], info["head_dim"], layer, step, bits)
            found.setdefault(key, {})[name] = package
    return [(members, key[3], key[4]) for key, members in found.items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("packages", nargs="+")
    parser.add_argument("--site", action="append", default=[], metavar="LAYER/STEP",
                        help="default: 0/0; sites a package does not have are left out")
    parser.add_argument("--runs", type=int, default=30, help="timed runs, at least 20")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the order in the rounds")
    parser.add_argument("--with", dest="rivals", default="", metavar="fa3,fa4,flex",
                        help="other kernels to time beside ours")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--json", help="write the rows here too")
    parser.add_argument("--markdown", help="write the table here too")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("compare.py: torch finds no CUDA device", file=sys.stderr)
        return 2
    arguments.runs = max(arguments.runs, 20)
    arguments.rivals = [word for word in arguments.rivals.split(",") if word]
    if unknown := set(arguments.rivals) - set(RIVALS):
        print(f"compare.py: --with {', '.join(sorted(unknown))}: wanted {', '.join(RIVALS)}", file=sys.stderr)
        return 2
    device = torch.device(arguments.device)
    torch.cuda.set_device(device)
    packages = {Path(path).stem: calibatt.load(path) for path in arguments.packages}
    sites = [tuple(int(part) for part in site.split("/")) for site in arguments.site]
    rows = []
    for members, layer, step in groups(packages, sites):
        rows += bench_site(members, layer, step, arguments, device)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    table = markdown(rows, gpu_state(device.index or 0))
    print(table)
    write_json(arguments.json, {"versions": versions(), "rows": rows})
    if arguments.markdown:
        Path(arguments.markdown).write_text(table + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
