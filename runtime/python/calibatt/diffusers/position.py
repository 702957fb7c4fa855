"""Where a pipeline is: which step, which transformer, which branch of guidance.

The step is the scheduler's own index. The branch is what the pipeline says through the
transformer's `cache_context`; Mochi runs both branches as a batch of two.
"""

import contextlib

from ..abi import Error

_BRANCHES = ("cond", "uncond", "cond_uncond")


class Position:
    """Follows a pipeline in the context `followed()`. There `enter()` is called before every call of a
    transformer and `leave()` after it, outside of what torch.compile compiles."""

    def __init__(self, pipe, transformers, enter=lambda: None, leave=lambda: None):
        self.pipe = pipe
        self.transformers = transformers
        #: The cache context the pipeline is in; None outside.
        self.branch = None
        self._enter, self._leave = enter, leave

    @contextlib.contextmanager
    def followed(self):
        with contextlib.ExitStack() as stack:
            for transformer in self.transformers:
                self._follow(transformer, stack)
            yield

    def _follow(self, transformer, stack):
        module = transformer.module
        original = getattr(module, "cache_context", None)
        if original is None:
            raise Error(f"{transformer.kind} has no cache_context, which tells the branch of guidance: "
                        "diffusers 0.35 or newer is needed")
        if "cache_context" in vars(module):
            raise Error(f"{transformer.name} is already calibrated or enabled; undo that first")

        @contextlib.contextmanager
        def cache_context(name, *args, **kwargs):
            if name not in _BRANCHES:
                raise Error(f"cache context {name!r}, wanted {', '.join(_BRANCHES)}")
            self.branch = name
            try:
                self._enter()
                with original(name, *args, **kwargs):
                    yield
            finally:
                self.branch = None
                self._leave()

        module.cache_context = cache_context
        stack.callback(delattr, module, "cache_context")

    @property
    def step(self):
        """0 for the noisiest."""
        scheduler = self.pipe.scheduler
        if not hasattr(scheduler, "step_index"):
            raise Error(f"{type(scheduler).__name__} has no step_index, which tells the step")
        # Before its first step a scheduler has none.
        index = scheduler.begin_index if scheduler.step_index is None else scheduler.step_index
        return int(index or 0)

    def steps(self):
        """Every step of the schedule as {timestep, sigma, module}."""
        timesteps = self.pipe.scheduler.timesteps.tolist()
        sigmas = self.pipe.scheduler.sigmas.tolist()
        return [{"timestep": timestep, "sigma": sigma, "module": self.module_of(timestep)}
                for timestep, sigma in zip(timesteps, sigmas)]

    def module_of(self, timestep):
        """The transformer that runs a timestep: of Wan 2.2's two, by the pipeline's boundary."""
        names = [transformer.name for transformer in self.transformers]
        if len(names) == 1 or self.pipe.config.boundary_ratio is None:
            return names[0]
        boundary = self.pipe.config.boundary_ratio * self.pipe.scheduler.config.num_train_timesteps
        return names[0 if timestep >= boundary else 1]

    def conditional(self, batch):
        """Which elements of a transformer's batch are conditional."""
        if self.branch is None:
            raise Error("a transformer is called outside of cache_context: without its pipeline, or by "
                        "one that does not tell the branch of guidance; calibatt.Capture is for those")
        if self.branch == "uncond":
            return range(0)
        if self.branch == "cond_uncond" and self.pipe.do_classifier_free_guidance:
            return range(batch // 2, batch)  # the unconditional come first
        return range(batch)
