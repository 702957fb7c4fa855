"""What a pipeline tells of a call through the transformer's `cache_context`: the branch of guidance, and
where the denoising loop is."""

import contextlib
import threading

from ..abi import Error
from .schedule import Told

_BRANCHES = ("cond", "uncond", "cond_uncond")
# Pipelines that call without cache_context, the conditional branch first.
_CONDITIONAL_FIRST = ("WanVideoToVideoPipeline",)


class Position:
    """Follows the contexts of some transformers while `followed()`."""

    def __init__(self, transformers):
        self.transformers = transformers
        self._here = threading.local()

    @contextlib.contextmanager
    def followed(self):
        with contextlib.ExitStack() as stack:
            for transformer in self.transformers:
                self._follow(transformer.module, stack)
            yield

    def _follow(self, module, stack):
        original = getattr(module, "cache_context", None)
        if original is None:  # diffusers before 0.35
            return

        @contextlib.contextmanager
        def cache_context(name, *args, **kwargs):
            outer, self._here.context = self._context, (name, kwargs)
            try:
                with original(name, *args, **kwargs):
                    yield
            finally:
                self._here.context = outer

        def restore():
            if vars(module).get("cache_context") is cache_context:
                del module.cache_context

        module.cache_context = cache_context
        stack.callback(restore)

    @property
    def _context(self):
        return getattr(self._here, "context", None)

    def told(self):
        """What the context that the call is in tells of the step."""
        fields = self._context[1] if self._context else {}
        index, sigma, steps = (fields.get(name) for name in ("step_index", "sigma", "num_inference_steps"))
        return Told(None if index is None else int(index), None if sigma is None else float(sigma), steps)

    def conditional(self, batch, run, step):
        """Which elements of a transformer's batch are conditional, in this call of a step of `run`."""
        if self._context is None:
            if run is None:
                raise Error("a transformer is called outside of cache_context, by nobody who is known: wrap "
                            "its calls in `with transformer.cache_context(\"cond\"):` and \"uncond\"")
            if not _conditional_first(run.pipe):
                raise Error(f"{type(run.pipe).__name__} does not tell the branch of guidance: wrap its calls "
                            "of the transformer in `with transformer.cache_context(\"cond\"):` and \"uncond\"")
            return range(batch if run.calls.get(step, 0) == 0 else 0)
        branch = self._context[0]
        if branch not in _BRANCHES:
            raise Error(f"cache context {branch!r}, wanted {', '.join(_BRANCHES)}")
        if branch == "uncond":
            return range(0)
        if branch == "cond_uncond":
            if run is None:
                raise Error("cache context 'cond_uncond' outside of a pipeline: nothing tells which half of "
                            "the batch is conditional")
            if run.pipe.do_classifier_free_guidance:
                return range(batch // 2, batch)  # the unconditional come first
        return range(batch)


def _conditional_first(pipe):
    # So do all guiders of diffusers' modular pipelines.
    names = {cls.__name__ for cls in type(pipe).__mro__}
    return bool(names.intersection(_CONDITIONAL_FIRST)) or getattr(pipe, "guider", None) is not None
