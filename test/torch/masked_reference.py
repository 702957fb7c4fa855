"""Wan pipelines whose self-attention is masked densely, in float64, and what they then make.

It takes the place of the function that diffusers' own processors call. Nothing here uses the adapters
under test.
"""

import copy

import torch
import diffusers.models.transformers.transformer_wan as wan

BLOCK = 128


def schedule(pipe, steps):
    """{timestep, sigma, module} of every step of a pipeline, from a copy of its scheduler."""
    scheduler = copy.deepcopy(pipe.scheduler)
    scheduler.set_timesteps(steps)
    ratio = pipe.config.get("boundary_ratio")
    boundary = None if ratio is None else ratio * scheduler.config.num_train_timesteps
    return [{"timestep": float(t), "sigma": float(sigma),
             "module": "transformer" if boundary is None or t >= boundary else "transformer_2"}
            for t, sigma in zip(scheduler.timesteps, scheduler.sigmas)]


class Masked:
    """A context in which the self-attention of `transformers` keeps only the blocks of `masks` [layers,
    steps, heads, blocks, blocks]. `step_of(timestep)` tells the step of a call of a transformer."""

    def __init__(self, transformers, masks, step_of):
        self.transformers, self.masks, self.step_of = transformers, masks, step_of
        #: The step of every call of a transformer.
        self.steps = []
        self._layer = None

    def __enter__(self):
        self._original, self._hooks = wan.dispatch_attention_fn, []
        wan.dispatch_attention_fn = self._attend
        for transformer in self.transformers:
            self._hooks.append(transformer.register_forward_pre_hook(self._begin, with_kwargs=True))
            blocks = [*transformer.blocks, *getattr(transformer, "vace_blocks", ())]
            for layer, block in enumerate(blocks):
                self._hooks += [
                    block.attn1.register_forward_pre_hook(lambda *_, layer=layer: self._enter(layer)),
                    block.attn1.register_forward_hook(lambda *_: self._enter(None))]
        return self

    def __exit__(self, *_):
        wan.dispatch_attention_fn = self._original
        for hook in self._hooks:
            hook.remove()

    def _begin(self, module, args, kwargs):
        self.steps.append(self.step_of(kwargs["timestep"] if "timestep" in kwargs else args[1]))

    def _enter(self, layer):
        self._layer = layer

    def _attend(self, query, key, value, **options):
        if self._layer is None:
            return self._original(query, key, value, **options)
        tokens = query.shape[1]
        mask = torch.from_numpy(self.masks[self._layer, self.steps[-1]])
        mask = mask.repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)[:, :tokens, :tokens]
        q, k, v = (x.transpose(1, 2).double() for x in (query, key, value))
        logits = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
        return (logits.softmax(-1) @ v).transpose(1, 2).to(query.dtype)


def nearest(timesteps):
    """A `step_of` that takes the step whose timestep is nearest to the call's."""
    return lambda t: int((torch.as_tensor(timesteps).double() - t.max().double()).abs().argmin())


def masked(pipe, masks, go, timesteps):
    """What `go()` makes where the attention of the pipeline's transformers is masked."""
    transformers = [model for model in (pipe.transformer, getattr(pipe, "transformer_2", None))
                    if model is not None]
    with torch.no_grad(), Masked(transformers, masks, nearest(timesteps)) as reference:
        return go(), reference.steps


def error(out, wanted):
    """Relative, of the whole."""
    return ((out.double() - wanted.double()).norm() / wanted.double().norm()).item()
