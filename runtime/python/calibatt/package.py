"""Packages and their sessions: the Python face of calibatt.h."""

import ctypes
import os
import threading

from . import abi, tensors
from .abi import Error, byref, check, library


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
