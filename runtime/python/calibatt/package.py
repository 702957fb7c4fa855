"""Packages and their sessions: the Python face of calibatt.h."""

import ctypes
import os
import threading

from . import abi, tensors
from .abi import Error, byref, check, library


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

    def __init__(self, path):
        self._handle = ctypes.c_void_p()
        self._sessions = {}
        self._lock = threading.Lock()
        self.path = os.fspath(path)
        check(library().calibatt_package_open(os.fsencode(self.path), byref(self._handle)))
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
        head_begin=0, allow_dense=False,
    ):
        """Attention of one (layer, step) over [batch, heads, tokens, dim] tensors.

        Returns `out` (made like `q` where it is not given), or `(out, lse)` with `lse=True`: the
        natural log-sum-exp over the kept keys, float32 [batch, heads, tokens]. Tensors hold the heads
        from `head_begin` on. `device` has to agree with where the tensors are ("host", "cuda:N").
        Raises `Error` where the call does not fit the package; `allow_dense` runs the dense kernel
        for layers and steps the package does not have.
        """
        call, out, lse_tensor, place = tensors.describe(q, k, v, out, lse)
        if device is not None and device not in (place, place.split(":")[0]):
            raise Error(f"device is {device!r}, but the tensors are on {place!r}")
        call.layer, call.step = _index("layer", layer), _index("step", step)
        call.scale = scale or 0.0
        session = self._session(place, head_begin, call.heads, allow_dense)
        check(library().calibatt_attention(session, byref(call)))
        return (out, lse_tensor) if lse else out

    def energy(
        self, q, k, v, *, layer=0, step=0, epsilon=None, energies=False, row_max=False,
        repetition=False, weighted=False, out=None, lse=False, workspace=None, head_begin=0,
    ):
        """Dense attention and its block energies, for calibration: an `Energies`.

        Tensors as for `attention`; `layer` and `step` are only told in messages. With `epsilon` the
        minimum cover of every row of energies is found; `energies`, `row_max`, `repetition` (and
        `lse`) say what else to return; `weighted` weights the attention to a key by the norm of its value. On
        a GPU the package has to be one of `calibatt compile --calibration`, and a `workspace` (a
        uint8 tensor that no other call in flight uses) may be given to be used again.
        """
        call, out, lse_tensor, place = tensors.describe(q, k, v, out, lse)
        call.layer, call.step = _index("layer", layer), _index("step", step)
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
        session = self._session(place, head_begin, call.heads, False)
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
        call.layer, call.step = _index("layer", layer), _index("step", step)
        text = ctypes.create_string_buffer(1024)
        status = library().calibatt_match(self._open(), None, byref(call), text, len(text))
        if status not in (0, 3):  # neither OK nor MISMATCH
            check(status)
        return status == 0, text.value.decode(errors="replace")

    def prewarm(self, steps=None, *, device, batch=1, head_begin=0, head_count=None,
                allow_dense=False):
        """Loads the code and uploads the schedules of `steps` (all where None) to a device."""
        count = head_count or self.info["heads"] - head_begin
        session = self._session(device, head_begin, count, allow_dense)
        if steps is None:
            check(library().calibatt_session_prewarm(session, None, 0, batch))
            return
        steps = [_index("step", step) for step in steps]
        array = (ctypes.c_uint32 * len(steps))(*steps)
        check(library().calibatt_session_prewarm(session, array, len(steps), batch))

    def site_mask_bits(self, layer, head, step):
        """The mask a site computes: `blocks` rows of (blocks + 7) // 8 bytes, least significant bit
        first."""
        blocks = self.info["blocks"]
        bits = (ctypes.c_uint8 * (blocks * ((blocks + 7) // 8)))()
        check(library().calibatt_site_mask(
            self._open(), _index("layer", layer), _index("head", head), _index("step", step),
            bits, len(bits)))
        return bytes(bits)

    def site_anchors(self, layer, head, step):
        """(height, width, anchors) where the site computes only `anchors` of the `height` spatial
        rows of `width` tokens a frame and copies them to the rows nearest to them, else None."""
        grid = (ctypes.c_uint32 * 3)()
        check(library().calibatt_site_anchors(
            self._open(), _index("layer", layer), _index("head", head), _index("step", step), grid))
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
        """Counters of every session made so far: {(device, head_begin, heads): {...}}."""
        result = {}
        with self._lock:
            for (place, begin, count, _), session in self._sessions.items():
                stats = abi.SessionStats()
                check(library().calibatt_session_stats(session, byref(stats)))
                fields = {name: getattr(stats, name) for name, _ in stats._fields_}
                fields["last_fallback_reason"] = fields["last_fallback_reason"].decode()
                del fields["struct_size"], fields["reserved"]
                result[place, begin, count] = fields
        return result

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

    def _session(self, place, head_begin, head_count, allow_dense):
        place = "cuda:0" if place == "cuda" else place
        key = place, head_begin, head_count, bool(allow_dense)
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                options = abi.SessionOptions(
                    device=place.encode(), head_begin=_index("head_begin", head_begin),
                    head_count=head_count, allow_dense=int(bool(allow_dense)))
                session = ctypes.c_void_p()
                check(library().calibatt_session_create(
                    self._open(), byref(options), byref(session)))
                self._sessions[key] = session
            return session


def _index(name, value):
    """An index as ctypes takes it: without this, -1 would silently become 4294967295."""
    index = int(value)
    if not 0 <= index < 2**32:
        raise Error(f"{name} is {value}, wanted 0 to 2^32 - 1")
    return index


def load(path):
    """Opens a `.calibatt` package."""
    return Package(path)
