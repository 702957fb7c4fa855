"""CalibAtt from Python: packages of compiled block-sparse attention, and how they are calibrated.

    calibatt.compile("model.calib.safetensors", "model.calibatt")   # where the compiler is installed
    package = calibatt.load("model.calibatt")
    out = package.attention(q, k, v, layer=3, step=10)   # [batch, heads, tokens, dim]

Torch CUDA tensors run on their GPU and its current stream; torch CPU tensors and NumPy float32
arrays run on the host device. `Capture` counts which blocks of a model's attention matter, and
`calibatt.diffusers` does so for pipelines of diffusers and runs them from a package.

Nothing here needs a build step: it is ctypes over libcalibatt.so and libcalibatt_profile.so, found
through $CALIBATT_LIBRARY and $CALIBATT_PROFILE_LIBRARY, where `cmake --install` put them, next to
this package, or in a build folder of the source tree.
"""

import importlib

from .abi import Error
from .capture import Capture
from .compiling import compile
from .package import Energies, Package, load

__all__ = ["Capture", "Energies", "Error", "Package", "compile", "diffusers", "load", "torch_op"]


def __getattr__(name):
    # These import torch, which may be absent.
    if name in ("diffusers", "torch_op"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
