"""Runs the attention of a pipeline of diffusers from a package."""

import collections
import contextlib
import operator
import threading
import warnings

import torch

from .. import package as packages
from ..abi import Error
from ..torch_op import Operator
from ..window import Window
from .calls import NOWHERE, Call, Calls
from .identity import Watch, has_adapters, model_id, same_model
from .models import NAMES, transformers_of, unwrapped
from .pipelines import Uncopyable, followed, running
from .position import Position
from .processors import Kernels, Processors
from .schedule import Schedule, index_of, steps_of, timestep_of
from .sharding import head_begin_of
from .skipping import skipping
from .versions import check_versions


class Enabled(Uncopyable):
    """A pipeline whose self-attention runs from a package, until `disable()` or the end of a `with`
    block: what `calibatt.diffusers.enable` returns."""

    def __init__(self, pipe, package, *, device=None, allow_dense=False, any_model=False, step=None,
                 head_begin=None, byte_budget=None):
        check_versions()
        if step not in (None, "index") and not callable(step):
            raise Error(f"step is {step!r}, wanted None, \"index\" or a function")
        self._transformers = transformers_of(pipe, joint_text=False)
        self._names = [transformer.name for transformer in self._transformers]
        for transformer in self._transformers:
            if transformer.joint_text:
                raise Error(f"{transformer.kind} attends to video and text together; kernels for joint "
                            "text are not built yet")
            if "_calibatt" in vars(transformer.module):
                raise Error(f"{transformer.name} is already calibrated or enabled; undo that first")
        self._pipe = pipe
        self._device, self._strict, self._step_given = device, not allow_dense, step
        self._counts, self._lock = collections.Counter(), threading.Lock()
        self._here = threading.local()
        self._attached = contextlib.ExitStack()
        with contextlib.ExitStack() as attached:
            if not isinstance(package, packages.Package):
                package = attached.enter_context(packages.load(package))
            #: The open package; its `stats()` tell launches and dense fallbacks.
            self.package = package
            self._schedule = Schedule(package.steps, package.path)
            self._check_package(any_model)
            self._checked = set()  # (transformer, kind of device) whose type was looked at
            for transformer in self._transformers:
                self._check_dtype(transformer, device or _device_of(transformer.module))
            self._watch = None if any_model else Watch(self._transformers)
            if head_begin is None:
                head_begin = head_begin_of(self._transformers, package.info["heads"])
            #: How the steps of the package come to a GPU.
            self.window = Window(package, byte_budget if byte_budget is not None else package.byte_budget or None)
            attached.callback(self.window.close)
            self._calls = Calls(self, self.window)
            self._operator = Operator(
                self._calls, device=device, allow_dense=allow_dense, head_begin=head_begin)
            self._position = Position(self._transformers)
            attached.enter_context(followed(pipe, self))
            attached.enter_context(self._position.followed())
            attached.enter_context(Processors(
                self._transformers, self._attend,
                Kernels(self._operator, self._calls.step, self._calls.skip)))
            self._processors = {transformer.name: [module.processor for module in transformer.attentions]
                                for transformer in self._transformers}
            self._calls.attach(self._transformers, attached)
            for transformer in self._transformers:
                transformer.module._calibatt = self
                attached.callback(delattr, transformer.module, "_calibatt")
            self._attached = attached.pop_all()

    def disable(self):
        """Gives the pipeline its own attention back, and closes the package where this opened it. What
        somebody else put in the place of ours stays."""
        if self.active:
            for name in self._replaced(self._pipe):
                warnings.warn(f"{name} was replaced while enabled: the new one did not run from "
                              f"{self.package.path}", stacklevel=2)
        self._attached.close()

    @property
    def active(self):
        """Whether the pipeline still runs from the package."""
        return vars(self._transformers[0].module).get("_calibatt") is self

    def stats(self):
        """How calls of the transformers went, beside the package's own `stats()`: `calls`, `dense_calls`
        (with `allow_dense`, as the grid or step did not fit), `skipped_layers` (a cache or a guider left
        them out), `bypassed_layers` and `bypassed_runs` (with `allow_dense`, as somebody replaced a
        processor or a transformer)."""
        names = ("calls", "dense_calls", "skipped_layers", "bypassed_layers", "bypassed_runs")
        return {name: self._counts[name] for name in names}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.disable()

    def before_run(self, pipe):
        """`pipe`, or a copy of it, is about to run."""
        replaced = self._replaced(pipe) if self.active else []
        if replaced and self._strict:
            raise Error(f"{replaced[0]} was replaced after enable, and would not run from "
                        f"{self.package.path}: disable() first, and enable again")
        self._count("bypassed_runs", bool(replaced))

    def begin(self, transformer, latents, timestep, scale):
        """A transformer is called: the Call that it is."""
        if latents.is_cuda and torch.cuda.is_current_stream_capturing():
            raise Error("a CUDA graph of a transformer would repeat the masks of one step")
        self._check_dtype(transformer, latents.device.type)
        run = running(transformer)
        call = Call(transformer, NOWHERE, None, set())
        try:
            self._check_grid(transformer, latents)
            call.step = self._step_of(transformer, timestep, run)
        except Error as error:
            if self._strict:
                raise
            call.dense = str(error)
        self._check_model(transformer, call.step, run, scale)
        self._count("calls", 1)
        self._count("dense_calls", call.dense is not None)
        return call

    def missed(self, call, layers):
        """A call ended in which layers did not come through."""
        now = call.transformer.attentions_now()
        ours = self._processors[call.transformer.name]
        bypassed = [layer for layer in layers
                    if now[layer] is not call.transformer.attentions[layer]
                    or now[layer].processor is not ours[layer]]
        skipped = [] if bypassed else skipping(call.transformer.module)
        if skipped:
            self._count("skipped_layers", len(layers))
            return
        if self._strict:
            why = ("somebody set {} for layer {} after enable".format(
                type(getattr(now[bypassed[0]], "processor", None)).__name__, bypassed[0]) if bypassed
                else "nothing that skips layers is known")
            raise Error(f"{call.transformer.name}, step {call.step}: the attention of layers "
                        f"{', '.join(map(str, layers))} did not run from {self.package.path} ({why}): "
                        "disable() first, and enable again")
        self._count("bypassed_layers", len(layers))

    def skipped(self, layers):
        """Somebody else answered for the attention of so many layers."""
        self._count("skipped_layers", layers)

    def _check_package(self, any_model):
        info, path = self.package.info, self.package.path
        layers = len(self._transformers[0].attentions)
        if info["layers"] != layers:
            raise Error(f"{path}: has {info['layers']} layers, the pipeline has {layers}")
        if not any_model:
            mine = model_id(self._transformers)
            if not same_model(info["model"], mine):
                raise Error(f"{path}: was made for {info['model']}, the pipeline is {mine}; any_model=True "
                            "runs it all the same")
        if self._step_given is None:
            times = {step["timestep"] for step in self.package.steps}
            if not times or len(times) == 1 < len(self.package.steps):
                what = "has no timesteps" if not times else f"has timestep {times.pop():g} at every step"
                raise Error(f"{path}: {what}, so that no call can be told to be a step of it: compile it "
                            "from a profile that has them, or say the step by enable(step=...)")

    def _check_dtype(self, transformer, device):
        kind = "cuda" if device.startswith("cuda") else "host"
        if (transformer.name, kind) in self._checked:
            return
        dtype = transformer.module.dtype
        wanted = (torch.bfloat16,) if kind == "cuda" else (torch.bfloat16, torch.float32)
        if dtype not in wanted:
            raise Error(f"{transformer.name} computes in {dtype} on {kind}, kernels are for "
                        f"{' and '.join(map(str, wanted))}")
        self._checked.add((transformer.name, kind))

    def _check_grid(self, transformer, latents):
        grid = transformer.grid(latents)
        wanted = tuple(self.package.info[size] for size in ("frames", "height", "width"))
        if grid != wanted:
            raise Error(f"{self.package.path}: has grid {'x'.join(map(str, wanted))}, the call has "
                        f"{'x'.join(map(str, grid))}")

    def _step_of(self, transformer, timestep, run):
        value, told = timestep_of(timestep), self._position.told()
        if callable(self._step_given):
            return operator.index(self._step_given(transformer.name, value))
        schedule, scheduler = self._schedule, getattr(run.pipe, "scheduler", None) if run else None
        if scheduler is not None:
            if told.index is None:
                told.index = index_of(scheduler)
            if self._step_given is None and not run.checked:
                schedule.check(steps_of(run.pipe, self._names), scheduler)
                run.checked = True
            if self._step_given == "index":
                schedule = Schedule(
                    steps_of(run.pipe, self._names), f"the schedule of {type(run.pipe).__name__}")
        if self._step_given is None or schedule is not self._schedule:
            self._check_number(len(schedule))
            return schedule.find(transformer.name, value, timestep.dtype, told)
        if told.index is None:
            raise Error(f"timestep {value:g}: nothing tells its index, wanted a pipeline that enable knows, "
                        "or cache_context(step_index=...) around the call")
        self._check_number(told.steps)
        return told.index

    def _check_number(self, steps):
        if steps not in (None, self.package.info["steps"]):
            raise Error(f"{self.package.path}: has {self.package.info['steps']} steps, the pipeline runs "
                        f"{steps}")

    def _check_model(self, transformer, step, run, scale):
        if self._watch is None:
            return
        if scale != 1 and has_adapters(transformer):
            raise Error(f"{transformer.name} is called with a scale of {scale:g} for its adapters: another "
                        f"model than {self.package.path} was made for; any_model=True runs it all the same")
        # Weights are read once a run; what is cheap to see, at every call.
        last, self._here.step = getattr(self._here, "step", None), step
        begins = not run.read if run is not None else last is None or step < last
        if self._watch.changed(thorough=begins):
            raise Error("the model is no longer what it was when enabled (its weights, or an adapter): "
                        "disable() first, and enable again with a package of it, or with any_model=True")
        if run is not None:
            run.read = True

    def _attend(self, layer, call, attention):
        if attention.mask is not None:
            raise Error(f"layer {layer}: attention with a mask, kernels have none")
        return self._operator(
            attention.query, attention.key, attention.value, layer=layer, step=self._calls.step,
            scale=attention.scale)

    def _replaced(self, pipe):
        return [transformer.name for transformer in self._transformers
                if unwrapped(getattr(pipe, transformer.name, None)) is not transformer.module]

    def _count(self, name, number):
        with self._lock:
            self._counts[name] += int(number)


def _device_of(module):
    """The type of the device that a module runs on, as far as it says so."""
    hook = getattr(module, "_hf_hook", None)
    device = getattr(hook, "execution_device", None)
    return str(torch.device(device).type if device is not None else module.device.type)


def disable(pipe):
    """Ends `enable` of a pipeline, or of copies of it, whose handle is lost; returns whether it was
    enabled."""
    models = [unwrapped(getattr(pipe, name)) for name in NAMES if getattr(pipe, name, None) is not None]
    handles = [vars(what).get("_calibatt") for what in (pipe, *models)]
    found = [handle for handle in dict.fromkeys(handles) if isinstance(handle, Enabled) and handle.active]
    for handle in found:
        handle.disable()
    return bool(found)
