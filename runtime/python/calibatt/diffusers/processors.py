"""Attention processors, one a block, that hand a block's attention to somebody else.

A processor runs the block's own, and takes the place of the attention in it. So what is seen is what
the model multiplies: after normalisation and rotary embedding, with whatever projections, adapters and
quantisation the block has. To everybody else it looks like the block's own: its attributes are read,
set and deleted there, so that settings outlive it.
"""

import functools
import sys

import torch
import torch.nn.functional as F

from ..abi import Error
from . import interception
from .pipelines import Uncopyable


class Kernels:
    """Where compiled code finds the attention of a block: tensors without dimensions, so that one graph
    serves all layers, steps and packages. `skipped(layer)` is told of attention that somebody else's
    function mode answered for."""

    def __init__(self, operator, step, skipped):
        self.operator = operator
        self.step = step
        self.skipped = skipped


class Block:
    """What the processor of one block does. `attend(layer, call, attention)` returns the attention's
    output; `call` counts the attentions of one run: Mochi has one for each video of a batch. With
    `kernels` compiled code calls those; without, a block is never compiled."""

    def __init__(self, inner, layer, joint, attend, kernels):
        self.inner = inner
        self.layer = layer
        self.joint = joint
        self._attend = attend
        self._kernels = kernels
        self._layer = torch.tensor(layer, device="cpu")

    def run(self, *args, **kwargs):
        if getattr(self.inner, "_parallel_config", None) is not None:
            raise Error(f"layer {self.layer}: context parallelism splits the sequence, wanted all of it")
        if not torch.compiler.is_compiling():
            return interception.run_eager(self, args, kwargs)
        if self._kernels is None:
            return self._run_uncompiled(args, kwargs)
        return interception.run_compiled(self, args, kwargs)

    @torch.compiler.disable
    def _run_uncompiled(self, args, kwargs):
        return interception.run_eager(self, args, kwargs)

    def skipped(self):
        if self._kernels is not None:
            self._kernels.skipped(self.layer)

    def compute(self, call, query, key, value, mask, scale):
        if torch.compiler.is_compiling():
            if mask is not None:
                raise Error(f"layer {self.layer}: attention with a mask, kernels have none")
            return self._kernels.operator(
                query, key, value, layer=self._layer, step=self._kernels.step, scale=scale)
        return self._attend(self.layer, call, Attention(query, key, value, mask, scale))


class BlockProcessor:
    """Stands for the processor `block.inner`."""

    def __init__(self, block):
        self.__dict__["_calibatt_block"] = block

    def __getattr__(self, name):
        if name == "_calibatt_block":
            raise AttributeError(name)
        return getattr(self._calibatt_block.inner, name)

    def __setattr__(self, name, value):
        setattr(self._calibatt_block.inner, name, value)

    def __delattr__(self, name):
        delattr(self._calibatt_block.inner, name)

    def __dir__(self):
        return dir(self._calibatt_block.inner)

    #: So that isinstance() says of it what it says of the block's own.
    __class__ = property(lambda self: type(self._calibatt_block.inner))

    __deepcopy__ = Uncopyable.__deepcopy__
    __reduce_ex__ = Uncopyable.__reduce_ex__


@functools.cache
def _class_for(inner):
    """The BlockProcessor with the signature of the class `inner`: some attention modules pass on only
    what the signature of their processor names."""

    class Processor(BlockProcessor):
        @functools.wraps(inner.__call__)
        def __call__(self, *args, **kwargs):
            return self._calibatt_block.run(*args, **kwargs)

    return Processor


class Attention:
    """The arguments of one scaled_dot_product_attention, [batch, heads, tokens, dim]."""

    def __init__(self, query, key, value, mask, scale):
        self.query, self.key, self.value = query, key, value
        self.mask = mask
        self.scale = scale

    def dense(self):
        """What PyTorch makes of it."""
        return F.scaled_dot_product_attention(
            self.query, self.key, self.value, attn_mask=self.mask, scale=self.scale)

    def lengths(self):
        """Tokens of each batch element: all, or those before the padding that the mask hides."""
        batch, _, tokens, _ = self.query.shape
        if self.mask is None:
            return [tokens] * batch
        if self.mask.dtype != torch.bool or self.mask.numel() != batch * tokens:
            raise Error(f"attention mask is {self.mask.dtype} {list(self.mask.shape)}, wanted bool "
                        f"[{batch}, 1, 1, {tokens}]")
        shown = self.mask.reshape(batch, tokens)
        lengths = shown.sum(dim=1)
        wanted = torch.arange(tokens, device=shown.device) < lengths[:, None]
        if not torch.equal(shown, wanted):
            raise Error("attention mask hides tokens before others that it shows")
        return lengths.tolist()


class Processors:
    """A context in which every block of some transformers has a BlockProcessor. At its end blocks get
    their own back, but where somebody else's is by then."""

    def __init__(self, transformers, attend, kernels=None):
        self._transformers = transformers
        self._attend = attend
        self._kernels = kernels
        self._replaced = []
        self._asking = None

    def __enter__(self):
        blocks = [(module, Block(module.processor, layer, transformer.joint_text, self._attend,
                                 self._kernels))
                  for transformer in self._transformers
                  for layer, module in enumerate(transformer.attentions)]
        for _, block in blocks:
            if isinstance(block.inner, torch.nn.Module):
                raise Error(f"layer {block.layer}: its processor {type(block.inner).__name__} is a module "
                            "with weights of its own, wanted one without")
        classes = {type(block.inner) for _, block in blocks}
        namespaces = [vars(sys.modules[type(transformer.module).__module__])
                      for transformer in self._transformers]
        for cls in classes:
            namespaces.extend(interception.namespaces_of(cls))
        self._asking = interception.asking(namespaces)
        self._asking.__enter__()
        for module, block in blocks:
            module.processor = _class_for(type(block.inner))(block)
            self._replaced.append((module, module.processor, block.inner))
        return self

    def __exit__(self, *_):
        for module, ours, inner in self._replaced:
            if module.processor is ours:  # else somebody else's is there now
                module.processor = inner
        self._replaced = []
        self._asking.__exit__(None, None, None)
