"""Attention processors, one a block, that hand a block's attention to somebody else.

A processor runs the block's own, and takes the place of `scaled_dot_product_attention` in it. So
what is seen is what the model multiplies: after normalisation and rotary embedding, with whatever
projections, adapters and quantisation the block has.
"""

import functools

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from ..abi import Error


class _Interception(TorchFunctionMode):
    """While active, calls of scaled_dot_product_attention go to the processor."""

    def __init__(self, processor):
        super().__init__()
        self.processor = processor
        self.calls = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        call = self.calls
        self.calls += 1
        return self.processor.intercept(call, *args, **(kwargs or {}))


class BlockProcessor:
    """Stands for `inner` in one block; `attend(layer, call, attention)` returns the attention's
    output. `call` counts the attentions of one run: Mochi has one for each batch element."""

    def __init__(self, inner, layer, attend):
        self.inner = inner
        self.layer = layer
        self.attend = attend

    def run(self, *args, **kwargs):
        if getattr(self.inner, "_parallel_config", None) is not None:
            raise Error(f"layer {self.layer}: context parallelism splits the sequence, wanted all of it")
        interception = _Interception(self)
        with interception:
            output = self.inner(*args, **kwargs)
        if interception.calls == 0:
            raise Error(
                f"layer {self.layer}: {type(self.inner).__name__} did not call "
                "scaled_dot_product_attention; use the attention backend \"native\"")
        return output

    def intercept(self, call, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False,
                  scale=None, enable_gqa=False):
        if dropout_p or is_causal or enable_gqa:
            raise Error(f"layer {self.layer}: attention with dropout, causal mask or grouped queries")
        return self.attend(self.layer, call, Attention(query, key, value, attn_mask, scale))


@functools.cache
def _class_for(inner):
    """The BlockProcessor with the signature of the class `inner`: some attention modules pass on only
    what the signature of their processor names."""

    class Processor(BlockProcessor):
        @functools.wraps(inner.__call__)
        def __call__(self, *args, **kwargs):
            return self.run(*args, **kwargs)

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
    """A context in which every block of some transformers has a BlockProcessor."""

    def __init__(self, transformers, attend):
        self._transformers = transformers
        self._attend = attend
        self._replaced = []

    def __enter__(self):
        for transformer in self._transformers:
            for layer, module in enumerate(transformer.attentions):
                inner = module.processor
                module.processor = _class_for(type(inner))(inner, layer, self._attend)
                self._replaced.append((module, module.processor))
        return self

    def __exit__(self, *_):
        for module, ours in self._replaced:
            if module.processor is ours:  # else somebody else's is there now
                module.processor = ours.inner
        self._replaced = []
