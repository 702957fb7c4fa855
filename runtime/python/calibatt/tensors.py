"""Torch tensors and NumPy arrays as the pointers and strides of a call."""

import sys

from . import abi
from .abi import Error


def _torch_of(tensor):
    # Only a process that has imported torch can hand us its tensors.
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(tensor, torch.Tensor) else None


class View:
    """Address, shape, strides (in elements), dtype and place of one tensor."""

    def __init__(self, name, tensor):
        torch = _torch_of(tensor)
        if torch is not None:
            dtypes = {torch.bfloat16: abi.DTYPE_BF16, torch.float32: abi.DTYPE_F32}
            self.address = tensor.data_ptr()
            self.strides = tuple(tensor.stride())
            kind = tensor.device.type
            if kind not in ("cuda", "cpu"):
                raise Error(f"{name} is on {tensor.device}, wanted cuda or cpu")
            # A plain "cuda" tensor does not exist: it always has an index.
            self.place = f"cuda:{tensor.device.index}" if kind == "cuda" else "host"
        elif hasattr(tensor, "__array_interface__"):
            import numpy

            dtypes = {numpy.dtype(numpy.float32): abi.DTYPE_F32}
            self.address = tensor.__array_interface__["data"][0]
            if any(stride % tensor.itemsize for stride in tensor.strides):
                raise Error(f"{name} has strides {tensor.strides} that are no whole elements")
            self.strides = tuple(stride // tensor.itemsize for stride in tensor.strides)
            self.place = "host"
        else:
            raise Error(f"{name} is a {type(tensor).__name__}, wanted a torch tensor or NumPy array")
        self.shape = tuple(tensor.shape)
        if tensor.dtype not in dtypes:
            wanted = " or ".join(str(dtype) for dtype in dtypes)
            raise Error(f"{name} has dtype {tensor.dtype}, wanted {wanted}")
        self.dtype = dtypes[tensor.dtype]
        if len(self.shape) != 4 or 0 in self.shape:
            raise Error(f"{name} has shape {self.shape}, wanted [batch, heads, tokens, dim]")
        if self.strides[3] != 1 and self.shape[3] > 1:
            raise Error(f"{name} has stride {self.strides[3]} in its last dimension, wanted 1")
        if self.strides[:3] == (0, 0, 0) and self.shape[:3] != (1, 1, 1):
            # The C ABI reads three zeros as "contiguous".
            raise Error(f"{name} repeats one row in every dimension, make it contiguous")


def describe(q, k, v, out, want_lse):
    """`(call, out, lse, place)` of four tensors; makes `out` and `lse` where they are wanted."""
    view = View("q", q)
    torch = _torch_of(q)
    if out is None:
        if torch is not None:
            # Of q's memory order, but never with the overlaps of an expanded tensor.
            out = torch.empty_like(q, memory_format=torch.preserve_format)
            if 0 in out.stride():
                out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        else:
            import numpy

            out = numpy.empty_like(q)
    elif torch is None and not out.flags.writeable:
        raise Error("out is read-only")
    views = {"q": view, "k": View("k", k), "v": View("v", v), "out": View("out", out)}
    for name, other in views.items():
        for what in ("shape", "dtype", "place"):
            if getattr(other, what) != getattr(view, what):
                raise Error(f"{name} has {what} {getattr(other, what)}, q has {getattr(view, what)}")
    batch, heads, tokens, dim = view.shape
    call = abi.Call(batch=batch, heads=heads, tokens=tokens, head_dim=dim, dtype=view.dtype)
    for name, field in (("q", "q"), ("k", "k"), ("v", "v"), ("out", "o")):
        setattr(call, field, views[name].address)
        getattr(call, f"{field}_strides")[:] = views[name].strides[:3]
    lse = None
    if want_lse:
        if torch is not None:
            lse = torch.empty((batch, heads, tokens), dtype=torch.float32, device=q.device)
            call.lse = lse.data_ptr()
        else:
            import numpy

            lse = numpy.empty((batch, heads, tokens), dtype=numpy.float32)
            call.lse = lse.ctypes.data
    if view.place != "host":
        call.stream = torch.cuda.current_stream(q.device).cuda_stream
    return call, out, lse, view.place


def empty(like, shape, dtype):
    """A fresh contiguous tensor or array of dtype "uint8" or "float32" beside `like`, and its address."""
    torch = _torch_of(like)
    if torch is not None:
        made = torch.empty(shape, dtype=getattr(torch, dtype), device=like.device)
        return made, made.data_ptr()
    import numpy

    made = numpy.empty(shape, dtype)
    return made, made.ctypes.data
