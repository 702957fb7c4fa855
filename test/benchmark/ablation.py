#!/usr/bin/env python3
"""What unrolling costs and brings: every form at both granularities over four sizes of masks.

usage: ablation.py prepare BUILD OUT           compiles the cells (no GPU); OUT/ablation.json and packages
       ablation.py run OUT [--markdown FILE]   times them on a GPU, beside ablation.json
Cells whose predicted compile time is over --seconds (a kernel: the cost model's, from a dry run) are not
compiled but printed as refused, with predicted bytes and seconds. `run` takes medians of 30 graphs of
10 calls, all launches of the step in each, the cells of a size in turns, and from ncu, where it is, how
many warps an issue slot finds stalled for want of an instruction (`--calibatt BINARY` names the tool that
ncu runs; without it there are no stalls).
"""

import argparse
import json
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FORMS = ("full", "schedule", "runs", "table")
CALLS, WARM_UP, TURNS = 10, 5, 30
STALL = "smsp__average_warps_issue_stalled_no_instruction_per_issue_active.ratio"

# Name, blocks a side, how the masks are made: make_masks.py arguments, or a preset.
SIZES = (
    ("4", "420 tokens, 8 heads, random 50 %", ["--grid", "3", "7", "20", "--heads", "8", "--keep", "0.5"]),
    ("32", "4,096 tokens, 8 heads, random 25 %",
     ["--grid", "8", "16", "32", "--heads", "8", "--keep", "0.25"]),
    ("256", "32,760 tokens, 8 heads of the 480p preset", "wan2.1-14b-480p"),
    ("591", "75,600 tokens, 4 heads of the 720p preset", "wan2.1-14b-720p"),
)


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"ablation.py: {' '.join(map(str, command))} failed:\n{done.stderr}")
    return done.stdout


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def make_profile(calibatt, out, size, how):
    profile = out / f"{size}.calib.safetensors"
    if profile.exists():
        return profile
    if isinstance(how, str):
        heads = "8" if size == "256" else "4"
        run([calibatt, "profile", "synth", "--preset", how, "--layers", "1", "--steps", "1",
             "--heads", heads, "-o", profile])
    else:
        masks = out / f"{size}.masks"
        run([sys.executable, ROOT / "test/benchmark/make_masks.py", masks, *how])
        run([calibatt, "profile", "import", masks, "-o", profile])
        masks.unlink()
    return profile


def prepare(arguments):
    calibatt = Path(arguments.build) / "bin" / "calibatt"
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    cells = []
    for size, what, how in SIZES:
        profile = make_profile(calibatt, out, size, how)
        for granularity in ("head", "step"):
            for form in FORMS:
                options = ["--form", form, "--granularity", granularity]
                dry = json.loads(run([calibatt, "compile", profile, "--dry-run", "--json", *options]))
                images = [image for image in dry["code_images"] if image["form"] == form]
                cell = {"size": size, "masks": what, "granularity": granularity, "form": form,
                        "images": len(images),
                        "predicted_bytes": sum(image["predicted_code_bytes"] for image in images),
                        "predicted_seconds": sum(image["predicted_compile_s"] for image in images)}
                longest = max(image["predicted_compile_s"] for image in images)
                cells.append(cell)
                cell["refused"] = longest > arguments.seconds or cell["predicted_seconds"] > 3 * arguments.seconds
                if not cell["refused"]:
                    package = out / f"{size}-{granularity}-{form}.calibatt"
                    begin = cpu_seconds()
                    report = json.loads(run([calibatt, "compile", profile, "-o", package, "--json",
                                             "--no-cache", *options]))
                    images = [image for image in report["code_images"] if image["form"] == form]
                    cell |= {"package": package.name, "cpu_seconds": cpu_seconds() - begin,
                             "code_bytes": sum(image["code_bytes"] for image in images),
                             "data_bytes": report["data_bytes"]}
                print(f"{size:>4} {granularity} {form:9}", "refused" if cell["refused"] else
                      f"{cell['cpu_seconds']:.1f} s, {cell['code_bytes']} bytes", flush=True)
    (out / "ablation.json").write_text(json.dumps({"cells": cells}, indent=2) + "\n")


def stalls(calibatt, package):
    """Warps stalled for want of an instruction, per issue, of the first kernel; None without ncu."""
    ncu = shutil.which("ncu")
    if not ncu or not calibatt:
        return None
    done = subprocess.run(
        [ncu, "--metrics", STALL, "--kernel-name", "regex:calibatt", "--launch-skip", "2",
         "--launch-count", "1", "--cache-control", "none", calibatt, "bench", package, "--layer", "0",
         "--step", "0", "--runs", "1"], capture_output=True, text=True, timeout=120)
    found = re.search(rf"{re.escape(STALL)}\s+\S*\s+([0-9.]+)", done.stdout)
    return float(found.group(1)) if found else None


