"""`calibatt::attention`, a PyTorch operator: a package as torch.compile sees it.

    attend = calibatt.torch_op.Operator(package)
    out = attend(q, k, v, layer=3, step=step)   # step: torch.tensor(10)
"""

import itertools
import weakref

import torch

_numbers = itertools.count()
_operators = weakref.WeakValueDictionary()


class Operator:
    """Package.attention as an operator, with its `device` and `allow_dense`.

    `step` is an int64 tensor without dimensions on the CPU: it is read when the operator runs, so
    that one compiled graph serves all steps.
    """

    def __init__(self, package, *, device=None, allow_dense=False):
        self.package = package
        self.options = {"device": device, "allow_dense": allow_dense}
        self.number = next(_numbers)
        _operators[self.number] = self

    def __call__(self, q, k, v, *, layer, step):
        return torch.ops.calibatt.attention(q, k, v, step, layer, self.number)


@torch.library.custom_op("calibatt::attention", mutates_args=())
def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, step: torch.Tensor, layer: int,
               operator: int) -> torch.Tensor:
    found = _operators[operator]
    return found.package.attention(q, k, v, layer=layer, step=step.item(), **found.options)


@_attention.register_fake
def _(q, k, v, step, layer, operator):
    return torch.empty_like(q)
