"""Calibrates a pipeline of diffusers while it makes videos."""

import contextlib
import hashlib
import warnings

from ..abi import Error
from ..capture import Capture
from ..counts import counted_prompts, prompt_id
from .identity import model_id
from .models import transformers_of
from .position import Position
from .processors import Processors


class Calibration:
    """A context in which a pipeline is observed: what `calibatt.diffusers.calibrate` returns."""

    def __init__(self, pipe, out, model=None, **options):
        self.out = out
        self._transformers = transformers_of(pipe)
        #: Id of the model and its weights, as it is in the counts.
        self.model = model or model_id(self._transformers)
        self._options = options
        self._position = Position(pipe, self._transformers)
        self._attached = contextlib.ExitStack()
        self._capture = None
        self._named = None  # the prompt of `with calibration.prompt()`
        self._grid = None
        #: The schedule that is counted: {timestep, sigma, module} of every step.
        self.steps = None
        self._elements, self._step = (), None  # of the transformer call that runs

    def __enter__(self):
        with contextlib.ExitStack() as attached:
            attached.enter_context(self._position.followed())
            attached.enter_context(Processors(self._transformers, self._attend))
            for transformer in self._transformers:
                module = transformer.module
                hook = module.register_forward_pre_hook(
                    lambda _, args, kwargs, t=transformer: self._before(t, args, kwargs),
                    with_kwargs=True)
                attached.callback(hook.remove)
                attached.callback(module.register_forward_hook(lambda *_: self._after()).remove)
            self._attached = attached.pop_all()
        return self

    def __exit__(self, kind, error, trace):
        self._attached.close()
        if self._capture is not None:
            self._forget("the calibration ended" if kind is None else "an exception")
            self._capture.close()

    def __contains__(self, prompt):
        """Whether a prompt is counted already, in this run or one before."""
        return prompt_id(prompt) in (self._capture or counted_prompts(self.out, self.model))

    @property
    def refused(self):
        """{prompt id: why it is not counted}."""
        return self._capture.refused if self._capture else {}

    @contextlib.contextmanager
    def prompt(self, name):
        """Names the prompt of the one pipeline call inside."""
        if self._capture is not None:
            self._forget("another prompt began")
            self._capture.begin(name)
        self._named = name
        try:
            yield
            if self._capture is None:
                raise Error(f"prompt {name!r}: no transformer of the pipeline ran")
            self._capture.finish()
        finally:
            self._named = None
            if self._capture is not None:
                self._capture.abandon("an exception")

    def _before(self, transformer, args, kwargs):
        """A transformer is about to run."""
        latents = transformer.argument("hidden_states", args, kwargs)
        self._elements = self._position.conditional(latents.shape[0])
        if not self._elements:
            return
        if len(self._elements) != 1:
            raise Error(f"{transformer.name} is called with {len(self._elements)} videos, wanted one "
                        "prompt and one video a call of the pipeline")
        text = transformer.argument("encoder_hidden_states", args, kwargs)
        grid, steps, step = transformer.grid(latents), self._position.steps(), self._position.step
        if self._capture is None:
            self._open(transformer, grid, steps, text)
        if grid != self._grid:
            raise Error(f"the grid changed from {_sizes(self._grid)} to {_sizes(grid)}: counts are of one")
        if steps != self.steps:
            raise Error(f"the schedule changed from {_schedule(self.steps)} to {_schedule(steps)}: "
                        "counts are of one")
        self._check_step(transformer, step, transformer.argument("timestep", args, kwargs))
        self._step = step
        if self._named is None and step == 0:
            # The pipeline began a prompt by itself. One that it left unfinished does not count.
            self._forget("the pipeline stopped before its last step")
            self._capture.begin(_text_id(text[self._elements[0]]))

    def _open(self, transformer, grid, steps, text):
        self._capture = Capture(
            self.out, model=self.model, grid=grid, steps=steps, layers=len(transformer.attentions),
            max_text=text.shape[1] if transformer.joint_text else 0, **self._options)
        self._grid, self.steps = grid, steps
        if self._named is not None:
            self._capture.begin(self._named)

    def _check_step(self, transformer, step, timestep):
        wanted = self.steps[step]
        # Wan 2.2 5B has one a token, and those of a given first frame are 0.
        given = timestep.max()
        if given != given.new_tensor(wanted["timestep"]):
            raise Error(f"step {step} runs timestep {given.item():g}, the schedule has "
                        f"{wanted['timestep']:g}")
        if transformer.name != wanted["module"]:
            raise Error(f"step {step} runs {transformer.name}, by the boundary of the pipeline it is "
                        f"{wanted['module']}'s")

    def _attend(self, layer, call, attention):
        """The attention of a block; Mochi has one a batch element, the others one for all."""
        out = None
        if self._elements:
            lengths = attention.lengths()
            for element in self._elements:
                index = element - call
                if 0 <= index < len(lengths):
                    q, k, v = (tensor[index:index + 1, :, :lengths[index]]
                               for tensor in (attention.query, attention.key, attention.value))
                    out = self._capture.observe(
                        q, k, v, layer=layer, step=self._step,
                        text=lengths[index] - self._capture.geometry.video)
        # What measured it has computed it too, if there was nothing else in it.
        whole = out is not None and out.shape == attention.query.shape
        return out if whole else attention.dense()

    def _after(self):
        """A transformer has run."""
        if self._elements and self._named is None and self._capture.complete:
            self._capture.finish()

    def _forget(self, reason):
        if self._capture.open_prompt is not None:
            warnings.warn(f"prompt {self._capture.open_prompt!r} is not counted: {reason}", stacklevel=3)
            self._capture.abandon(reason)


def _text_id(embedding):
    """An id of a prompt whose text nobody told: by its embedding."""
    digest = hashlib.sha256(embedding.detach().float().cpu().numpy().tobytes())
    return f"text-{digest.hexdigest()[:16]}"


def _sizes(grid):
    return "x".join(map(str, grid))


def _schedule(steps):
    return f"{len(steps)} steps from timestep {steps[0]['timestep']:g}"
