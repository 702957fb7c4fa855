"""Takes the one attention that a block's processor is there for out of its run.

diffusers' processors call `dispatch_attention_fn`, which stands in the globals of their module and is
replaced there by one that asks who runs; what else they call goes to PyTorch's own function, where a
mode waits beneath all others. So whoever has a mode of its own (guidance by perturbed attention) is
asked first, and no attention backend takes the call away. Compiled code has no mode: there the
dispatch is all there is.
"""

import contextlib
import functools
import inspect
import threading

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode, _pop_mode, _push_mode
from torch.utils._device import DeviceContext

from ..abi import Error


class _Traced:
    #: The Run that torch.compile is in while it traces; compiled code never leaves one here.
    def __init__(self):
        self.run = None


_here = threading.local()  # its `run` is the Run that this thread is in
_traced = _Traced()
_NAME = "dispatch_attention_fn"


class Run:
    """One run of a block's processor over `hidden_states` [batch, tokens, channels].

    Its attention is that of the grid's tokens (with text behind them where `block.joint`) to
    themselves, of all videos of the batch together or one after the other. All others are left alone.
    """

    def __init__(self, block, hidden_states):
        self.block = block
        self.batch, self.tokens = hidden_states.shape[:2]
        #: Videos whose attention came through, and in how many calls.
        self.served = self.calls = 0

    def expects(self, batch, queries, keys):
        wanted = queries == self.tokens or (self.block.joint and queries > self.tokens)
        return wanted and queries == keys and self.served + batch <= self.batch

    def attention(self, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None,
                  enable_gqa=False):
        """What comes of the expected call, [batch, heads, tokens, dim]."""
        wrong = ("dropout" if dropout_p else "a causal mask" if is_causal else
                 "grouped queries" if enable_gqa and query.shape[1] != key.shape[1] else None)
        if wrong is not None:
            raise Error(f"layer {self.block.layer}: attention with {wrong}, kernels have none")
        call = self.calls
        self.calls += 1
        self.served += query.shape[0]
        return self.block.compute(call, query, key, value, attn_mask, scale)

    def finish(self, asked_others):
        """The processor returned; others whose modes were asked first may have answered for it."""
        if self.served == self.batch:
            return
        if asked_others and self.served == 0:
            self.block.skipped()
            return
        name = type(self.block.inner).__name__
        if self.served:
            raise Error(f"layer {self.block.layer}: {name} called attention for {self.served} of "
                        f"{self.batch} videos")
        raise Error(f"layer {self.block.layer}: {name} did not call the attention of {self.tokens} tokens "
                    "to themselves through diffusers' dispatch_attention_fn, or (where it is not "
                    "compiled) PyTorch's scaled_dot_product_attention")


def run_eager(block, args, kwargs):
    """Runs the block's own processor with its attention taken out."""
    run = Run(block, _hidden_states(args, kwargs))
    outer, _here.run = getattr(_here, "run", None), run
    try:
        with _Beneath(run) as asked_others:
            output = block.inner(*args, **kwargs)
    finally:
        _here.run = outer
    run.finish(asked_others)
    return output


def run_compiled(block, args, kwargs):
    """The same as torch.compile sees it."""
    if torch._C._len_torch_function_stack():
        _refuse_modes()
    run = Run(block, _hidden_states(args, kwargs))
    outer, _traced.run = _traced.run, run
    try:
        output = block.inner(*args, **kwargs)
    finally:
        _traced.run = outer
    run.finish(False)
    return output


def _hidden_states(args, kwargs):
    return kwargs["hidden_states"] if "hidden_states" in kwargs else args[1]


def _refuse_modes():
    for mode in torch.overrides._get_current_function_mode_stack():
        if not isinstance(mode, DeviceContext):  # it only says where new tensors go
            raise Error(f"{type(mode).__name__} is active around a compiled block, where it would not see "
                        "its attention: run without torch.compile")


class _Interception(TorchFunctionMode):
    def __init__(self, run):
        super().__init__()
        self.run = run

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query, key = (kwargs[name] if name in kwargs else args[index]
                          for index, name in enumerate(("query", "key")))
            if query.ndim == 4 and self.run.expects(query.shape[0], query.shape[2], key.shape[2]):
                return self.run.attention(*args, **kwargs)
        return func(*args, **kwargs)


class _Beneath:
    """A context in which an _Interception is the last of all modes to be asked; says whether there are
    others."""

    def __init__(self, run):
        self.mode = _Interception(run)

    def __enter__(self):
        above = _all_popped()
        _push_mode(self.mode)
        _pushed(above)
        return any(not isinstance(mode, DeviceContext) for mode in above)

    def __exit__(self, *_):
        above = _all_popped()
        above.remove(self.mode)
        _pushed(above)


def _all_popped():
    return [_pop_mode() for _ in range(torch._C._len_torch_function_stack())]


def _pushed(modes):
    for mode in reversed(modes):
        _push_mode(mode)


@functools.cache
def _asking(original):
    """`original`, a dispatch_attention_fn, that asks first who runs. One for each, so that compiled code
    is the same the next time."""

    @functools.wraps(original)
    def dispatch_attention_fn(*args, **kwargs):
        run = _traced.run if torch.compiler.is_compiling() else getattr(_here, "run", None)
        if run is None:
            return original(*args, **kwargs)
        return _dispatched(run, original, args, kwargs, *args, **kwargs)

    dispatch_attention_fn.calibatt_original = original
    return dispatch_attention_fn


def _dispatched(run, original, given, named, query, key, value, attn_mask=None, dropout_p=0.0,
                is_causal=False, scale=None, enable_gqa=False, attention_kwargs=None, **_):
    # Here tensors are [batch, tokens, heads, dim].
    if not run.expects(query.shape[0], query.shape[1], key.shape[1]):
        return original(*given, **named)
    if attention_kwargs:
        raise Error(f"layer {run.block.layer}: attention with {', '.join(sorted(attention_kwargs))}, which "
                    "are of some backend")
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
    if torch.compiler.is_compiling():
        out = run.attention(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    else:  # by way of the modes of others
        out = F.scaled_dot_product_attention(
            query, key, value, attn_mask=attn_mask, dropout_p=dropout_p, is_causal=is_causal, scale=scale,
            enable_gqa=enable_gqa)
    return out.transpose(1, 2)


_lock = threading.Lock()
_users = {}  # id of a module's globals -> how many need its dispatch to ask


@contextlib.contextmanager
def asking(namespaces):
    """A context in which the dispatch_attention_fn of some modules' globals asks who runs."""
    with contextlib.ExitStack() as stack:
        for names in {id(names): names for names in namespaces if _NAME in names}.values():
            _ask(names)
            stack.callback(_ask_no_more, names)
        yield


def _ask(names):
    with _lock:
        _users[id(names)] = _users.get(id(names), 0) + 1
        if not hasattr(names[_NAME], "calibatt_original"):
            names[_NAME] = _asking(names[_NAME])


def _ask_no_more(names):
    with _lock:
        _users[id(names)] -= 1
        if _users[id(names)] == 0:
            del _users[id(names)]
            # What somebody else put there since calls ours, which then only passes on.
            names[_NAME] = getattr(names[_NAME], "calibatt_original", names[_NAME])


def namespaces_of(cls):
    """The globals of the modules that the methods of a class are written in."""
    for base in cls.__mro__:
        for method in vars(base).values():
            function = inspect.unwrap(method) if callable(method) else None
            if inspect.isfunction(function):
                yield function.__globals__
