"""CalibAtt: compiled block-sparse attention packages, run from Python.

    calibatt.compile("model.calib.safetensors", "model.calibatt")   # where the compiler is installed
    package = calibatt.load("model.calibatt")
    out = package.attention(q, k, v, layer=3, step=10)   # [batch, heads, tokens, dim]

Torch CUDA tensors run on their GPU and its current stream; torch CPU tensors and NumPy float32
arrays run on the host device. `calibatt.diffusers` runs pipelines of diffusers from a package.

Nothing here needs a build step: it is ctypes over libcalibatt.so, found through $CALIBATT_LIBRARY,
where `cmake --install` put it, next to this package, or in a build folder of the source tree.
"""

import importlib

from .abi import Error
from .compiling import compile
from .package import Package, load

__all__ = ["Error", "Package", "compile", "diffusers", "load", "torch_op"]


def __getattr__(name):
    # These import torch, which may be absent.
    if name in ("diffusers", "torch_op"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
