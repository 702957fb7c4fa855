"""Calibrates a pipeline of diffusers while it makes videos."""

import contextlib
import hashlib
import math
import warnings

import torch

from ..abi import Error
from ..capture import Capture
from ..counts import counted_prompts, prompt_id
from .identity import Watch, model_id
from .models import transformers_of, unwrapped
from .pipelines import Uncopyable, followed, running
from .position import Position
from .processors import Processors
from .schedule import Schedule, index_of, steps_of, timestep_of
from .skipping import skipping
from .versions import check_versions


class Calibration(Uncopyable):
    """A context in which a pipeline is observed: what `calibatt.diffusers.calibrate` returns."""

    def __init__(self, pipe, out, model=None, **options):
        check_versions()
        self.out = out
        self._transformers = transformers_of(pipe)
        #: Id of the model and its weights, as it is in the counts.
        self.model = model or model_id(self._transformers)
        self._options = options
        self._pipe = pipe
        self._position = Position(self._transformers)
        self._attached = contextlib.ExitStack()
        self._capture = None
        self._named = None  # the prompt of `with calibration.prompt()`
        self._grid = None
        #: The schedule that is counted: {timestep, sigma, module} of every step.
        self.steps = None
        self._elements, self._step = (), None  # of the transformer call that runs
        self._watch = None

    def __enter__(self):
        for transformer in self._transformers:
            if "_calibatt" in vars(transformer.module):
                raise Error(f"{transformer.name} is already calibrated or enabled; undo that first")
            self._check_whole(transformer)
        with contextlib.ExitStack() as attached:
            attached.enter_context(followed(self._pipe, self))
            attached.enter_context(self._position.followed())
            attached.enter_context(Processors(self._transformers, self._attend))
            for transformer in self._transformers:
                module = transformer.module
                module._calibatt = self
                attached.callback(delattr, module, "_calibatt")
                hook = module.register_forward_pre_hook(_Before(self, transformer), with_kwargs=True)
                attached.callback(hook.remove)
                attached.callback(module.register_forward_hook(_After(self)).remove)
            self._attached = attached.pop_all()
        self._watch = Watch(self._transformers)
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

    @property
    def active(self):
        """Whether the pipeline is observed."""
        return vars(self._transformers[0].module).get("_calibatt") is self

    def before_run(self, pipe):
        """`pipe`, or a copy of it, is about to run."""
        for transformer in self._transformers:
            now = unwrapped(getattr(pipe, transformer.name, None))
            if now is not transformer.module and self.active:
                raise Error(f"{transformer.name} was replaced during calibration: begin another one")

    def before(self, transformer, args, kwargs):
        """A transformer is about to run."""
        self._check_whole(transformer)
        latents = transformer.argument("hidden_states", args, kwargs)
        run = running(transformer)
        pipe = self._pipe if run is None else run.pipe
        steps = steps_of(pipe, [transformer.name for transformer in self._transformers])
        step = self._step_of(transformer, steps, transformer.argument("timestep", args, kwargs), pipe)
        self._elements = self._position.conditional(latents.shape[0], run, step)
        if run is not None:
            run.calls[step] = run.calls.get(step, 0) + 1
        if not self._elements:
            return
        if len(self._elements) != 1:
            raise Error(f"{transformer.name} is called with {len(self._elements)} videos, wanted one "
                        "prompt and one video a call of the pipeline")
        text = transformer.argument("encoder_hidden_states", args, kwargs)
        grid = transformer.grid(latents)
        if self._capture is None:
            self._open(transformer, grid, steps, text)
        if grid != self._grid:
            raise Error(f"the grid changed from {_sizes(self._grid)} to {_sizes(grid)}: counts are of one")
        if steps != self.steps:
            raise Error(f"the schedule changed from {_schedule(self.steps)} to {_schedule(steps)}: "
                        "counts are of one")
        if self._watch.changed(thorough=step == 0):
            raise Error("the model is no longer what it was when its calibration began (its weights, or an "
                        "adapter)")
        self._step = step
        if self._named is None and step != 0 and self._capture.open_prompt is None:
            raise Error(f"a run that begins at step {step} is not counted, wanted all {len(steps)} steps "
                        "(of a video-to-video pipeline, strength 1)")
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

    def _step_of(self, transformer, steps, timestep, pipe):
        told = self._position.told()
        if told.index is None:
            told.index = index_of(pipe.scheduler)
        return Schedule(steps, f"the schedule of {type(pipe).__name__}").find(
            transformer.name, timestep_of(timestep), timestep.dtype, told)

    def _check_whole(self, transformer):
        found = skipping(transformer.module)
        if found:
            raise Error(f"{transformer.name}: {', '.join(found)} leaves attention out, which would not be "
                        "counted; calibrate without it (transformer.disable_cache())")

    def _attend(self, layer, call, attention):
        """The attention of a block; Mochi has one a batch element, the others one for all."""
        out = None
        if self._elements:
            self._check_scale(layer, attention)
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

    def _check_scale(self, layer, attention):
        scale = attention.query.shape[-1] ** -0.5 if attention.scale is None else attention.scale
        geometry = self._capture.geometry
        if geometry.scale is None:
            geometry.scale = scale
        if not math.isclose(scale, geometry.scale, rel_tol=1e-6):
            raise Error(f"layer {layer}: attention with scale {scale:g}, counts are of {geometry.scale:g}")

    def after(self):
        """A transformer has run."""
        if self._elements and self._named is None and self._capture.complete:
            self._capture.finish()

    def _forget(self, reason):
        if self._capture.open_prompt is not None:
            warnings.warn(f"prompt {self._capture.open_prompt!r} is not counted: {reason}", stacklevel=3)
            self._capture.abandon(reason)


class _Before(Uncopyable):
    def __init__(self, calibration, transformer):
        self.calibration, self.transformer = calibration, transformer

    @torch.compiler.disable  # whatever the transformer is compiled to, this is not
    def __call__(self, _, args, kwargs):
        self.calibration.before(self.transformer, args, kwargs)


class _After(Uncopyable):
    def __init__(self, calibration):
        self.calibration = calibration

    @torch.compiler.disable
    def __call__(self, *_):
        self.calibration.after()


def _text_id(embedding):
    """An id of a prompt whose text nobody told: by its embedding."""
    digest = hashlib.sha256(embedding.detach().float().cpu().numpy().tobytes())
    return f"text-{digest.hexdigest()[:16]}"


def _sizes(grid):
    return "x".join(map(str, grid))


def _schedule(steps):
    return f"{len(steps)} steps from timestep {steps[0]['timestep']:g}"
