#!/usr/bin/env python3
"""Times packages on a GPU beside cuDNN's dense attention (through PyTorch SDPA), FlexAttention with the
same block masks, and an 8192^3 matrix product, in the same run on the same tensors.

usage: compare.py M.calibatt... [--site LAYER/STEP]... [--runs N] [--flex] [--json FILE] [--markdown FILE]
Packages of one problem (tokens, heads, head_dim) and one mask at the site are timed side by side: that
is how two compiles of one profile are compared. TFLOP/s count the blocks that are computed,
4 * 128 * 128 * head_dim a visit; for the dense baseline 4 * tokens^2 * head_dim. Runs are interleaved, so
that heat and clocks are shared; medians of CUDA events. A package of few heads does not fill a GPU: time
whole layers, or a --batch. Needs torch with CUDA and libcalibatt.so (CALIBATT_LIBRARY, or a build folder).
"""

import argparse
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "runtime" / "python"), str(ROOT / "test" / "gpu")]

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import calibatt
from masks import BLOCK, gpu_state, inputs, site_rows, site_visits, versions, write_json

WARM_UP = 5
MATRIX = 8192


def interleaved(candidates, runs):
    """Median, minimum and maximum milliseconds of each candidate; one run of each per round."""
    for _ in range(WARM_UP):
        for run in candidates.values():
            run()
    torch.cuda.synchronize()
    events = {name: [] for name in candidates}
    for _ in range(runs):
        for name, run in candidates.items():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run()
            end.record()
            events[name].append((begin, end))
    torch.cuda.synchronize()
    times = {name: [b.elapsed_time(e) for b, e in pairs] for name, pairs in events.items()}
    return {name: (statistics.median(t), min(t), max(t)) for name, t in times.items()}


def flex(q, k, v, blocks, scale):
    """FlexAttention over the same blocks, compiled; every kept block is a full block to it."""
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    counts = blocks.sum(-1, dtype=torch.int32)[None]
    indices = blocks.to(torch.int8).argsort(dim=-1, descending=True, stable=True).to(torch.int32)[None]
    tokens = q.shape[2]
    mask = BlockMask.from_kv_blocks(
        torch.zeros_like(counts), torch.zeros_like(indices), counts.contiguous(),
        indices.contiguous(), BLOCK_SIZE=BLOCK, seq_lengths=(tokens, tokens))
    run = torch.compile(flex_attention)
    return lambda: run(q, k, v, block_mask=mask, scale=scale)


def bench_site(packages, layer, step, arguments, device):
    """Rows of the table: every package, cuDNN, the matrix product, and FlexAttention where asked."""
    first = next(iter(packages.values()))
    info = first.info
    blocks = site_rows(first, layer, step, info["heads"], device)
    q, k, v = inputs(first, arguments.batch, device, 1)
    out = torch.empty_like(q)
    a, b = (torch.randn(MATRIX, MATRIX, device=device, dtype=torch.bfloat16) for _ in range(2))

    def cudnn():
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):  # raises where cuDNN cannot run it
            torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=info["scale"])

    candidates = {}
    for name, package in packages.items():
        package.prewarm([step], device=str(device), batch=arguments.batch)
        candidates[name] = (
            lambda package=package: package.attention(q, k, v, layer=layer, step=step, out=out))
    candidates["cuDNN dense"] = cudnn
    if arguments.flex:
        candidates["FlexAttention"] = flex(q, k, v, blocks, info["scale"])
    candidates[f"matmul {MATRIX}^3"] = lambda: a @ b
    before = gpu_state(device.index or 0)
    times = interleaved(candidates, arguments.runs)
    after = gpu_state(device.index or 0)
    # Of two packages with one mask one may compute anchor rows only.
    visits = {name: site_visits(package, layer, step, blocks) * arguments.batch
              for name, package in packages.items()}
    visits["FlexAttention"] = blocks.sum().item() * arguments.batch
    flop = {name: 4 * BLOCK * BLOCK * info["head_dim"] * count for name, count in visits.items()}
    dense = 4 * info["tokens"] ** 2 * info["head_dim"] * info["heads"] * arguments.batch
    flop |= {"cuDNN dense": dense, f"matmul {MATRIX}^3": 2 * MATRIX**3}
    rate = {name: flop[name] / (times[name][0] * 1e9) for name in times}
    return [{
        "name": name, "layer": layer, "step": step, "tokens": info["tokens"],
        "heads": info["heads"], "batch": arguments.batch, "head_dim": info["head_dim"],
        "density": blocks.float().mean().item(), "visits": visits.get(name), "runs": arguments.runs,
        "milliseconds": times[name], "tflops": rate[name],
        "rate_over_cudnn": rate[name] / rate["cuDNN dense"],
        "speedup_over_cudnn": times["cuDNN dense"][0] / times[name][0],
        "gpu_before": before, "gpu_after": after,
    } for name in candidates]


def markdown(rows, state):
    lines = [
        f"{state.get('name', 'unknown GPU')} ({state.get('uuid', 'no uuid')[:12]}), "
        f"driver {state.get('driver_version', '?')}, "
        f"torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}; medians of "
        f"{rows[0]['runs'] if rows else 0} interleaved runs.", ""]
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
                "| | ms (min..max) | TFLOP/s | rate / cuDNN | time: cuDNN / this |",
                "|---|---|---|---|---|"]
        median, least, most = row["milliseconds"]
        lines.append(f"| {row['name']} | {median:.3f} ({least:.3f}..{most:.3f}) | {row['tflops']:.0f} "
                     f"| {row['rate_over_cudnn']:.3f} | {row['speedup_over_cudnn']:.2f} |")
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
    parser.add_argument("--flex", action="store_true", help="FlexAttention too (torch.compile)")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--json", help="write the rows here too")
    parser.add_argument("--markdown", help="write the table here too")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("compare.py: torch finds no CUDA device", file=sys.stderr)
        return 2
    arguments.runs = max(arguments.runs, 20)
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
