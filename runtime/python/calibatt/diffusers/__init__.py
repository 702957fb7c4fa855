"""Pipelines of diffusers: calibrated while they make videos, then run from a package.

    with calibatt.diffusers.calibrate(pipe, out="wan.counts.safetensors") as calibration:
        for prompt in prompts:
            if prompt not in calibration:       # counted already, before the run was killed
                with calibration.prompt(prompt):
                    pipe(prompt, output_type="latent")

    # calibatt profile select wan.counts.safetensors -o wan.calib.safetensors
    # calibatt compile wan.calib.safetensors -o wan.calibatt

    with calibatt.diffusers.enable(pipe, "wan.calibatt"):
        video = pipe("a cat on a roof").frames

Both put a processor into every block, which runs the block's own and takes the place of its
scaled_dot_product_attention: what was captured is what runs. The step is found from the timestep of
each call of the transformer. Known are the Wan pipelines (one or two WanTransformer3DModel, or VACE);
to `calibrate` also MochiPipeline and HunyuanVideoPipeline, whose text joins the video's attention.
README.md beside this file says more.
"""

from .calibrate import Calibration
from .enable import Enabled, disable


def calibrate(pipe, out, *, model=None, eps=None, anchors=5, prompts=None, energies=None,
              progress=True):
    """A context in which the videos that `pipe` makes are counted into the file `out`.

    One prompt and one video a call of the pipeline. Without `with calibration.prompt(id)` its id is
    made of the text embedding, so that the same text with another seed is the same prompt. A call
    that fails, or stops before its last step, counts nothing. Counts of another model (by its
    configuration and weights; `model` names it otherwise), grid or schedule are refused, and so is a
    cache that leaves attention out. The other options are calibatt.Capture's.
    """
    return Calibration(pipe, out, model=model, eps=eps, anchors=anchors, prompts=prompts,
                       energies=energies, progress=progress)


def enable(pipe, package, *, device=None, allow_dense=False, any_model=False, step=None,
           head_begin=None, byte_budget=None):
    """Makes `pipe` run its self-attention from `package`, a path or an open calibatt.Package, until
    `disable()` of what this returns, `disable(pipe)`, or the end of it as a `with` block.

    Each call of a transformer runs the masks of the step whose timestep it carries; whoever calls,
    a copy of the pipeline or a loop of its own. What does not fit is an error before the first launch:
    another model (`any_model=True` takes it, and does not look for changes), type, grid or schedule, a
    timestep that is none of the package's or several of them; on every call, whatever
    calibatt.Package.attention refuses; at the end of a call, layers that did not come through.

    With `allow_dense` calls whose grid or step does not fit run PyTorch's dense attention, and layers
    that did not come through are let be; both are counted (`stats()`). It is Package.attention's, too.
    `step="index"` trusts the place of a step in the schedule and not the timesteps of the package,
    for packages that have none; a function (transformer's name, timestep) -> step tells it otherwise.
    `head_begin` is the first head that this process computes, where heads are split between processes;
    of DTensors it is found. On a GPU the schedules of the running step and the next are kept, those of
    steps before as long as there is room, or up to `byte_budget` bytes (0: all).
    Tensors on the CPU run on the host device.
    """
    return Enabled(pipe, package, device=device, allow_dense=allow_dense, any_model=any_model, step=step,
                   head_begin=head_begin, byte_budget=byte_budget)


__all__ = ["Calibration", "Enabled", "calibrate", "disable", "enable"]
