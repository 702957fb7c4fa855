#!/usr/bin/env python3
"""Calibrates a tiny Wan pipeline of diffusers by the CPU and by kernels, and runs it from a package.

usage: calibrate_pipeline.py prepare OUT --calibatt BIN
       calibrate_pipeline.py run OUT --calibatt BIN [--device host] [--json FILE]
`prepare` draws the weights of examples/diffusers/tiny_wan.py, calibrates them on the CPU and compiles
what was found: OUT gets tiny-wan.pt, tiny-wan.calib.safetensors and tiny-wan.calibatt. `run` counts the
same prompts by CpuEnergies and by PackageEnergies on OUT/calibration-tiny.calibatt, which must agree,
and runs a prompt that was not counted from tiny-wan.calibatt. Exits 1 where a check fails, 77 without
torch and diffusers.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("runtime/python", "examples/diffusers", "test/benchmark")]

try:
    import numpy
    import torch
    from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

    import tiny_wan
except ImportError as error:
    print(f"skipped: torch and diffusers are not installed ({error})")
    sys.exit(77)

import calibatt
import calibatt.diffusers
import counted
from calibatt.energies import CpuEnergies, EnergySource, PackageEnergies
from calibrate import Checks
from masks import gpu_state, versions, write_json
from wan_qk import rotary_angles

PROMPTS = ["a cat on a roof", "waves at night", "a street in the rain"]
HELD_OUT = "a dog in the snow"


class Beside(EnergySource):
    """Measures by a package, and how far the CPU is from it on the same Q and K."""

    def __init__(self, package):
        self._kernels, self._cpu = PackageEnergies(package), CpuEnergies()
        self.calls = 0
        self.worst = dict.fromkeys(("energies", "repetition", "row_max"), 0.0)

    def measure(self, *arguments):
        found, wanted = (source.measure(*arguments) for source in (self._kernels, self._cpu))
        self.calls += 1
        for name, worst in self.worst.items():
            difference = abs(getattr(found, name) - getattr(wanted, name)).max()
            self.worst[name] = float(numpy.maximum(worst, difference))  # NaN stays
        return found


def video(pipe, prompt, seed):
    """The latents of a prompt, in float32."""
    with torch.no_grad():
        made = pipe(prompt, generator=torch.Generator().manual_seed(seed), **tiny_wan.CALL).frames
    return made.float()


def calibrate(pipe, counts, energies):
    with calibatt.diffusers.calibrate(pipe, counts, energies=energies, progress=False) as calibration:
        for seed, prompt in enumerate(PROMPTS):
            with calibration.prompt(prompt):
                video(pipe, prompt, seed)
        if calibration.refused:
            raise SystemExit(f"refused: {calibration.refused}")


def prepare(out, calibatt_program):
    pipe = tiny_wan.tiny_wan_pipeline()
    # Numbers are drawn otherwise by other processors; the package is of these weights.
    torch.save(pipe.transformer.state_dict(), out / "tiny-wan.pt")
    profile = out / "tiny-wan.calib.safetensors"
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder, "tiny-wan.counts.safetensors")
        calibrate(pipe, counts, None)
        subprocess.run([calibatt_program, "profile", "select", counts, "-o", profile], check=True)
    subprocess.run([calibatt_program, "compile", profile, "-o", out / "tiny-wan.calibatt"], check=True)


def check_rotary(checks):
    """The synthetic Q and K of wan_qk.py turn by the angles of diffusers."""
    grid = (3, 5, 7)
    frames, height, width = grid
    embedding = WanRotaryPosEmbed(128, (1, 2, 2), 1024)
    cos, sin = embedding(torch.empty(1, 16, frames, 2 * height, 2 * width))
    angles = rotary_angles(grid, 128)
    error = max(abs(table[0, :, 0, first::2].double().numpy() - wanted).max() for table, first, wanted in (
        (cos, 0, numpy.cos(angles)), (sin, 1, numpy.sin(angles))))
    checks.at_most("rotary embedding, distance from diffusers'", error, 1e-5)


def check_calibration(pipe, out, calibatt_program, checks):
    """Counts by the CPU and by a package of kernels agree. Returns what they came to."""
    found = {}
    with tempfile.TemporaryDirectory() as folder, calibatt.load(out / "calibration-tiny.calibatt") as package:
        beside = Beside(package)
        for name, source in (("cpu", None), ("kernels", beside)):
            counts, profile = (Path(folder, f"{name}.{kind}") for kind in ("counts", "profile"))
            calibrate(pipe, counts, source)
            subprocess.run([calibatt_program, "profile", "select", counts, "-o", profile],
                           check=True, stdout=subprocess.DEVNULL)
            found[name] = counted.Selection(counts, counted.read(profile)[0]["criterion"])
    sites = found["cpu"].density.size
    calls = len(PROMPTS) * tiny_wan.LAYERS * tiny_wan.STEPS
    checks.at_most("calls that were not measured by kernels", calls - beside.calls, 0)
    checks.at_most("energies of the same Q and K, kernels and CPU", beside.worst["energies"], 2e-5)
    checks.at_most("their repetition scores", beside.worst["repetition"], 5e-4)
    checks.at_most("their row maxima", beside.worst["row_max"], 1e-3)
    # The kernels' outputs go on through the model, so that later layers see other roundings.
    cpu, kernels = found["cpu"], found["kernels"]
    checks.at_most("density, kernels and CPU", abs(cpu.density.mean() - kernels.density.mean()), 0.02)
    checks.at_most("share of blocks that only one of them keeps", (cpu.kept != kernels.kept).mean(), 0.03)
    checks.at_most("share of sites that are repetitive to one only",
                   (cpu.repetitive != kernels.repetitive).mean(), 1 / sites)
    return {name: {"density": float(selection.density.mean()), "repetitive": int(selection.repetitive.sum())}
            for name, selection in found.items()} | {"errors_beside_the_cpu": beside.worst}


def check_package(pipe, path, checks):
    """The pipeline runs from its package. Returns how far that is from dense attention."""
    dense = video(pipe, HELD_OUT, 1000)
    with calibatt.diffusers.enable(pipe, path) as enabled:
        sparse = video(pipe, HELD_OUT, 1000)
        stats = list(enabled.package.stats().values())
    calls, fallbacks = (sum(session[name] for session in stats) for name in ("calls", "dense_fallbacks"))
    checks.at_most("calls of the package, distance from layers x steps",
                   abs(calls - tiny_wan.LAYERS * tiny_wan.STEPS), 0)
    checks.at_most("dense fallbacks", fallbacks, 0)
    difference = ((sparse - dense).norm() / dense.norm()).item()
    checks.at_most("latents, relative difference from dense attention", difference, 0.5)
    checks.at_least("the same, where blocks are dropped", difference, 1e-6)
    return {"calls": calls, "dense_fallbacks": fallbacks, "relative_difference": difference}


def run(out, calibatt_program, device, json_path):
    pipe = tiny_wan.tiny_wan_pipeline()
    if (out / "tiny-wan.pt").exists():
        pipe.transformer.load_state_dict(torch.load(out / "tiny-wan.pt", weights_only=True))
    pipe.to(device)
    checks, report = Checks(), {"versions": versions(), "gpu": gpu_state() if device == "cuda" else {}}
    check_rotary(checks)
    report["calibration"] = check_calibration(pipe, out, calibatt_program, checks)
    if (out / "tiny-wan.calibatt").exists():
        report["package"] = check_package(pipe, out / "tiny-wan.calibatt", checks)
    else:
        print(f"skipped: {out} has no tiny-wan.calibatt: nothing is run from a package")
    report["checks"] = checks.rows
    write_json(json_path, report)
    return 0 if checks.good else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("prepare", "run"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--calibatt", type=Path, required=True, help="the program calibatt")
    parser.add_argument("--device", choices=("cuda", "host"), default="cuda")
    parser.add_argument("--json", help="write the results here too")
    arguments = parser.parse_args()
    if arguments.what == "prepare":
        prepare(arguments.out, arguments.calibatt)
        return 0
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("calibrate_pipeline.py: torch finds no CUDA device", file=sys.stderr)
        return 2
    device = "cpu" if arguments.device == "host" else "cuda"
    return run(arguments.out, arguments.calibatt, device, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
