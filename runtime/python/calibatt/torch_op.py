"""`calibatt::attention`, a PyTorch operator: a package as torch.compile sees it.

    attend = calibatt.torch_op.Operator(package)
    out = attend(q, k, v, layer=3, step=step)   # step: torch.tensor(10)

Layer, step and package are data, read when the operator runs: one compiled graph serves all of them.
"""

import itertools
import weakref

import torch

_numbers = itertools.count()
_operators = weakref.WeakValueDictionary()


class Operator:
    """Package.attention as an operator, with its `device`, `allow_dense`, `head_begin` and `byte_budget`.

    `step` and `layer` are integer tensors without dimensions, on the CPU. A `layer` that is a number is
    fixed in a graph that is compiled.
    """

    def __init__(self, package, **options):
        self.package = package
        self.options = options
        number = next(_numbers)
        #: What a graph knows this by.
        self.number = torch.tensor(number, device="cpu")
        _operators[number] = self

    def __call__(self, q, k, v, *, layer, step, scale=None):
        if not isinstance(layer, torch.Tensor):
            layer = torch.tensor(layer, device="cpu")
        return torch.ops.calibatt.attention(q, k, v, step, layer, self.number, scale)


@torch.library.custom_op("calibatt::attention", mutates_args=())
def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, step: torch.Tensor,
               layer: torch.Tensor, operator: torch.Tensor, scale: float | None = None) -> torch.Tensor:
    found = _operators[operator.item()]
    return found.package.attention(
        q, k, v, layer=layer.item(), step=step.item(), scale=scale, **found.options)


@_attention.register_fake
def _(q, k, v, step, layer, operator, scale=None):
    return torch.empty_like(q)
