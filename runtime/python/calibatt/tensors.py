"""Torch tensors and NumPy arrays as the pointers and strides of a call."""

import sys

from . import abi
from .errors import Error


def _torch_of(tensor):
    # Only a process that has imported torch can hand us its tensors.
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(tensor, torch.Tensor) else None


class View:
    """Address, shape, strides (in elements), dtype and place of one tensor."""

    def __init__(self, name, tensor):
        torch = _torch_of(tensor)
        if torch is not None:
            _check_plain(name, tensor, torch)
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
            if tensor.dtype.name == "bfloat16":  # ml_dtypes has it, NumPy does not
                dtypes[tensor.dtype] = abi.DTYPE_BF16
            self.address = tensor.__array_interface__["data"][0]
            if any(stride % tensor.itemsize for stride in tensor.strides):
                raise Error(f"{name} has strides {tensor.strides} that are no whole elements")
            self.strides = tuple(stride // tensor.itemsize for stride in tensor.strides)
            self.place = "host"
        else:
            raise Error(f"{name} is a {type(tensor).__name__}, wanted a torch tensor or NumPy array")
        self.shape = tuple(tensor.shape)
        if tensor.dtype not in dtypes:
            wanted = " or ".join(dict.fromkeys([*map(str, dtypes), *(() if torch else ("bfloat16",))]))
            raise Error(f"{name} has dtype {tensor.dtype}, wanted {wanted}")
        self.dtype = dtypes[tensor.dtype]
        if len(self.shape) != 4 or 0 in self.shape:
            raise Error(f"{name} has shape {self.shape}, wanted [batch, heads, tokens, dim]")
        if self.strides[3] != 1 and self.shape[3] > 1:
            raise Error(f"{name} has stride {self.strides[3]} in its last dimension, wanted 1")
        if self.strides[:3] == (0, 0, 0) and self.shape[:3] != (1, 1, 1):
            # The C ABI reads three zeros as "contiguous".
            raise Error(f"{name} repeats one row in every dimension, make it contiguous")


def _check_plain(name, tensor, torch):
    """Refuses tensors that are more than the memory at their address."""
    if tensor.requires_grad and torch.is_grad_enabled():
        raise Error(f"{name} needs gradients, which kernels do not compute: call this under "
                    "torch.no_grad(), or detach() it")
    if torch.utils._python_dispatch.is_traceable_wrapper_subclass(tensor):
        raise Error(f"{name} is a {type(tensor).__name__}, wanted a plain tensor (of a DTensor: "
                    "to_local())")
    if tensor.layout != torch.strided:
        raise Error(f"{name} has layout {tensor.layout}, wanted torch.strided")
    if tensor.is_neg():
        raise Error(f"{name} is a negated view of memory: resolve_neg() it")


def _hint(name, view, q):
    """What may be meant by a K or V that differs from Q in its shape."""
    if name == "out" or view.shape[::2] != q.shape[::2] or view.shape[3] != q.shape[3]:
        return ""
    if q.shape[1] % view.shape[1]:
        return ""
    return (f" (grouped queries: repeat each head of {name} {q.shape[1] // view.shape[1]} times, "
            "repeat_interleave(dim=1) in torch, repeat(axis=1) in NumPy)")


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
                hint = _hint(name, other, view) if what == "shape" else ""
                raise Error(f"{name} has {what} {getattr(other, what)}, q has {getattr(view, what)}{hint}")
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
