#!/usr/bin/env python3
"""Calibrates attention of Wan's shape on a GPU, and checks what was counted against float64.

usage: calibrate.py PACKAGE --calibatt BIN --out DIR [--layers N] [--steps N] [--prompts N] [--device host]
PACKAGE is one of `calibatt compile --calibration`; its grid, heads and head_dim are what is calibrated,
with the Q and K of wan_qk.py. DIR gets wan-shapes.calib.safetensors, calibrate.json and calibrate.md.
Checked are what was measured of one (layer, step), every count, the profile's masks, and their kept
mass on a prompt that was not counted. Reported are the seconds of a call and of a prompt.
Exits 1 where a check fails. Needs torch, libcalibatt.so and libcalibatt_profile.so.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "runtime" / "python"), str(ROOT / "test" / "benchmark")]

import numpy
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import calibatt
import counted
import energy
from calibatt.energies import EnergySource, PackageEnergies
from masks import gpu_state, versions, write_json
from wan_qk import KINDS, SyntheticModel, kind_of

MODEL = "wan-shapes"
# Few steps stand for the 50 of the model: by the second, eps is all but at its end.
DECAY = 8.0
SITES_14B, CALLS_14B = 40 * 40 * 50, 40 * 50


class Checks:
    """What was checked; `good` while all of it was right."""

    def __init__(self):
        self.rows, self.good = [], True

    def at_most(self, what, value, limit):
        self._add(what, value, limit, value <= limit, "at most")  # false for NaN

    def at_least(self, what, value, limit):
        self._add(what, value, limit, value >= limit, "at least")

    def _add(self, what, value, limit, fine, how):
        self.good &= bool(fine)
        self.rows.append({"check": what, "value": float(value), how.replace(" ", "_"): float(limit),
                          "ok": bool(fine)})
        print(f"{'ok    ' if fine else 'FAILED'} {what:62} {value:.3g} ({how} {limit:.3g})", flush=True)


class Clock:
    """Seconds of what runs, the device's work included."""

    def __init__(self, device):
        self.device = torch.device(device)

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def __call__(self, work):
        self.wait()
        began = time.perf_counter()
        result = work()
        self.wait()
        return result, time.perf_counter() - began


class TimedPackage:
    """A package that keeps how long its kernels took."""

    def __init__(self, package, clock):
        self.info, self.path = package.info, package.path
        self._package, self._clock = package, clock
        self.seconds = []

    def energy(self, *arguments, **options):
        found, seconds = self._clock(lambda: self._package.energy(*arguments, **options))
        self.seconds.append(seconds)
        return found


class Watched(EnergySource):
    """Keeps how long every measurement took, its covers, and the last of all whole."""

    def __init__(self, source, clock):
        self._source, self._clock = source, clock
        self.seconds, self.covers, self.last = [], [], None

    def measure(self, *arguments):
        found, seconds = self._clock(lambda: self._source.measure(*arguments))
        self.seconds.append(seconds)
        self.covers.append(found.cover)
        self.last = found._replace(out=None)
        return found


def grid_of(info):
    return info["frames"], info["height"], info["width"]


def sigmas(steps):
    return [1 - step / steps for step in range(steps)]


def calibrate(package, model, path, arguments):
    """Counts prompts into `path`; (covers [prompt][layer, step], what was measured of the last layer and
    step [prompt], seconds)."""
    clock = Clock(model.device)
    timed = TimedPackage(package, clock)
    watched = Watched(PackageEnergies(timed), clock)
    observed, commits, covers, lasts, tensors = [], [], [], [], None
    late = min(0.796 + 1.41e-6 * package.info["tokens"], 0.99)
    with calibatt.Capture(
            path, model=MODEL, grid=grid_of(package.info), layers=arguments.layers,
            steps=[{"timestep": 1000 * s, "sigma": s} for s in sigmas(arguments.steps)],
            eps=(late, 0.99, DECAY), energies=watched, progress=False) as capture:
        for prompt in range(arguments.prompts):
            capture.begin(f"prompt {prompt}")
            watched.covers = []
            for step in range(arguments.steps):
                for layer in range(arguments.layers):
                    tensors = model.qkv(prompt, layer, step)
                    out, seconds = clock(lambda: capture.observe(*tensors, layer=layer, step=step))
                    observed.append(seconds)
                    if out is None or not torch.isfinite(out).all():
                        raise SystemExit(f"layer {layer}, step {step}: no output, or one that is not finite")
            _, seconds = clock(capture.finish)
            commits.append(seconds)
            lasts.append(watched.last)
            covers.append({(layer, step): watched.covers[step * arguments.layers + layer]
                           for layer in range(arguments.layers) for step in range(arguments.steps)})
        if capture.refused:
            raise SystemExit(f"refused: {capture.refused}")
    dense = [clock(lambda: dense_attention(*tensors))[1] for _ in range(4)][1:]
    median = statistics.median
    return covers, lasts, {
        "kernels": median(timed.seconds),
        "copy": median(m - k for m, k in zip(watched.seconds, timed.seconds)),
        "add": median(o - m for o, m in zip(observed, watched.seconds)),
        "call": median(observed), "calls": len(observed), "dense_attention": median(dense),
        "commit": median(commits), "sites": arguments.layers * arguments.steps * model.heads,
        "cpus": os.cpu_count(),
    }


