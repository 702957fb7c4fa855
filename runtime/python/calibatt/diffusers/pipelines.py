"""Pipelines that are followed: who runs, and whether it still is what it was.

A pipeline object that is followed gets a class made of its own, with the same name, whose call tells
that it runs. Copies of it (`copy.copy`, one a request) have that class too.
"""

import contextlib
import contextvars
import copy
import functools

from ..abi import Error
from .models import unwrapped

_running = contextvars.ContextVar("calibatt_run", default=None)

_WORDS = ("a pipeline that is enabled or calibrated is not copied or pickled with its transformers: "
          "calibatt.diffusers.disable(pipe) first, and enable what is made of it. copy.copy(pipe) shares "
          "the transformers and stays enabled")


class Run:
    """One call of a pipeline that is followed."""

    def __init__(self, pipe):
        self.pipe = pipe
        #: Whether its schedule was compared with the package's.
        self.checked = False
        #: Whether the weights were read, to see that they are the same.
        self.read = False
        #: Calls of the transformers so far, by step.
        self.calls = {}

    def of(self, transformer):
        """Whether the pipeline has the transformer."""
        return unwrapped(getattr(self.pipe, transformer.name, None)) is transformer.module


def running(transformer):
    """The Run of the pipeline that calls `transformer` in this thread, or None: the caller has a loop of
    its own, or a pipeline that is not followed."""
    run = _running.get()
    return run if run is not None and run.of(transformer) else None


class Uncopyable:
    """What is put into a transformer, and neither copied nor pickled with it."""

    def __deepcopy__(self, memo):
        raise Error(_WORDS)

    def __reduce_ex__(self, protocol):
        raise Error(_WORDS)


@contextlib.contextmanager
def followed(pipe, owner):
    """While active, `owner.before_run(pipe)` is called before every call of `pipe` and its copies."""
    cls = type(pipe)
    if not hasattr(cls, "__call__") or not hasattr(pipe, "__dict__"):
        yield  # no pipeline; its transformers are called by somebody else
        return
    before = pipe.__dict__.get("_calibatt")
    object.__setattr__(pipe, "_calibatt", owner)
    object.__setattr__(pipe, "__class__", _followed_class(cls))
    try:
        yield
    finally:
        if type(pipe) is _followed_class(cls):
            object.__setattr__(pipe, "__class__", cls)
        pipe.__dict__.pop("_calibatt", None)
        if before is not None:
            object.__setattr__(pipe, "_calibatt", before)


@functools.cache
def _followed_class(cls):
    if issubclass(cls, _Followed):
        return cls

    class Pipeline(_Followed, cls):
        @functools.wraps(cls.__call__)
        def __call__(self, *args, **kwargs):
            owner = self.__dict__.get("_calibatt")
            if owner is not None:
                owner.before_run(self)
            token = _running.set(Run(self))
            try:
                return super().__call__(*args, **kwargs)
            finally:
                _running.reset(token)

    Pipeline._calibatt_class = cls
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(Pipeline, name, getattr(cls, name))
    return Pipeline


class _Followed:
    def __copy__(self):
        made = self.__class__.__new__(self.__class__)
        made.__dict__.update(self.__dict__)
        return made

    def __deepcopy__(self, memo):
        return copy.deepcopy(self._released(), memo)

    def __reduce_ex__(self, protocol):
        return self._released().__reduce_ex__(protocol)

    def _released(self):
        """Itself with its own class, where it was copied while it was followed and that has ended."""
        owner = self.__dict__.pop("_calibatt", None)
        if owner is not None and owner.active:
            object.__setattr__(self, "_calibatt", owner)
            raise Error(_WORDS)
        object.__setattr__(self, "__class__", self._calibatt_class)
        return self
