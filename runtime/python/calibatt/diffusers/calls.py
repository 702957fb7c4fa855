"""One call of a transformer that runs from a package: which step it is, and which layers came through.

Begin and end of a call are operators, so that they run wherever a compiled transformer has its hooks,
inside of what is compiled or outside, and read their tensors when it runs. Between them the thread
that called has a Call. Attention outside of one is refused.
"""

import dataclasses
import itertools
import threading
import weakref

import torch
import torch.nn.functional as F

from ..abi import Error
from .pipelines import Uncopyable

NOWHERE = -1  # no step: outside of a call

_numbers = itertools.count()
_owners = weakref.WeakValueDictionary()


@dataclasses.dataclass
class Call:
    transformer: object
    step: int
    #: Why its attention runs dense, or None.
    dense: str | None
    reached: set


class Calls:
    """The calls of some transformers. `owner.begin(transformer, hidden_states, timestep, scale)` gives the
    Call, `owner.missed(call, layers)` is told of layers that did not come through."""

    def __init__(self, owner, package):
        self.package = package
        #: Read when the attention runs, so that a compiled transformer is one graph for all steps.
        self.step = torch.tensor(NOWHERE)
        self._owner = owner
        self._here = threading.local()
        self._number = next(_numbers)
        _owners[self._number] = self
        self._transformers = []

    def attach(self, transformers, stack):
        """Follows calls of the transformers until `stack` is closed."""
        for index, transformer in enumerate(transformers):
            module = transformer.module
            self._transformers.append(transformer)
            # On the module, not on the hooks: compiled hooks then serve whoever is attached.
            module._calibatt_call = torch.tensor([self._number, index])
            module._calibatt_step = self.step
            stack.callback(self._detach, module)
            before, after = _Before(transformer), _After()
            stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(after).remove)

    @staticmethod
    def _detach(module):
        del module._calibatt_call, module._calibatt_step

    def begin(self, index, hidden_states, timestep, scale):
        self._here.call = None
        self.step.fill_(NOWHERE)
        call = self._owner.begin(self._transformers[index], hidden_states, timestep, scale)
        self.step.fill_(call.step)
        self._here.call = call

    def end(self):
        call, self._here.call = getattr(self._here, "call", None), None
        self.step.fill_(NOWHERE)
        if call is not None:
            missed = set(range(len(call.transformer.attentions))) - call.reached
            if missed:
                self._owner.missed(call, sorted(missed))

    def skip(self, layer):
        """Somebody else answered for the attention of a layer: guidance by perturbed attention, say."""
        call = getattr(self._here, "call", None)
        if call is not None:
            call.reached.add(layer)
            self._owner.skipped(1)

    def attention(self, q, k, v, *, layer, step, **options):
        """Package.attention at the step of this thread's call."""
        call = getattr(self._here, "call", None)
        if call is None:
            raise Error(f"layer {layer}: attention outside of a call of its transformer (its forward() is "
                        "called, or a block alone): nothing tells the step")
        if q.is_cuda and torch.cuda.is_current_stream_capturing():
            raise Error(f"layer {layer}: a CUDA graph of a transformer would repeat the masks of one step")
        call.reached.add(layer)
        if call.dense is not None:
            out = F.scaled_dot_product_attention(q, k, v, scale=options.get("scale"))
            return torch.empty_like(q).copy_(out)
        return self.package.attention(q, k, v, layer=layer, step=call.step, **options)


class _Before(Uncopyable):
    def __init__(self, transformer):
        self.argument = transformer.argument

    def __call__(self, module, args, kwargs):
        latents, timestep = (self.argument(name, args, kwargs) for name in ("hidden_states", "timestep"))
        options = self.argument("attention_kwargs", args, kwargs, None) or {}
        scale = float(options.get("scale", 1.0))
        if torch.compiler.is_compiling():
            torch.ops.calibatt.begin(latents, timestep, module._calibatt_call, module._calibatt_step, scale)
        else:
            _begin_call(latents, timestep, module._calibatt_call, scale)


class _After(Uncopyable):
    def __call__(self, module, args, output):
        if torch.compiler.is_compiling():
            made = output[0] if isinstance(output, tuple) else output.sample
            torch.ops.calibatt.end(made, module._calibatt_call, module._calibatt_step)
        else:
            _end_call(module._calibatt_call)


def _begin_call(latents, timestep, who, scale):
    number, index = who.tolist()
    _owners[number].begin(index, latents, timestep, scale)


def _end_call(who):
    _owners[who[0].item()].end()


# `output` only says when: after all of the transformer.
@torch.library.custom_op("calibatt::begin", mutates_args=("step",))
def _begin(latents: torch.Tensor, timestep: torch.Tensor, who: torch.Tensor, step: torch.Tensor,
           scale: float) -> None:
    _begin_call(latents, timestep, who, scale)


@torch.library.custom_op("calibatt::end", mutates_args=("step",))
def _end(output: torch.Tensor, who: torch.Tensor, step: torch.Tensor) -> None:
    _end_call(who)
