#!/usr/bin/env bash
# diffusers 0.42.1, torch 2.15.0: with `use_flow_sigmas`, UniPCMultistepScheduler and
# DPMSolverMultistepScheduler round the timestep of a step to an integer, and the rounded schedule has
# neighbours that are equal: at flow_shift 17 and 60 steps UniPC begins 999, 999, 997, 996. sigmas stay
# distinct. So a transformer gets one and the same `timestep` for two steps of one schedule, and whoever
# tells the step from it (masks or caches a step, boundaries, logs) has to refuse or to count calls.
# FlowMatchEulerDiscreteScheduler keeps fractions and has no such pair.
#
# Installs into a temporary folder (torch: 5 GB), no GPU. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check diffusers==0.42.1 torch==2.15.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import diffusers

def schedule(cls, steps, **options):
    scheduler = cls(**options)
    scheduler.set_timesteps(steps)
    return scheduler.timesteps.tolist(), scheduler.sigmas.tolist()[:steps]

flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
failed = False
for cls, options, shift_name, shift, steps, wanted in (
        (diffusers.UniPCMultistepScheduler, flow, "flow_shift", 3.0, 50, 0),
        (diffusers.UniPCMultistepScheduler, flow, "flow_shift", 12.0, 100, 1),
        (diffusers.UniPCMultistepScheduler, flow, "flow_shift", 17.0, 60, 1),
        (diffusers.DPMSolverMultistepScheduler, flow, "flow_shift", 17.0, 100, 6),
        (diffusers.FlowMatchEulerDiscreteScheduler, {}, "shift", 17.0, 100, 0)):
    timesteps, sigmas = schedule(cls, steps, **options, **{shift_name: shift})
    repeated = len(timesteps) - len(set(timesteps))
    print(f"{cls.__name__}, {shift_name} {shift:g}, {steps} steps: begins {timesteps[:4]}, {repeated} timesteps "
          f"repeat, {len(sigmas) - len(set(sigmas))} sigmas do")
    failed |= repeated != wanted or len(set(sigmas)) != len(sigmas)
raise SystemExit(failed)
PYTHON
