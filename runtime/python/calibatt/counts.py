"""The C ABI of calibatt/profile.h as ctypes: counts files, block energies on the CPU, selection."""

import ctypes
import hashlib
import os
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int, c_int64, c_size_t
from ctypes import c_uint8, c_uint32, c_uint64, c_void_p

from . import abi
from .abi import Error
from .arguments import text
from .libraries import Library

DTYPES = {"bf16": 0, "f32": 1, "f16": 2}
_BAD_VALUES = 5
_MAX_ID_BYTES = 1023


class Problem(abi.Struct):
    """What counts are of."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("model", c_char_p),
        ("frames", c_uint32),
        ("height", c_uint32),
        ("width", c_uint32),
        ("max_text", c_uint32),
        ("layers", c_uint32),
        ("heads", c_uint32),
        ("steps", c_uint32),
        ("head_dim", c_uint32),
        ("dtype", c_int),
        ("anchors", c_uint32),
        ("timesteps", POINTER(c_double)),
        ("sigmas", POINTER(c_double)),
        ("modules", POINTER(c_char_p)),
        ("scale", c_double),
        ("eps_a", c_double),
        ("eps_c", c_double),
        ("eps_k", c_double),
    ]


class _Info(abi.Struct):
    _fields_ = [
        ("struct_size", c_size_t),
        ("model", c_char_p),
        ("frames", c_uint32),
        ("height", c_uint32),
        ("width", c_uint32),
        ("max_text", c_uint32),
        ("layers", c_uint32),
        ("heads", c_uint32),
        ("steps", c_uint32),
        ("head_dim", c_uint32),
        ("blocks", c_uint32),
        ("anchors", c_uint32),
        ("prompts", c_uint32),
        ("prompt_open", c_uint32),
        ("recovered", c_uint32),
        ("reserved", c_uint32),
        ("sites", c_uint64),
        ("sites_added", c_uint64),
        ("scale", c_double),
        ("eps_a", c_double),
        ("eps_c", c_double),
        ("eps_k", c_double),
        ("density", c_double),
    ]


class _SiteEnergies(abi.Struct):
    _fields_ = [
        ("struct_size", c_size_t),
        ("layer", c_uint32),
        ("step", c_uint32),
        ("head_begin", c_uint32),
        ("head_count", c_uint32),
        ("energies", POINTER(c_float)),
        ("cover", POINTER(c_uint8)),
        ("repetition", POINTER(c_float)),
        ("row_max", POINTER(c_float)),
    ]


class QK(abi.Struct):
    """Q and K of some heads of one prompt, layer and step, in the memory of the host."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("q", c_void_p),
        ("k", c_void_p),
        ("q_strides", c_int64 * 2),
        ("k_strides", c_int64 * 2),
        ("dtype", c_int),
        ("heads", c_uint32),
        ("head_dim", c_uint32),
        ("frames", c_uint32),
        ("height", c_uint32),
        ("width", c_uint32),
        ("max_text", c_uint32),
        ("text", c_uint32),
        ("anchors", c_uint32),
        ("scale", c_double),
        ("threads", c_uint32),
        ("reserved", c_uint32),
        ("energies", POINTER(c_float)),
        ("repetition", POINTER(c_float)),
        ("row_max", POINTER(c_float)),
        ("lse", POINTER(c_float)),
    ]


class _SelectOptions(abi.Struct):
    _fields_ = [
        ("struct_size", c_size_t),
        ("rho", c_double),
        ("gamma", c_double),
        ("hysteresis", c_double),
        ("singletons", c_double),
        ("model", c_char_p),
        ("threads", c_uint32),
        ("reserved", c_uint32),
    ]


class _SelectResult(abi.Struct):
    _fields_ = [
        ("struct_size", c_size_t),
        ("sites", c_uint64),
        ("repetitive_sites", c_uint64),
        ("density", c_double),
        ("kept_mass", c_double),
        ("computed", c_double),
        ("hysteresis_mass", c_double),
        ("singletons_mass", c_double),
    ]


_library = Library("libcalibatt_profile.so", "CALIBATT_PROFILE_LIBRARY", {
    "calibatt_profile_status_name": (c_char_p, [c_int]),
    "calibatt_profile_last_error_message": (c_char_p, []),
    "calibatt_counts_open": (c_int, [c_char_p, POINTER(Problem), POINTER(c_void_p)]),
    "calibatt_counts_close": (None, [c_void_p]),
    "calibatt_counts_info": (c_int, [c_void_p, POINTER(_Info)]),
    "calibatt_counts_prompt": (c_int, [c_void_p, c_uint32, POINTER(c_char_p)]),
    "calibatt_counts_has_prompt": (c_int, [c_void_p, c_char_p, POINTER(c_int)]),
    "calibatt_counts_epsilon": (c_int, [c_void_p, c_uint32, POINTER(c_double)]),
    "calibatt_counts_begin_prompt": (c_int, [c_void_p, c_char_p]),
    "calibatt_counts_add": (c_int, [c_void_p, POINTER(_SiteEnergies)]),
    "calibatt_counts_commit_prompt": (c_int, [c_void_p]),
    "calibatt_counts_abandon_prompt": (c_int, [c_void_p]),
    "calibatt_counts_select": (
        c_int, [c_void_p, POINTER(_SelectOptions), c_char_p, POINTER(_SelectResult)]),
    "calibatt_block_energies": (c_int, [POINTER(QK)]),
}, Error)


