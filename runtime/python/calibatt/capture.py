"""Observes Q and K of a model that runs, and counts which blocks of its attention matter.

    with calibatt.Capture("P.counts.safetensors", model="my-model", grid=(21, 30, 52), steps=50,
                          layers=40) as capture:
        for prompt in prompts:
            with capture.prompt(prompt):
                ...  # runs the model, which calls for every layer and step
                capture.observe(q, k, layer=3, step=10)

`calibatt profile select P.counts.safetensors -o P.calib.safetensors` makes a profile of it. For the
pipelines of diffusers, `calibatt.diffusers.calibrate` does all of this.
"""

import contextlib
import math
import os
import warnings

from .abi import Error
from .counts import BadValues, Counts, counted_prompts, problem, prompt_id
from .energies import CpuEnergies, Geometry, dtype_name
from .progress import Progress


class Capture:
    """Counts prompts into the file `out`, which is created, or gone on with where it exists.

    model     an id of the model and its weights; counts of another are refused
    grid      (frames, height, width) of the video tokens
    steps     their number, or a list of dicts with timestep, sigma and module, the noisiest first
    layers    their number
    eps       (a, c, k) of eps(t) = a + (c - a) exp(-k t / steps); None: the method's
    max_text  most text tokens that may follow the video in the same attention
    scale     of the logits; None: 1 / sqrt(head_dim)
    prompts   how many there will be, if known: for the time left
    energies  an EnergySource; None: on the CPU
    progress  False: tells nothing

    A prompt is counted when all its layers and steps were observed, and as a whole: one that is
    killed in between leaves no trace, and the next run goes on with what was counted.
    """

    def __init__(self, out, *, model, grid, steps, layers, eps=None, anchors=5, max_text=0,
                 scale=None, prompts=None, energies=None, progress=True):
        self.out = os.fspath(out)
        self.model = model
        self.geometry = Geometry(grid, max_text=max_text, anchors=anchors, scale=scale)
        self.steps = _steps(steps)
        self.layers = layers
        #: {prompt id: why it is not counted}, for prompts with NaN or infinity in Q or K.
        self.refused = {}
        self._eps = eps
        self._energies = energies or CpuEnergies()
        self._counts = None
        self._form = None  # (heads, head_dim, dtype) of what was observed
        self._prompt = None
        self._counting = False
        self._observed = set()
        self._progress = Progress(prompts, layers * len(self.steps)) if progress else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes the counts; a prompt that is open is not counted."""
        if self._counts is not None:
            self._counts.close()
            self._counts = None

    def __contains__(self, prompt):
        """Whether a prompt is counted already, in this run or one before."""
        return prompt_id(prompt) in (self._counts or counted_prompts(self.out, self.model))

    @contextlib.contextmanager
    def prompt(self, name):
        """What is observed inside belongs to the prompt `name` (its text, say), and is counted at the
        end. Where it is counted already nothing is measured; ask `name in capture` first and save
        the work."""
        self.begin(name)
        try:
            yield
        except BaseException:
            self.abandon("an exception")
            raise
        self.finish()

    def begin(self, name):
        """Begins a prompt; `prompt()` does it, and ends it."""
        name = prompt_id(name)
        if self._prompt is not None:
            raise Error(f"prompt {name!r} begins inside of prompt {self._prompt!r}")
        if self._counts is not None and name not in self._counts:
            self._counts.begin(name)
            self._counting = True
        else:
            self._counting = name not in self
        self._prompt = name
        self._observed = set()
        self.refused.pop(name, None)
        if self._progress:
            self._progress.begin(name)

    def finish(self):
        """Counts the prompt. Raises Error where layers or steps are missing."""
        name = self._prompt
        if name is None:
            raise Error("no prompt is open")
        if not self._counting:
            self._end(name, "refused" if name in self.refused else "skipped",
                      self.refused.get(name, "counted already"))
            return
        if not self.complete:
            layer, step = min(self._missing(), key=lambda site: site[::-1])
            wanted = self.layers * len(self.steps)
            self.abandon("incomplete")
            raise Error(f"prompt {name!r}: {len(self._observed)} of {wanted} calls were observed, the "
                        f"first missing is layer {layer}, step {step}")
        try:
            self._counts.commit()
        except Error as error:
            self._end(name, "abandoned", str(error))
            raise
        self._end(name, "counted")

    def abandon(self, reason):
        """Forgets the open prompt, if there is one."""
        if self._prompt is not None:
            if self._counts is not None:
                self._counts.abandon()
            self._end(self._prompt, "abandoned", reason)

    @property
    def open_prompt(self):
        """Id of the prompt that is being observed, or None."""
        return self._prompt

    @property
    def complete(self):
        """Whether all layers and steps of the open prompt were observed."""
        return self._prompt is not None and len(self._observed) == self.layers * len(self.steps)

    def observe(self, q, k, v=None, *, layer, step, branch="cond", text=0):
        """Q and K of one attention, [1, heads, tokens, dim], as they are multiplied: after
        normalisation and rotary embedding. The last `text` tokens are text. Of the branches of
        classifier-free guidance, "cond" counts and "uncond" does nothing. Returns the attention's
        output where `v` is given and the source of energies computes it, else None."""
        if branch not in ("cond", "uncond"):
            raise Error(f"branch is {branch!r}, wanted \"cond\" or \"uncond\"")
        if branch == "uncond":
            return None
        if self._prompt is None:
            raise Error("nothing may be observed outside of a prompt: use `with capture.prompt(id):`")
        where = f"prompt {self._prompt!r}, layer {layer}, step {step}"
        self._check_call(where, q, k, layer, step, text)
        if (layer, step) in self._observed:
            raise Error(f"{where}: observed twice")
        self._observed.add((layer, step))
        if not self._counting:
            return None
        if self._counts is None:
            self._open(q)
        try:
            measured = self._energies.measure(
                q, k, v, self.geometry, text, self._counts.epsilon(step))
            self._counts.add(layer, step, measured)
        except BadValues as error:
            self._refuse(f"layer {layer}, step {step}: {error}")
            return None
        if self._progress:
            self._progress.call(layer, step, self._counts.info()["density"])
        return measured.out

    def _check_call(self, where, q, k, layer, step, text):
        for name, tensor in (("q", q), ("k", k)):
            shape = tuple(tensor.shape)
            if len(shape) != 4 or shape[0] != 1:
                raise Error(f"{where}: {name} has shape {shape}, wanted [1, heads, tokens, dim]: one "
                            "prompt at a time, and of guidance only the conditional branch")
            tokens = self.geometry.video + text
            if shape[2] != tokens:
                raise Error(f"{where}: {name} has {shape[2]} tokens, wanted {tokens} (grid "
                            f"{self.geometry} and {text} of text)")
        if tuple(q.shape) != tuple(k.shape) or q.dtype != k.dtype:
            raise Error(f"{where}: k is {k.dtype} {tuple(k.shape)}, q is {q.dtype} {tuple(q.shape)}")
        form = (q.shape[1], q.shape[3], dtype_name(q))
        if self._form not in (None, form):
            raise Error("{}: q has {} heads of {} {}, it had {} of {} {}".format(where, *form, *self._form))
        if not 0 <= text <= self.geometry.max_text:
            raise Error(f"{where}: {text} text tokens, wanted at most {self.geometry.max_text}")
        for name, value, count in (("layer", layer, self.layers), ("step", step, len(self.steps))):
            if not 0 <= value < count:
                raise Error(f"{where}: the capture has {name}s 0 to {count - 1}")

    def _open(self, q):
        heads, head_dim, dtype = form = (q.shape[1], q.shape[3], dtype_name(q))
        if self.geometry.scale is None:
            self.geometry.scale = 1 / math.sqrt(head_dim)
        counts = Counts(self.out, problem(
            model=self.model, grid=self.geometry.grid, layers=self.layers, heads=heads,
            head_dim=head_dim, steps=self.steps, dtype=dtype, scale=self.geometry.scale,
            max_text=self.geometry.max_text, anchors=self.geometry.anchors, eps=self._eps))
        try:
            counts.begin(self._prompt)
        except Error:
            counts.close()
            raise
        self._counts, self._form = counts, form

    def _refuse(self, reason):
        self._counts.abandon()
        self._counting = False
        self.refused[self._prompt] = reason
        warnings.warn(f"prompt {self._prompt!r} is not counted: {reason}", stacklevel=3)

    def _missing(self):
        return {(layer, step) for layer in range(self.layers)
                for step in range(len(self.steps))} - self._observed

    def _end(self, name, result, reason=None):
        self._prompt = None
        self._counting = False
        if self._progress:
            more = {"reason": reason} if reason else {}
            if self._counts is not None:
                more["density"] = round(self._counts.info()["density"], 4)
            self._progress.end(result, **more)


def _steps(steps):
    """[(timestep, sigma, module)] of a number or a list of dicts."""
    if isinstance(steps, int):
        steps = [{}] * steps
    return [(float(step.get("timestep", 0)), float(step.get("sigma", 0)),
             step.get("module", "transformer")) for step in steps]
