#!/usr/bin/env python3
"""Runs attention of Wan's shape from the package of a profile that calibrate.py made.

usage: calibrate_use.py PACKAGE [--runs N] [--device host] [--json FILE] [--markdown FILE]
On the Q, K and V of a prompt that was not counted: how far the outputs are from dense attention's
(relative RMS, a kind of head), and how long they take beside it (cuDNN's on a GPU; shuffled rounds, medians).
`calibatt verify` says whether the outputs are right; here they must be finite, and none of them dense.
"""

import argparse
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "runtime" / "python"), str(ROOT / "test" / "benchmark")]

import torch

import calibatt
from calibrate import Checks, Clock, dense_attention, grid_of, number
from masks import gpu_state, site_rows, site_visits, versions, write_json
from rounds import shuffled, summary
from wan_qk import KINDS, SyntheticModel, kind_of


def milliseconds(candidates, runs, device):
    """Median of each, one run of each a round."""
    if device == "cuda":
        return {name: summary(times)[0] for name, times in shuffled(candidates, runs, 0).items()}
    clock = Clock(device)
    seconds = {name: [] for name in candidates}
    for _ in range(runs):
        for name, work in candidates.items():
            seconds[name].append(clock(work)[1])
    return {name: 1000 * statistics.median(times) for name, times in seconds.items()}


def relative(error, norm):
    return float((error.sum() / norm.sum()) ** 0.5)


def run_site(package, model, layer, step, arguments, device, checks):
    """A row of the table, and [heads] squared error and norm of the outputs."""
    q, k, v = model.qkv("held out", layer, step)
    package.prewarm([step], device=arguments.place)
    out = package.attention(q, k, v, layer=layer, step=step)
    wanted = dense_attention(q, k, v)
    checks.at_most(f"layer {layer}, step {step}: elements that are not finite",
                   (~torch.isfinite(out)).sum().item(), 0)
    error = (out[0].double() - wanted[0].double()).square().sum((1, 2)).cpu()
    norm = wanted[0].double().square().sum((1, 2)).cpu()
    times = milliseconds({
        "package": lambda: package.attention(q, k, v, layer=layer, step=step, out=out),
        "dense": lambda: dense_attention(q, k, v)}, arguments.runs, device)
    rows = site_rows(package, layer, step, model.heads, "cpu")
    blocks = package.info["blocks"]
    return {"layer": layer, "step": step, "relative_rms_error": relative(error, norm),
            "work": site_visits(package, layer, step, rows) / (model.heads * blocks**2),
            "package_ms": times["package"], "dense_ms": times["dense"],
            "time_over_dense": times["package"] / times["dense"]}, error, norm


def markdown(report):
    state = report["gpu"]
    lines = [f"{state.get('name', 'the CPU')}, driver {state.get('driver_version', '?')}, torch "
             f"{report['versions']['torch']}; medians of {report['runs']} rounds in shuffled order. "
             f"`{report['command']}`", "",
             "| layer | step | work | relative RMS error | ms | dense ms | time / dense |", "|---" * 7 + "|"]
    for row in report["table"]:
        lines.append(
            f"| {row['layer']} | {row['step']} | {number(row['work'])} "
            f"| {number(row['relative_rms_error'], 4)} | {number(row['package_ms'], 2)} "
            f"| {number(row['dense_ms'], 2)} | {number(row['time_over_dense'])} |")
    lines += ["", "| kind of head | relative RMS error |", "|---|---|"]
    lines += [f"| {kind} | {number(error, 4)} |" for kind, error in report["kinds"].items()]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("package")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--device", choices=("cuda", "host"), default="cuda")
    parser.add_argument("--json", help="write the results here too")
    parser.add_argument("--markdown", help="write the tables here too")
    arguments = parser.parse_args()
    device = "cpu" if arguments.device == "host" else "cuda"
    arguments.place = "host" if device == "cpu" else "cuda:0"
    if device == "cuda" and not torch.cuda.is_available():
        print("calibrate_use.py: torch finds no CUDA device", file=sys.stderr)
        return 2
    checks, table, errors, norms = Checks(), [], [], []
    with calibatt.load(arguments.package) as package:
        info = package.info
        model = SyntheticModel(grid_of(info), info["heads"], info["head_dim"], info["steps"], device)
        for layer in range(info["layers"]):
            for step in range(info["steps"]):
                row, error, norm = run_site(package, model, layer, step, arguments, device, checks)
                table.append(row)
                errors.append(error)
                norms.append(norm)
        stats = list(package.stats().values())
    calls, fallbacks = (sum(session[name] for session in stats) for name in ("calls", "dense_fallbacks"))
    checks.at_least("calls of the package", calls, len(table) * (1 + arguments.runs))
    checks.at_most("dense fallbacks", fallbacks, 0)
    error, norm = torch.stack(errors), torch.stack(norms)
    kinds = {}
    for kind in KINDS:
        heads = [head for head in range(info["heads"]) if kind_of(head) == kind]
        if heads:
            kinds[kind] = relative(error[:, heads], norm[:, heads])
    report = {"command": " ".join(sys.argv).replace(f"{ROOT}/", ""), "gpu": gpu_state() if device == "cuda" else {},
              "versions": versions(), "runs": arguments.runs, "calls": calls, "dense_fallbacks": fallbacks,
              "relative_rms_error": relative(error, norm), "table": table, "kinds": kinds,
              "checks": checks.rows}
    write_json(arguments.json, report)
    text = markdown(report)
    if arguments.markdown:
        Path(arguments.markdown).write_text(text)
    print(text)
    return 0 if checks.good else 1


if __name__ == "__main__":
    sys.exit(main())
