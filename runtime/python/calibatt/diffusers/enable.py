"""Runs the attention of a pipeline of diffusers from a package."""

import contextlib

import torch

from .. import package as packages
from ..abi import Error
from ..torch_op import Operator
from .identity import model_id, same_model
from .models import transformers_of
from .position import Position
from .processors import Processors


_NOWHERE = -1  # no step: outside of cache_context


class Enabled:
    """A pipeline whose self-attention runs from a package, until `disable()` or the end of a `with`
    block: what `calibatt.diffusers.enable` returns."""

    def __init__(self, pipe, package, *, device=None, allow_dense=False, any_model=False):
        self._transformers = transformers_of(pipe)
        for transformer in self._transformers:
            if transformer.joint_text:
                raise Error(f"{transformer.kind} attends to video and text together; kernels for joint "
                            "text are not built yet")
        self._attached = contextlib.ExitStack()
        with contextlib.ExitStack() as attached:
            if not isinstance(package, packages.Package):
                package = attached.enter_context(packages.load(package))
            #: The open package; its `stats()` tell launches and dense fallbacks.
            self.package = package
            self._check_package(any_model)
            self._operator = Operator(package, device=device, allow_dense=allow_dense)
            # Read by the operator when it runs: a compiled transformer serves all steps.
            self._step = torch.tensor(_NOWHERE)
            self._position = Position(
                pipe, self._transformers, self._enter, lambda: self._step.fill_(_NOWHERE))
            attached.enter_context(self._position.followed())
            attached.enter_context(Processors(self._transformers, self._attend))
            for transformer in self._transformers:
                attached.callback(transformer.module.register_forward_pre_hook(
                    lambda _, args, kwargs, t=transformer: self._before(t, args, kwargs),
                    with_kwargs=True).remove)
            self._attached = attached.pop_all()

    def disable(self):
        """Gives the pipeline its own attention back, and closes the package where this opened it."""
        self._attached.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.disable()

    def _check_package(self, any_model):
        info = self.package.info
        layers = len(self._transformers[0].attentions)
        if info["layers"] != layers:
            raise Error(f"{self.package.path}: has {info['layers']} layers, the pipeline has {layers}")
        mine = model_id(self._transformers)
        if not any_model and not same_model(info["model"], mine):
            raise Error(f"{self.package.path}: was made for {info['model']}, the pipeline is {mine}; "
                        "any_model=True runs it all the same")

    def _enter(self):
        """The pipeline is about to call a transformer."""
        steps, step = len(self._position.pipe.scheduler.timesteps), self._position.step
        if steps != self.package.info["steps"]:
            raise Error(f"{self.package.path}: has {self.package.info['steps']} steps, the pipeline runs "
                        f"{steps}")
        self._step.fill_(step)

    def _before(self, transformer, args, kwargs):
        grid = transformer.grid(transformer.argument("hidden_states", args, kwargs))
        wanted = tuple(self.package.info[size] for size in ("frames", "height", "width"))
        if grid != wanted:
            raise Error(f"{self.package.path}: has grid {'x'.join(map(str, wanted))}, the call has "
                        f"{'x'.join(map(str, grid))}")
        # A compiled transformer must not depend on it; there the operator refuses step -1.
        if not torch.compiler.is_compiling() and self._position.branch is None:
            raise Error("a transformer is called outside of cache_context: nothing tells the step")

    def _attend(self, layer, call, attention):
        if attention.mask is not None:
            raise Error(f"layer {layer}: attention with a mask, kernels have none")
        return self._operator(
            attention.query, attention.key, attention.value, layer=layer, step=self._step)