def dense_attention(q, k, v):
    """PyTorch's, on a GPU by cuDNN, which raises where it cannot."""
    if q.device.type != "cuda":
        return F.scaled_dot_product_attention(q, k, v)
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return F.scaled_dot_product_attention(q, k, v)


def check_counts(selection, covers, lasts, profile, checks):
    """Every count is that of the covers, summed energies are those measured, and the profile is what they
    select."""
    blocks = selection.count.shape[-1]
    wrong = 0
    for layer, step in covers[0]:
        wanted = sum(
            (numpy.unpackbits(prompt[layer, step], axis=-1, bitorder="little")[..., :blocks]
             | numpy.eye(blocks, dtype=numpy.uint8)) for prompt in covers)
        wrong += (selection.count[layer, :, step] != wanted).sum()
    checks.at_most("counts that are not those of the covers", wrong, 0)
    energies = sum(measured.energies.astype(float) for measured in lasts)
    error = abs(selection.energy[-1, :, -1] / 2**24 - energies)
    # Off by at most 2^-12 of an energy and 2^-25 a prompt.
    checks.at_most("summed energies, error beyond that of rounding",
                   (error - energies / 2**12).max(), len(lasts) / 2**25)
    checks.at_most("density of the profile, maximum error",
                   abs(profile["density"] - selection.density).max(), 1e-6)
    checks.at_most("kept mass of the profile, maximum error",
                   abs(profile["kept_mass"] - selection.kept_mass).max(), 1e-6)


def check_measured(measured, info, epsilon, tensors, heads, checks):
    """What was counted of the first heads of one call with these Q, K and V, against float64."""
    checks.at_most("sums of rows, maximum distance from 1",
                   abs(measured.energies.sum(-1, dtype=float) - 1).max(), 2e-5)
    q, k, v = tensors
    worst = dict.fromkeys(("energies", "cover", "repetition", "row_max"), 0.0)
    for head in range(heads):
        energies, _, top, _ = energy.reference(q[0, head], k[0, head], v[0, head], info["scale"], False)
        energies = energies.cpu().numpy()
        cover = numpy.unpackbits(measured.cover[head], axis=-1, bitorder="little")[:, :info["blocks"]]
        errors = {"energies": abs(measured.energies[head] - energies).max(),
                  "cover": (cover != energy.minimum_covers(energies, epsilon)).mean(),
                  "row_max": abs(measured.row_max[head] - top.max().item())}
        if energy.has_repetition(info):
            score = energy.repetition_score(q[0, head], k[0, head], info)
            errors["repetition"] = abs(measured.repetition[head] - score)
        for name, error in errors.items():
            worst[name] = numpy.maximum(worst[name], error)  # NaN stays
    checks.at_most(f"energies of {heads} heads, maximum error", worst["energies"], 2e-5)
    checks.at_most("their covers, share of bits that differ", worst["cover"], 1e-3)
    checks.at_most("their repetition scores, maximum error", worst["repetition"], 5e-4)
    checks.at_most("their row maxima, maximum error", worst["row_max"], 1e-3)


def held_out(package, model, selection, heads, arguments, checks):
    """Kept mass of the masks on a prompt that was not counted [layers, heads, steps]."""
    tokens = package.info["tokens"]
    mass = numpy.zeros(selection.density.shape)
    worst = 0.0
    for layer in range(arguments.layers):
        for step in range(arguments.steps):
            q, k, v = model.qkv("held out", layer, step)
            energies = package.energy(q, k, v, energies=True).energies[0].double().cpu().numpy()
            mass[layer, :, step] = counted.kept_mass(energies, selection.kept[layer, :, step], tokens)
            for head in range(heads):
                exact = energy.reference(
                    q[0, head], k[0, head], v[0, head], package.info["scale"], False)[0].cpu().numpy()
                wanted = counted.kept_mass(exact, selection.kept[layer, head, step], tokens)
                worst = numpy.maximum(worst, abs(wanted - mass[layer, head, step]))
    checks.at_most(f"held-out kept mass of {heads} heads a layer, maximum error", worst, 1e-4)
    return mass


def tables(selection, profile, mass, epsilons):
    """Rows a (layer, step), and rows a kind of head."""
    layers, heads, steps = selection.density.shape

    def row(layer_slice, head_list, step_slice):
        where = numpy.ix_(layer_slice, head_list, step_slice)
        masked = ~selection.repetitive[where]

        def mean(values):
            return float(values[where][masked].mean()) if masked.any() else None

        return {"sites": int(masked.size), "repetitive": int((~masked).sum()),
                "density": mean(selection.density), "kept_mass": mean(profile["kept_mass"]),
                "held_out_kept_mass": mean(mass),
                "repetition": float(numpy.median(selection.scores[where]))}

    every = range(layers), range(heads), range(steps)
    return [{"layer": layer, "step": step, "epsilon": epsilons[step],
             **row([layer], every[1], [step])} for layer in every[0] for step in every[2]], [
        {"kind": kind, **row(every[0], [h for h in every[1] if kind_of(h) == kind], every[2])}
        for kind in KINDS if any(kind_of(h) == kind for h in every[1])]


