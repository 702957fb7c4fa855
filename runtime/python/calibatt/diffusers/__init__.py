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
scaled_dot_product_attention: what was captured is what runs. Step, guidance branch and token grid
come from the pipeline. Known are WanPipeline (and its kin with one or two WanTransformer3DModel);
to `calibrate` also MochiPipeline and HunyuanVideoPipeline, whose text joins the video's attention.
"""

from .calibrate import Calibration
from .enable import Enabled


def calibrate(pipe, out, *, model=None, eps=None, anchors=5, prompts=None, energies=None,
              progress=True):
    """A context in which the videos that `pipe` makes are counted into the file `out`.

    One prompt and one video a call of the pipeline. Without `with calibration.prompt(id)` its id is
    made of the text embedding, so that the same text with another seed is the same prompt. A call
    that fails, or stops before its last step, counts nothing. Counts of another model (by its
    configuration and weights; `model` names it otherwise), grid or schedule are refused. The other
    options are calibatt.Capture's.
    """
    return Calibration(pipe, out, model=model, eps=eps, anchors=anchors, prompts=prompts,
                       energies=energies, progress=progress)


def enable(pipe, package, *, device=None, allow_dense=False, any_model=False):
    """Makes `pipe` run its self-attention from `package`, a path or an open calibatt.Package, until
    `disable()` of what this returns, or the end of it as a `with` block.

    What does not fit is an error before the first launch: another model (`any_model=True` takes it),
    grid, or number of steps; on every call, whatever calibatt.Package.attention refuses.
    `allow_dense` is Package.attention's. Tensors on the CPU run on the host device.
    """
    return Enabled(pipe, package, device=device, allow_dense=allow_dense, any_model=any_model)


__all__ = ["Calibration", "Enabled", "calibrate", "enable"]