def measure(arguments):
    sys.path[:0] = [str(ROOT / "runtime" / "python"), str(ROOT / "test" / "gpu")]
    import torch

    from masks import gpu_state, versions

    out = Path(arguments.out)
    content = json.loads((out / "ablation.json").read_text())
    for size, _, _ in SIZES:
        cells = [cell for cell in content["cells"] if cell["size"] == size and not cell["refused"]]
        time_interleaved(cells, out, torch.device("cuda:0"))
        for cell in cells:
            cell["stalls"] = stalls(arguments.calibatt, out / cell["package"])
    content |= {"gpu": gpu_state(0), "versions": versions()}
    table = markdown(content)
    print(table)
    (out / "ablation.json").write_text(json.dumps(content, indent=2) + "\n")
    if arguments.markdown:
        Path(arguments.markdown).write_text(table + "\n")


def time_interleaved(cells, out, device):
    """Medians of the cells' calls. They take turns, in shuffled order: a clock that changes changes it for all. A turn is a
    captured graph of CALLS calls, so that small ones are not timed by how fast Python is."""
    import torch

    import calibatt
    from masks import inputs

    packages = [calibatt.load(out / cell["package"]) for cell in cells]
    q, k, v = inputs(packages[0], 1, device, 1)
    o = torch.empty_like(q)
    graphs = []
    for package in packages:
        package.prewarm([0], device=str(device), batch=1)
        package.attention(q, k, v, layer=0, step=0, out=o)
        torch.cuda.synchronize()
        graphs.append(torch.cuda.CUDAGraph())
        with torch.cuda.graph(graphs[-1]):
            for _ in range(CALLS):
                package.attention(q, k, v, layer=0, step=0, out=o)
    events = [[] for _ in cells]
    turns, generator = list(zip(graphs, events)), random.Random(0)
    for turn in range(WARM_UP + TURNS):
        generator.shuffle(turns)  # rounds.py says why
        for graph, times in turns:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            graph.replay()
            end.record()
            if turn >= WARM_UP:
                times.append((begin, end))
    torch.cuda.synchronize()
    for cell, package, times in zip(cells, packages, events):
        cell["microseconds"] = statistics.median(b.elapsed_time(e) for b, e in times) * 1e3 / CALLS
    del graphs
    for package in packages:
        package.close()


def markdown(content):
    gpu = content["gpu"]
    lines = [f"{gpu.get('name', 'unknown GPU')}, driver {gpu.get('driver_version', '?')}; medians of "
             f"{TURNS} graphs of {CALLS} calls, in turns; code of all images of the form; compile: CPU seconds "
             "of the whole compile; stalls: warps waiting for an instruction, per issue (ncu)."]
    size = None
    for cell in content["cells"]:
        if cell["size"] != size:
            size = cell["size"]
            lines += ["", f"{size} x {size} blocks: {cell['masks']}", "",
                      "| granularity | form | images | time, us | code, KB | schedule data, KB | compile, s | stalls |",
                      "|---|---|---|---|---|---|---|---|"]
        head = f"| {cell['granularity']} | {cell['form']} | {cell['images']} "
        if cell["refused"]:
            lines.append(f"{head}| refused | predicted {cell['predicted_bytes'] / 1e3:,.0f} | | predicted "
                         f"{cell['predicted_seconds']:,.0f} | |")
        else:
            stall = "-" if cell.get("stalls") is None else f"{cell['stalls']:.2f}"
            lines.append(f"{head}| {cell['microseconds']:.1f} | {cell['code_bytes'] / 1e3:,.0f} "
                         f"| {cell['data_bytes'] / 1e3:,.1f} | {cell['cpu_seconds']:.1f} | {stall} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True)
    make = commands.add_parser("prepare")
    make.add_argument("build")
    make.add_argument("out")
    make.add_argument("--seconds", type=float, default=120, help="most predicted seconds a kernel")
    make.set_defaults(command=prepare)
    time_them = commands.add_parser("run")
    time_them.add_argument("out")
    time_them.add_argument("--calibatt", help="the calibatt tool, for ncu")
    time_them.add_argument("--markdown", help="write the table here too")
    time_them.set_defaults(command=measure)
    arguments = parser.parse_args()
    arguments.command(arguments)


if __name__ == "__main__":
    main()
