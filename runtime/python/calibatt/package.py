"""Packages and their sessions: the Python face of calibatt.h."""

import collections
import ctypes
import os
import threading

from . import abi, tensors
from .abi import byref, check, library
from .arguments import integer, text
from .errors import Error

_Key = collections.namedtuple("_Key", "place head_begin heads allow_dense byte_budget")


class Energies:
    """What `Package.energy` came to; what was not asked for is None.

    out        [batch, heads, tokens, dim]
    lse        [batch, heads, tokens] float32
    cover      [batch, heads, blocks, (blocks + 7) // 8] uint8, least significant bit first
    energies   [batch, heads, blocks, blocks] float32
    row_max    [batch, heads, tokens] float32, the largest scaled logit of each row
    repetition [batch, heads] float32, the score of each head
    workspace  what the call worked in, to be given to the next one on the same stream
    """

    def __init__(self, out, lse):
        self.out, self.lse = out, lse
        self.cover = self.energies = self.row_max = self.repetition = self.workspace = None


class Package:
    """An open package. Use `calibatt.load`; close with `close()` or a `with` block."""

    def __init__(self, path, *, byte_budget=None):
        self._handle = ctypes.c_void_p()
        self._sessions = {}
        self._lock = threading.Lock()
        self.path = os.fspath(path)
        #: Bytes of GPU memory for the schedules of a session, where a call does not say it; 0: no limit.
        self.byte_budget = integer("byte_budget", byte_budget or 0, high=2**64 - 1)
        check(library().calibatt_package_open(text("path", self.path), byref(self._handle)))
        info = abi.PackageInfo()
        check(library().calibatt_package_info(self._handle, byref(info)))
        #: What the package was compiled for, as a dict: tokens, heads, scale, archs, ...
        self.info = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in ((field[0], getattr(info, field[0])) for field in info._fields_)
            if name != "struct_size"
        }
        #: The schedule that the masks were measured on: {timestep, sigma, module} of every step.
        #: Empty where the package does not tell it.
        self.steps = self._read_steps()

    def attention(
        self, q, k, v, *, layer, step, out=None, lse=False, scale=None, device=None,
        head_begin=None, allow_dense=False, byte_budget=None,
    ):
        """Attention of one (layer, step) over [batch, heads, tokens, dim] tensors.

        Returns `out` (made like `q` where it is not given), or `(out, lse)` with `lse=True`: the
        natural log-sum-exp over the kept keys, float32 [batch, heads, tokens]. Tensors hold all heads,
        or some from `head_begin` on. `device` has to agree with where the tensors are ("host",
        "cuda:N"). Raises `Error` where the call does not fit the package, in scale too; `allow_dense`
        runs the dense kernel for layers and steps the package does not have (it is for the package's
        tokens, as the others), and stats() count that. `byte_budget` is the package's where it is None.
        """
        call, out, lse_tensor, place = tensors.describe(q, k, v, out, lse)
        if device is not None and device not in (place, place.split(":")[0]):
            raise Error(f"device is {device!r}, but the tensors are on {place!r}")
        call.layer, call.step = integer("layer", layer), integer("step", step)
        if scale is not None:
            if scale == 0:  # which to the C ABI is the package's
                raise Error(f"scale is 0, the package was compiled for {self.info['scale']:g}")
            call.scale = scale
        head_begin = self._heads(call, head_begin)
        if allow_dense and call.tokens != self.info["tokens"]:
            raise Error(f"the call has {call.tokens} tokens, and the package's dense kernel is for "
                        f"{self.info['tokens']}, as its others: allow_dense is for layers and steps that "
                        "it does not have", "CALIBATT_STATUS_MISMATCH")
        session = self._session(place, head_begin, call.heads, allow_dense, byte_budget)
        check(library().calibatt_attention(session, byref(call)))
        return (out, lse_tensor) if lse else out

    def energy(
        self, q, k, v, *, layer=0, step=0, epsilon=None, energies=False, row_max=False,
        repetition=False, weighted=False, out=None, lse=False, workspace=None, head_begin=None,
    ):
        """Dense attention and its block energies, for calibration: an `Energies`.

        Tensors as for `attention`; `layer` and `step` are only told in messages. With `epsilon` the
        minimum cover of every row of energies is found; `energies`, `row_max`, `repetition` (and
        `lse`) say what else to return; `weighted` weights the attention to a key by the norm of its value. On
        a GPU the package has to be one of `calibatt compile --calibration`, and a `workspace` (a
        uint8 tensor that no other call in flight uses) may be given to be used again.
        """
        call, out, lse_tensor, place = tensors.describe(q, k, v, out, lse)
        call.layer, call.step = integer("layer", layer), integer("step", step)
        blocks = self.info["blocks"]
        made = Energies(out=out, lse=lse_tensor)
        asked = abi.Energy(epsilon=epsilon or 0.0, weighted=int(weighted))
        if epsilon is not None:
            shape = (call.batch, call.heads, blocks, (blocks + 7) // 8)
            made.cover, asked.cover = tensors.empty(q, shape, "uint8")
        if energies:
            shape = (call.batch, call.heads, blocks, blocks)
            made.energies, asked.energies = tensors.empty(q, shape, "float32")
        if row_max:
            shape = (call.batch, call.heads, call.tokens)
            made.row_max, asked.row_max = tensors.empty(q, shape, "float32")
        if repetition:
            shape = (call.batch, call.heads)
            made.repetition, asked.repetition = tensors.empty(q, shape, "float32")
        session = self._session(place, self._heads(call, head_begin), call.heads, False)
        needed = ctypes.c_uint64()
        check(library().calibatt_energy_workspace(
            session, byref(call), byref(asked), byref(needed)))
        if needed.value:
            # A tensor of the caller's framework: freed in the order of its stream.
            if workspace is None or workspace.nbytes < needed.value:
                workspace, _ = tensors.empty(q, (needed.value,), "uint8")
            asked.workspace, asked.workspace_bytes = workspace.data_ptr(), workspace.nbytes
        check(library().calibatt_energy(session, byref(call), byref(asked)))
        made.workspace = workspace
        return made

    def match(self, q, k, v, *, layer, step):
        """`(fits, why)`: whether `attention` would take the call, in words. All heads."""
        call, *_ = tensors.describe(q, k, v, None, False)
        call.layer, call.step = integer("layer", layer), integer("step", step)
        words = ctypes.create_string_buffer(1024)
        status = library().calibatt_match(self._open(), None, byref(call), words, len(words))
        if status not in (0, 3):  # neither OK nor MISMATCH
            check(status)
        return status == 0, words.value.decode(errors="replace")

    def prewarm(self, steps=None, *, device, batch=1, head_begin=0, head_count=None,
                allow_dense=False, byte_budget=None):
        """Loads the code and uploads the schedules of `steps` (all where None) to a device, for calls of
        these heads, `allow_dense` and `byte_budget`."""
        head_begin, batch = integer("head_begin", head_begin), integer("batch", batch)
        count = self.info["heads"] - head_begin if head_count is None else head_count
        session = self._session(device, head_begin, count, allow_dense, byte_budget)
        if steps is None:
            check(library().calibatt_session_prewarm(session, None, 0, batch))
            return
        steps = [integer("step", step) for step in steps]
        array = (ctypes.c_uint32 * len(steps))(*steps)
        check(library().calibatt_session_prewarm(session, array, len(steps), batch))

    def site_mask_bits(self, layer, head, step):
        """The mask a site computes: `blocks` rows of (blocks + 7) // 8 bytes, least significant bit
        first."""
        blocks = self.info["blocks"]
        bits = (ctypes.c_uint8 * (blocks * ((blocks + 7) // 8)))()
        check(library().calibatt_site_mask(
            self._open(), integer("layer", layer), integer("head", head), integer("step", step),
            bits, len(bits)))
        return bytes(bits)

    def site_anchors(self, layer, head, step):
        """(height, width, anchors) where the site computes only `anchors` of the `height` spatial
        rows of `width` tokens a frame and copies them to the rows nearest to them, else None."""
        grid = (ctypes.c_uint32 * 3)()
        check(library().calibatt_site_anchors(
            self._open(), integer("layer", layer), integer("head", head), integer("step", step), grid))
        return tuple(grid) if grid[2] else None

    def site_mask(self, layer, head, step):
        """The same as a list of `blocks` rows of bools."""
        blocks = self.info["blocks"]
        bits, row_bytes = self.site_mask_bits(layer, head, step), (blocks + 7) // 8
        return [
            [bool(bits[row * row_bytes + column // 8] >> (column % 8) & 1)
             for column in range(blocks)]
            for row in range(blocks)
        ]

    def stats(self):
        """Counters of every session made so far: {(device, head_begin, heads): {...}}; sessions that
        differ in their options alone are added up."""
        result = {}
        with self._lock:
            for key, session in self._sessions.items():
                fields = _stats(session)
                known = result.setdefault(key[:3], fields)
                if known is not fields:
                    for name, value in fields.items():
                        known[name] = value or known[name] if name == "last_fallback_reason" else (
                            known[name] + value)
        return result

    def forget(self, *, device, head_begin, heads, allow_dense, byte_budget):
        """Releases one session, of which no launch may be in flight; its counters go with it."""
        with self._lock:
            session = self._sessions.pop(
                _Key(device, head_begin, heads, bool(allow_dense), byte_budget), None)
        if session is not None:
            library().calibatt_session_destroy(session)

    def close(self):
        """Releases the sessions and the package. No launch may be in flight."""
        with self._lock:
            for session in self._sessions.values():
                library().calibatt_session_destroy(session)
            self._sessions = {}
            if self._handle:
                library().calibatt_package_close(self._handle)
                self._handle = ctypes.c_void_p()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        return f"<calibatt.Package {self.path!r}: {self.info['model']}, {self.info['tokens']} tokens>"

    def _read_steps(self):
        steps = []
        for index in range(self.info["steps"]):
            step = abi.Step()
            status = library().calibatt_package_step(self._handle, index, byref(step))
            if status == 3:  # MISMATCH: not told
                return []
            check(status)
            steps.append({"timestep": step.timestep, "sigma": step.sigma,
                          "module": step.module.decode(errors="replace")})
        return steps

    def _open(self):
        if not self._handle:
            raise Error(f"{self.path}: the package is closed")
        return self._handle

    def _heads(self, call, head_begin):
        """Which of the package's heads a call's tensors begin with."""
        heads, tokens = self.info["heads"], self.info["tokens"]
        if call.heads == tokens != call.tokens and call.tokens <= heads:
            raise Error(f"q has {call.heads} heads of {call.tokens} tokens, the package {heads} of {tokens}: "
                        "it looks like [batch, tokens, heads, dim], transpose(1, 2) it",
                        "CALIBATT_STATUS_MISMATCH")
        if head_begin is not None:
            return integer("head_begin", head_begin)
        if call.heads != heads:
            raise Error(f"q has {call.heads} heads, the package has {heads}: of some of them say the first "
                        "by head_begin", "CALIBATT_STATUS_MISMATCH")
        return 0

    def _session(self, place, head_begin, heads, allow_dense, byte_budget=None):
        place = "cuda:0" if place == "cuda" else place
        budget = self.byte_budget if byte_budget is None else byte_budget
        key = _Key(place, head_begin, heads, bool(allow_dense), budget)
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                options = abi.SessionOptions(
                    device=place, head_begin=head_begin, head_count=heads,
                    allow_dense=int(bool(allow_dense)), byte_budget=budget)
                session = ctypes.c_void_p()
                check(library().calibatt_session_create(
                    self._open(), byref(options), byref(session)))
                self._sessions[key] = session
            return session


def _stats(session):
    stats = abi.SessionStats()
    check(library().calibatt_session_stats(session, byref(stats)))
    fields = {name: getattr(stats, name) for name, _ in stats._fields_}
    fields["last_fallback_reason"] = fields["last_fallback_reason"].decode(errors="replace")
    del fields["struct_size"], fields["reserved"]
    return fields


def load(path, *, byte_budget=None):
    """Opens a `.calibatt` package. `byte_budget`: bytes of GPU memory for the schedules of a session;
    beyond it those of steps used longest ago are released (and counted in stats()); None: no limit."""
    return Package(path, byte_budget=byte_budget)
