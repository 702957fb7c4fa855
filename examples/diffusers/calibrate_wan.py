#!/usr/bin/env python3
"""Calibrates a Wan pipeline, compiles what was found, and runs the pipeline with it.

    calibrate_wan.py --out DIR                       # a tiny pipeline with drawn weights, on the CPU
    calibrate_wan.py --out DIR --pipeline WAN --prompts FILE --height 480 --width 832 --frames 81

WAN is a folder or name that WanPipeline.from_pretrained takes, FILE has a prompt a line. Run again
after it was stopped, it goes on with the prompts that are missing.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
try:
    import calibatt
except ImportError:
    sys.path.insert(0, str(ROOT / "runtime/python"))
    import calibatt

PROMPTS = ["a cat on a roof", "waves at night", "a street in the rain"]


def pipeline_and_call(arguments):
    """The pipeline, and the options of its calls."""
    if arguments.pipeline is None:
        import tiny_wan

        return tiny_wan.tiny_wan_pipeline(), tiny_wan.CALL
    from diffusers import WanPipeline

    pipe = WanPipeline.from_pretrained(arguments.pipeline, torch_dtype=torch.bfloat16)
    if torch.cuda.is_available():
        pipe.enable_model_cpu_offload()
    return pipe, {"height": arguments.height, "width": arguments.width,
                  "num_frames": arguments.frames, "num_inference_steps": arguments.steps,
                  "output_type": "latent"}


def video(pipe, call, prompt, seed):
    """The latents of a prompt's video."""
    with torch.no_grad():
        return pipe(prompt, generator=torch.Generator().manual_seed(seed), **call).frames


def command(*words):
    """Runs `calibatt`: the one on the PATH, else this tree's."""
    found = shutil.which("calibatt", path=os.pathsep.join(
        [os.environ.get("PATH", ""), str(ROOT / "build/bin")]))
    if found is None:
        sys.exit("calibrate_wan.py: no calibatt on the PATH or in build/bin: build it first")
    print("$ calibatt", *words, flush=True)
    if subprocess.run([found, *map(str, words)]).returncode:
        sys.exit(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/wan"))
    parser.add_argument("--pipeline")
    parser.add_argument("--prompts", type=pathlib.Path)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=832)
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--steps", type=int, default=50)
    arguments = parser.parse_args()
    prompts = arguments.prompts.read_text().splitlines() if arguments.prompts else PROMPTS
    pipe, call = pipeline_and_call(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    counts, profile, package = (
        arguments.out / f"wan.{kind}" for kind in ("counts.safetensors", "calib.safetensors", "calibatt"))

    with calibatt.diffusers.calibrate(pipe, counts, prompts=len(prompts)) as calibration:
        for seed, prompt in enumerate(prompts):
            if prompt not in calibration:
                with calibration.prompt(prompt):
                    video(pipe, call, prompt, seed)

    command("profile", "select", counts, "-o", profile)
    command("compile", profile, "-o", package)
    command("verify", package, "--profile", profile, "--device", "host")

    # A prompt that was not calibrated on.
    dense = video(pipe, call, "a dog in the snow", seed=1000)
    with calibatt.diffusers.enable(pipe, package) as enabled:
        sparse = video(pipe, call, "a dog in the snow", seed=1000)
        stats = enabled.package.stats()
    calls = sum(session["calls"] for session in stats.values())
    fallbacks = sum(session["dense_fallbacks"] for session in stats.values())
    difference = ((sparse - dense).norm() / dense.norm()).item()
    print(f"{calls} calls of the package, {fallbacks} of them dense; its latents differ from those of "
          f"dense attention by {difference:.2g} (relative RMS)")


if __name__ == "__main__":
    main()