def costs(seconds):
    """What the seconds come to for 14B: 40 layers x 40 heads x 50 steps of this grid."""
    commit = seconds["commit"] * SITES_14B / seconds["sites"]
    measuring = CALLS_14B * seconds["kernels"]
    counting = CALLS_14B * (seconds["copy"] + seconds["add"]) + commit
    dense = CALLS_14B * seconds["dense_attention"]
    return {"kernels_hours_a_prompt": measuring / 3600, "counting_hours_a_prompt": counting / 3600,
            "hours_a_prompt": (measuring + counting) / 3600, "dense_attention_hours_a_prompt": dense / 3600}


def number(value, places=3):
    return "" if value is None else f"{value:.{places}f}"


def markdown(report):
    state, seconds, cost = report["gpu"], report["seconds"], report["for_14b"]
    columns = ("sites", "repetitive", "density", "kept_mass", "held_out_kept_mass", "repetition")
    lines = [
        f"{state.get('name', 'the CPU')}, driver {state.get('driver_version', '?')}, torch "
        f"{report['versions']['torch']}, {seconds['cpus']} CPUs; {report['shape']}, "
        f"{report['prompts']} prompts. `{report['command']}`", "",
        "| of a call, median | ms |", "|---|---|",
        *(f"| {name} | {1000 * seconds[name]:.2f} |"
          for name in ("kernels", "copy", "add", "call", "dense_attention")), "",
        f"Commit of a prompt of {seconds['sites']} sites: {seconds['commit']:.2f} s.",
        f"80,000 sites of this grid: {cost['hours_a_prompt']:.4f} hours a prompt, of which "
        f"{cost['counting_hours_a_prompt']:.4f} are counting.", ""]
    for first, rows in ((("layer", "step", "epsilon"), report["table"]), (("kind",), report["kinds"])):
        titles = [name.replace("_", " ") for name in (*first, *columns)]
        lines += [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
        for row in rows:
            cells = [str(row[name]) if isinstance(row[name], (int, str)) else number(row[name])
                     for name in (*first, *columns)]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("package")
    parser.add_argument("--calibatt", type=Path, required=True, help="the program calibatt")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--reference-heads", type=int, default=len(KINDS))
    parser.add_argument("--device", choices=("cuda", "host"), default="cuda")
    arguments = parser.parse_args()
    device = "cpu" if arguments.device == "host" else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        print("calibrate.py: torch finds no CUDA device", file=sys.stderr)
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    profile_path = arguments.out / "wan-shapes.calib.safetensors"
    checks = Checks()
    with calibatt.load(arguments.package) as package, tempfile.TemporaryDirectory() as folder:
        info = package.info
        heads = min(arguments.reference_heads, info["heads"])
        model = SyntheticModel(grid_of(info), info["heads"], info["head_dim"], arguments.steps, device)
        counts = Path(folder, "wan-shapes.counts.safetensors")
        covers, lasts, seconds = calibrate(package, model, counts, arguments)
        subprocess.run([arguments.calibatt, "profile", "select", counts, "-o", profile_path], check=True)
        document, profile = counted.read(profile_path)
        selection = counted.Selection(counts, document["criterion"])
        with calibatt.counts.Counts(counts) as opened:
            epsilons = [opened.epsilon(step) for step in range(arguments.steps)]
        check_counts(selection, covers, lasts, profile, checks)
        tensors = model.qkv(arguments.prompts - 1, arguments.layers - 1, arguments.steps - 1)
        check_measured(lasts[-1], info, epsilons[-1], tensors, heads, checks)
        mass = held_out(package, model, selection, heads, arguments, checks)
        table, kinds = tables(selection, profile, mass, epsilons)
    masked = ~selection.repetitive
    checks.at_least("sites that are not repetitive", masked.sum(), 1)
    checks.at_most("held-out kept mass of masks, mean loss against counted prompts",
                   (profile["kept_mass"] - mass)[masked].mean(), 0.05)
    report = {
        "command": " ".join(sys.argv).replace(f"{ROOT}/", ""), "gpu": gpu_state() if device == "cuda" else {},
        "versions": versions(), "shape": f"{'x'.join(map(str, grid_of(info)))}, {info['heads']} heads of "
        f"{info['head_dim']}, {arguments.layers} layers, {arguments.steps} steps",
        "prompts": arguments.prompts, "seconds": seconds, "for_14b": costs(seconds),
        "table": table, "kinds": kinds, "checks": checks.rows}
    write_json(arguments.out / "calibrate.json", report)
    text = markdown(report)
    (arguments.out / "calibrate.md").write_text(text)
    print(text)
    return 0 if checks.good else 1


if __name__ == "__main__":
    sys.exit(main())
