"""Pipelines of diffusers that run their attention from a package.

    with calibatt.diffusers.enable(pipe, "wan.calibatt"):
        video = pipe("a cat on a roof").frames

Every block gets a processor, which runs the block's own and takes the place of its
scaled_dot_product_attention. Step, guidance branch and token grid come from the pipeline. Known are
WanPipeline and its kin, with one or two WanTransformer3DModel.
"""

from .enable import Enabled


def enable(pipe, package, *, device=None, allow_dense=False, any_model=False):
    """Makes `pipe` run its self-attention from `package`, a path or an open calibatt.Package, until
    `disable()` of what this returns, or the end of it as a `with` block.

    What does not fit is an error before the first launch: another model (`any_model=True` takes it),
    grid, or number of steps; on every call, whatever calibatt.Package.attention refuses.
    `allow_dense` is Package.attention's. Tensors on the CPU run on the host device.
    """
    return Enabled(pipe, package, device=device, allow_dense=allow_dense, any_model=any_model)


__all__ = ["Enabled", "enable"]