def library():
    """The loaded libcalibatt_profile.so; raises Error naming every place that was tried."""
    return _library.get()


class BadValues(Error):
    """NaN or infinity in what was measured; the message names layer, step and head where known."""


def _check(status):
    if status == 0:
        return
    lib = library()
    message = lib.calibatt_profile_last_error_message().decode(errors="replace")
    name = lib.calibatt_profile_status_name(status).decode()
    raise (BadValues if status == _BAD_VALUES else Error)(message, name)


def block_energies(qk):
    """Fills the outputs of `qk`. Raises BadValues where Q or K has a NaN or infinity."""
    _check(library().calibatt_block_energies(byref(qk)))


def _pointer(array, kind):
    return array.ctypes.data_as(POINTER(kind))


class Counts:
    """An open counts file: created where there is none and `problem` is given, and locked until
    `close()`. Prompts are counted as a whole or not at all."""

    def __init__(self, path, problem=None):
        self.path = os.fspath(path)
        self._handle = c_void_p()
        reference = None if problem is None else byref(problem)
        _check(library().calibatt_counts_open(
            text("path", self.path), reference, byref(self._handle)))

    def info(self):
        """State of the counts as a dict: prompts, sites, sites_added, density, blocks, ..."""
        info = _Info()
        _check(library().calibatt_counts_info(self._open(), byref(info)))
        fields = {name: getattr(info, name) for name, _ in info._fields_}
        fields["model"] = fields["model"].decode()
        del fields["struct_size"], fields["reserved"]
        return fields

    def prompts(self):
        """Ids of the prompts that are counted."""
        ids, text = [], c_char_p()
        for index in range(self.info()["prompts"]):
            _check(library().calibatt_counts_prompt(self._open(), index, byref(text)))
            ids.append(text.value.decode())
        return ids

    def __contains__(self, prompt):
        has = c_int()
        _check(library().calibatt_counts_has_prompt(self._open(), text("prompt", prompt), byref(has)))
        return bool(has.value)

    def begin(self, prompt):
        _check(library().calibatt_counts_begin_prompt(self._open(), text("prompt", prompt)))

    def epsilon(self, step):
        """What share of a row's energy a cover keeps."""
        epsilon = c_double()
        _check(library().calibatt_counts_epsilon(self._open(), step, byref(epsilon)))
        return epsilon.value

    def add(self, layer, step, measured):
        """All heads of one layer and step of the prompt: an energies.Measured."""
        site = _SiteEnergies(
            layer=layer, step=step, energies=_pointer(measured.energies, c_float),
            cover=None if measured.cover is None else _pointer(measured.cover, c_uint8),
            repetition=_pointer(measured.repetition, c_float),
            row_max=_pointer(measured.row_max, c_float))
        _check(library().calibatt_counts_add(self._open(), byref(site)))

    def commit(self):
        _check(library().calibatt_counts_commit_prompt(self._open()))

    def abandon(self):
        _check(library().calibatt_counts_abandon_prompt(self._open()))

    def select(self, profile, *, rho=0.0, gamma=0.0, hysteresis=0.0, singletons=0.0, model=None):
        """Writes a profile of the prompts counted so far; zero means the default. Returns what the
        selection came to, as a dict."""
        options = _SelectOptions(
            rho=rho, gamma=gamma, hysteresis=hysteresis, singletons=singletons,
            model=model or None)
        result = _SelectResult()
        _check(library().calibatt_counts_select(
            self._open(), byref(options), text("path", profile), byref(result)))
        return {name: getattr(result, name) for name, _ in result._fields_[1:]}

    def close(self):
        """Releases the lock; an open prompt is forgotten."""
        if self._handle:
            library().calibatt_counts_close(self._handle)
            self._handle = c_void_p()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _open(self):
        if not self._handle:
            raise Error(f"{self.path}: the counts are closed")
        return self._handle


def prompt_id(text):
    """The id of a prompt: its text, or where that is longer than an id may be, or has several lines,
    its beginning and a hash."""
    line = " ".join(text.split())
    if line == text and len(text.encode()) <= _MAX_ID_BYTES:
        return text
    beginning = line.encode()[:200].decode(errors="ignore")
    return f"{beginning}... {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def counted_prompts(path, model):
    """Ids of the prompts counted in the file `path`, which has to be of `model`; none where there is
    no such file."""
    if not os.path.exists(path):
        return []
    with Counts(path) as counts:
        if counts.info()["model"] != model:
            raise Error(f"{path}: counts are of model {counts.info()['model']!r}, wanted {model!r}")
        return counts.prompts()


def problem(*, model, grid, layers, heads, head_dim, steps, dtype, scale=0.0, max_text=0, anchors=5,
            eps=None):
    """A Problem; `steps` is a list of (timestep, sigma, module), `eps` is (a, c, k) or None for the
    method's own."""
    count = len(steps)
    a, c, k = eps or (0.0, 0.0, 0.0)
    made = Problem(
        model=model, frames=grid[0], height=grid[1], width=grid[2], max_text=max_text,
        layers=layers, heads=heads, steps=count, head_dim=head_dim, dtype=DTYPES[dtype],
        anchors=anchors, scale=scale, eps_a=a, eps_c=c, eps_k=k,
        timesteps=(c_double * count)(*(step[0] for step in steps)),
        sigmas=(c_double * count)(*(step[1] for step in steps)),
        modules=(c_char_p * count)(*(text("module", step[2]) for step in steps)))
    return made
