"""Block energies of the attention that a model computes: what calibration counts."""

import ctypes
import math
import sys
from typing import Any, NamedTuple

from . import counts
from .abi import Error
from .tensors import View


class Geometry:
    """How the tokens of Q and K lie: a grid of video tokens, then text up to `max_text`."""

    def __init__(self, grid, *, max_text=0, anchors=5, scale=None):
        frames, height, width = (int(size) for size in grid)
        if min(frames, height, width) < 1:
            raise Error(f"grid is {tuple(grid)}, wanted (frames, height, width) of 1 and more")
        self.grid = frames, height, width
        self.max_text = max_text
        self.anchors = anchors
        self.scale = scale

    @property
    def video(self):
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def blocks(self):
        return (self.video + self.max_text + 127) // 128

    def __str__(self):
        return "x".join(map(str, self.grid))


class Measured(NamedTuple):
    """Of all heads of one (layer, step) of a prompt."""

    energies: Any  #: float32 [heads, B, B]: share of a query block's attention in a key block
    repetition: Any  #: float32 [heads]: how alike the spatial rows of a frame are
    row_max: Any  #: float32 [heads]: largest scaled logit
    cover: Any = None  #: uint8 [heads, B, (B + 7) // 8]: minimum covers, where the source finds them
    out: Any = None  #: the attention's output, like q, where the source computes it


class EnergySource:
    """Measures attention."""

    def measure(self, q, k, v, geometry, text, epsilon):
        """A Measured, in NumPy arrays but for `out`, of q and k [1, heads, tokens, dim] with `text`
        text tokens at their end. `v` may be None; `epsilon` is the share that a cover keeps. Raises
        counts.BadValues where q or k has a NaN or infinity."""
        raise NotImplementedError


class CpuEnergies(EnergySource):
    """On the CPU, exactly: softmax and sums in float64. Tensors on a GPU are copied."""

    def __init__(self, threads=0):
        self.threads = threads  # 0: one a core

    def measure(self, q, k, v, geometry, text, epsilon):
        import numpy

        q, k = _on_the_host(q), _on_the_host(k)
        views = View("q", q), View("k", k)
        _, heads, _, head_dim = views[0].shape
        blocks = geometry.blocks
        energies = numpy.zeros((heads, blocks, blocks), numpy.float32)
        repetition, row_max = (numpy.zeros(heads, numpy.float32) for _ in range(2))
        pointers = [array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
                    for array in (energies, repetition, row_max)]
        frames, height, width = geometry.grid
        counts.block_energies(counts.QK(
            q=views[0].address, k=views[1].address,
            q_strides=views[0].strides[1:3], k_strides=views[1].strides[1:3],
            # The two ABIs number bf16 and f32 alike.
            dtype=views[0].dtype, heads=heads, head_dim=head_dim, frames=frames, height=height,
            width=width, max_text=geometry.max_text, text=text, anchors=geometry.anchors,
            scale=geometry.scale or 0.0, threads=self.threads,
            energies=pointers[0], repetition=pointers[1], row_max=pointers[2]))
        return Measured(energies, repetition, row_max)


class PackageEnergies(EnergySource):
    """Left by the dense kernel of a package while it computes the model's attention: on a GPU one of
    `calibatt compile --calibration`, on the host device any. Of the video tokens alone."""

    def __init__(self, package):
        self.package = package
        self._workspace = None

    def measure(self, q, k, v, geometry, text, epsilon):
        info = self.package.info
        grid = info["frames"], info["height"], info["width"]
        if grid != geometry.grid or geometry.max_text:
            raise Error(f"{self.package.path}: has grid {'x'.join(map(str, grid))} and no text, the capture "
                        f"has {geometry} and up to {geometry.max_text} of text")
        if geometry.anchors != _ANCHORS:
            raise Error(f"anchors is {geometry.anchors}, kernels score against {_ANCHORS}")
        if geometry.scale is not None and not math.isclose(geometry.scale, info["scale"], rel_tol=1e-6):
            raise Error(f"{self.package.path}: was compiled for scale {info['scale']:g}, the capture has "
                        f"{geometry.scale:g}")
        followers = geometry.grid[1] > _ANCHORS  # where every row is an anchor the score is 0
        found = self.package.energy(
            q, k, k if v is None else v, epsilon=epsilon, energies=True, row_max=True,
            repetition=followers, workspace=self._workspace)
        self._workspace = found.workspace
        energies, cover, row_max = (
            _numpy(tensor[0]) for tensor in (found.energies, found.cover, found.row_max))
        row_max = row_max.max(axis=1)
        repetition = _numpy(found.repetition[0]) if followers else 0 * row_max
        return Measured(energies, repetition, row_max, cover, None if v is None else found.out)


_ANCHORS = 5


def _numpy(tensor):
    return tensor.cpu().numpy() if hasattr(tensor, "cpu") else tensor


def _on_the_host(tensor):
    """bf16 or float32 on the CPU, contiguous in its last dimension."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(tensor, torch.Tensor):
        tensor = tensor.detach().cpu()
        if tensor.dtype == torch.float16:
            tensor = tensor.float()
        return tensor if tensor.stride(-1) == 1 else tensor.contiguous()
    return tensor


def dtype_name(tensor):
    """bf16, f32 or f16."""
    name = str(tensor.dtype).removeprefix("torch.")
    names = {"bfloat16": "bf16", "float32": "f32", "float16": "f16"}
    if name not in names:
        raise Error(f"q has dtype {name}, wanted {', '.join(names)}")
    return names[name]
