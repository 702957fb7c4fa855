#!/usr/bin/env python3
"""Times packages on a GPU beside cuDNN's dense attention (through PyTorch SDPA) and an 8192^3 matrix
product, in the same run on the same tensors.

usage: bench_vs_cudnn.py M.calibatt... [--runs N] [--sites N] [--json FILE] [--markdown FILE]
TFLOP/s count the blocks that are computed: 4 * 128 * 128 * head_dim a visit; for the dense baseline
4 * tokens^2 * head_dim. Runs are interleaved, so that heat and clocks are shared; medians of CUDA
events. A package of few heads does not fill a GPU: time whole layers, or a --batch. Needs torch with CUDA and libcalibatt.so (CALIBATT_LIBRARY, or a build folder).
"""

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "runtime" / "python"))

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import calibatt
from masks import BLOCK, gpu_state, inputs, site_rows, versions, write_json

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


def bench_site(package, layer, step, arguments, device):
    info = package.info
    blocks = site_rows(package, layer, step, info["heads"], device)
    q, k, v = inputs(package, arguments.batch, device, 1)
    out = torch.empty_like(q)
    package.prewarm([step], device=str(device), batch=arguments.batch)
    a, b = (torch.randn(MATRIX, MATRIX, device=device, dtype=torch.bfloat16) for _ in range(2))

    def cudnn():
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=info["scale"])

    candidates = {
        "ours": lambda: package.attention(q, k, v, layer=layer, step=step, out=out),
        "cudnn": cudnn,
        "matmul": lambda: a @ b,
    }
    before = gpu_state(device.index or 0)
    times = interleaved(candidates, arguments.runs)
    after = gpu_state(device.index or 0)
    visits = blocks.sum().item() * arguments.batch
    flop = {
        "ours": 4 * BLOCK * BLOCK * info["head_dim"] * visits,
        "cudnn": 4 * info["tokens"] ** 2 * info["head_dim"] * info["heads"] * arguments.batch,
        "matmul": 2 * MATRIX**3,
    }
    rate = {name: flop[name] / (times[name][0] * 1e9) for name in times}
    return {
        "package": package.path, "layer": layer, "step": step, "tokens": info["tokens"],
        "heads": info["heads"], "batch": arguments.batch, "head_dim": info["head_dim"],
        "density": blocks.float().mean().item(), "visits": visits, "runs": arguments.runs,
        "milliseconds": times, "tflops": rate,
        "rate_over_cudnn": rate["ours"] / rate["cudnn"],
        "speedup_over_cudnn": times["cudnn"][0] / times["ours"][0],
        "gpu_before": before, "gpu_after": after,
    }


def markdown(rows, state):
    lines = [
        f"{state.get('name', 'unknown GPU')}, driver {state.get('driver_version', '?')}, "
        f"torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}; medians of "
        f"{rows[0]['runs'] if rows else 0} interleaved runs.", "",
        "| package | site | tokens | heads | density | ours ms | ours TFLOP/s | cuDNN dense ms "
        "| cuDNN TFLOP/s | rate ratio | speedup | matmul TFLOP/s | SM clock, power after |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ms, rate, after = row["milliseconds"], row["tflops"], row["gpu_after"]
        lines.append(
            f"| {Path(row['package']).name} | {row['layer']}/{row['step']} | {row['tokens']} "
            f"| {row['batch']}x{row['heads']} | {row['density']:.3f} | {ms['ours'][0]:.3f} "
            f"| {rate['ours']:.0f} | {ms['cudnn'][0]:.3f} | {rate['cudnn']:.0f} "
            f"| {row['rate_over_cudnn']:.2f} | {row['speedup_over_cudnn']:.2f} "
            f"| {rate['matmul']:.0f} | {after.get('clocks.sm', '?')}, {after.get('power.draw', '?')} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("packages", nargs="+")
    parser.add_argument("--sites", type=int, default=2, help="(layer, step) pairs a package")
    parser.add_argument("--runs", type=int, default=30, help="timed runs, at least 20")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--json", help="write the rows here too")
    parser.add_argument("--markdown", help="write the table here too")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("bench_vs_cudnn.py: torch finds no CUDA device", file=sys.stderr)
        return 2
    arguments.runs = max(arguments.runs, 20)
    device = torch.device(arguments.device)
    torch.cuda.set_device(device)
    rows = []
    for path in arguments.packages:
        with calibatt.load(path) as package:
            layers, steps = package.info["layers"], package.info["steps"]
            pairs = [(layer, step) for step in range(steps) for layer in range(layers)]
            # Spread over the steps, the first (densest) among them.
            every = max(1, len(pairs) // arguments.sites)
            for layer, step in pairs[::every][: arguments.sites]:
                rows.append(bench_site(package, layer, step, arguments, device))
                torch.cuda.empty_cache()
    table = markdown(rows, gpu_state(device.index or 0))
    print(table)
    write_json(arguments.json, {"versions": versions(), "rows": rows})
    if arguments.markdown:
        Path(arguments.markdown).write_text(table + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
