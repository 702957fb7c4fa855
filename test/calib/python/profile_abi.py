"""profile.h as ctypes, as bare as the tests need it."""

import ctypes
import os
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int, c_int64, c_size_t
from ctypes import c_uint8, c_uint32, c_uint64, c_void_p

import numpy


class Struct(ctypes.Structure):
    def __init__(self, **fields):
        super().__init__(struct_size=ctypes.sizeof(type(self)), **fields)


class Problem(Struct):
    _fields_ = [("struct_size", c_size_t), ("model", c_char_p), ("frames", c_uint32),
                ("height", c_uint32), ("width", c_uint32), ("max_text", c_uint32),
                ("layers", c_uint32), ("heads", c_uint32), ("steps", c_uint32),
                ("head_dim", c_uint32), ("dtype", c_int), ("anchors", c_uint32),
                ("timesteps", POINTER(c_double)), ("sigmas", POINTER(c_double)),
                ("modules", POINTER(c_char_p)), ("scale", c_double), ("eps_a", c_double),
                ("eps_c", c_double), ("eps_k", c_double)]


class Info(Struct):
    _fields_ = [("struct_size", c_size_t), ("model", c_char_p), ("frames", c_uint32),
                ("height", c_uint32), ("width", c_uint32), ("max_text", c_uint32),
                ("layers", c_uint32), ("heads", c_uint32), ("steps", c_uint32),
                ("head_dim", c_uint32), ("blocks", c_uint32), ("anchors", c_uint32),
                ("prompts", c_uint32), ("prompt_open", c_uint32), ("recovered", c_uint32),
                ("reserved", c_uint32), ("sites", c_uint64), ("sites_added", c_uint64),
                ("scale", c_double), ("eps_a", c_double), ("eps_c", c_double),
                ("eps_k", c_double), ("density", c_double)]


class SiteEnergies(Struct):
    _fields_ = [("struct_size", c_size_t), ("layer", c_uint32), ("step", c_uint32),
                ("head_begin", c_uint32), ("head_count", c_uint32),
                ("energies", POINTER(c_float)), ("cover", POINTER(c_uint8)),
                ("repetition", POINTER(c_float)), ("row_max", POINTER(c_float))]


class SelectOptions(Struct):
    _fields_ = [("struct_size", c_size_t), ("rho", c_double), ("gamma", c_double),
                ("hysteresis", c_double), ("singletons", c_double), ("model", c_char_p),
                ("threads", c_uint32), ("reserved", c_uint32)]


class SelectResult(Struct):
    _fields_ = [("struct_size", c_size_t), ("sites", c_uint64), ("repetitive_sites", c_uint64),
                ("density", c_double), ("kept_mass", c_double), ("computed", c_double),
                ("hysteresis_mass", c_double), ("singletons_mass", c_double)]


class QK(Struct):
    _fields_ = [("struct_size", c_size_t), ("q", c_void_p), ("k", c_void_p),
                ("q_strides", c_int64 * 2), ("k_strides", c_int64 * 2), ("dtype", c_int),
                ("heads", c_uint32), ("head_dim", c_uint32), ("frames", c_uint32),
                ("height", c_uint32), ("width", c_uint32), ("max_text", c_uint32),
                ("text", c_uint32), ("anchors", c_uint32), ("scale", c_double),
                ("threads", c_uint32), ("reserved", c_uint32), ("energies", POINTER(c_float)),
                ("repetition", POINTER(c_float)), ("row_max", POINTER(c_float)),
                ("lse", POINTER(c_float))]


class Refused(RuntimeError):
    """A call that failed; `status` is the end of its CALIBATT_PROFILE_STATUS_*."""

    def __init__(self, message, status):
        super().__init__(message)
        self.status = status


lib = ctypes.CDLL(os.environ["CALIBATT_PROFILE_LIBRARY"])
lib.calibatt_profile_last_error_message.restype = c_char_p
lib.calibatt_profile_status_name.restype = c_char_p
for name, arguments in {
        "calibatt_counts_open": [c_char_p, c_void_p, POINTER(c_void_p)],
        "calibatt_counts_close": [c_void_p],
        "calibatt_counts_info": [c_void_p, c_void_p],
        "calibatt_counts_prompt": [c_void_p, c_uint32, POINTER(c_char_p)],
        "calibatt_counts_has_prompt": [c_void_p, c_char_p, POINTER(c_int)],
        "calibatt_counts_epsilon": [c_void_p, c_uint32, POINTER(c_double)],
        "calibatt_counts_density": [c_void_p, c_uint32, c_uint32, POINTER(c_float)],
        "calibatt_counts_begin_prompt": [c_void_p, c_char_p],
        "calibatt_counts_add": [c_void_p, c_void_p],
        "calibatt_counts_commit_prompt": [c_void_p],
        "calibatt_counts_abandon_prompt": [c_void_p],
        "calibatt_counts_select": [c_void_p, c_void_p, c_char_p, c_void_p],
        "calibatt_block_energies": [c_void_p]}.items():
    getattr(lib, name).argtypes = arguments
lib.calibatt_counts_close.restype = None


def check(status):
    if status != 0:
        name = lib.calibatt_profile_status_name(status).decode()
        raise Refused(lib.calibatt_profile_last_error_message().decode(),
                      name.removeprefix("CALIBATT_PROFILE_STATUS_"))


def floats(array):
    return array.ctypes.data_as(POINTER(c_float))


class Counts:
    """An open counts file."""

    def __init__(self, path, problem=None):
        self.handle = c_void_p()
        check(lib.calibatt_counts_open(str(path).encode(), byref(problem) if problem else None,
                                       byref(self.handle)))

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        lib.calibatt_counts_close(self.handle)
        self.handle = c_void_p()

    def info(self):
        info = Info()
        check(lib.calibatt_counts_info(self.handle, byref(info)))
        return info

    def prompts(self):
        ids = []
        for index in range(self.info().prompts):
            text = c_char_p()
            check(lib.calibatt_counts_prompt(self.handle, index, byref(text)))
            ids.append(text.value.decode())
        return ids

    def has(self, prompt):
        has = c_int()
        check(lib.calibatt_counts_has_prompt(self.handle, prompt.encode(), byref(has)))
        return bool(has.value)

    def epsilon(self, step):
        value = c_double()
        check(lib.calibatt_counts_epsilon(self.handle, step, byref(value)))
        return value.value

    def density(self, layer, step):
        values = numpy.zeros(self.info().heads, numpy.float32)
        check(lib.calibatt_counts_density(self.handle, layer, step, floats(values)))
        return values

    def begin(self, prompt):
        check(lib.calibatt_counts_begin_prompt(self.handle, prompt.encode()))

    def add(self, layer, step, energies, repetition, row_max=None, head_begin=0, cover=None):
        """energies [heads, B, B], repetition [heads], cover [heads, B, bytes]."""
        energies = numpy.ascontiguousarray(energies, numpy.float32)
        repetition = numpy.ascontiguousarray(repetition, numpy.float32)
        site = SiteEnergies(layer=layer, step=step, head_begin=head_begin,
                            head_count=len(energies), energies=floats(energies),
                            repetition=floats(repetition))
        if row_max is not None:
            row_max = numpy.ascontiguousarray(row_max, numpy.float32)
            site.row_max = floats(row_max)
        if cover is not None:
            cover = numpy.ascontiguousarray(cover, numpy.uint8)
            site.cover = cover.ctypes.data_as(POINTER(c_uint8))
        check(lib.calibatt_counts_add(self.handle, byref(site)))

    def commit(self):
        check(lib.calibatt_counts_commit_prompt(self.handle))

    def abandon(self):
        check(lib.calibatt_counts_abandon_prompt(self.handle))

    def select(self, profile, **options):
        given, result = SelectOptions(**options), SelectResult()
        check(lib.calibatt_counts_select(self.handle, byref(given), str(profile).encode(),
                                         byref(result)))
        return result


def problem(grid, layers=1, heads=1, steps=1, **fields):
    fields = {"model": b"test", "head_dim": 64, **fields}
    return Problem(frames=grid[0], height=grid[1], width=grid[2], layers=layers, heads=heads,
                   steps=steps, **fields)


def block_energies(q, k, grid, max_text=0, anchors=0, scale=0.0):
    """q and k [heads, tokens, dim] float32, or uint16 with the bits of bf16, with any strides of
    the first two dimensions. Returns energies, repetition, row maxima, log-sum-exp."""
    heads, tokens, dim = q.shape
    text = tokens - grid[0] * grid[1] * grid[2]
    blocks = -(-(tokens - text + max_text) // 128)
    energies = numpy.full((heads, blocks, blocks), numpy.nan, numpy.float32)
    repetition, row_max = (numpy.full(heads, numpy.nan, numpy.float32) for _ in range(2))
    lse = numpy.full((heads, tokens), numpy.nan, numpy.float32)
    strides = [(c_int64 * 2)(*(s // x.itemsize for s in x.strides[:2])) for x in (q, k)]
    call = QK(q=q.ctypes.data, k=k.ctypes.data, q_strides=strides[0], k_strides=strides[1],
              dtype=0 if q.dtype == numpy.uint16 else 1, heads=heads, head_dim=dim,
              frames=grid[0], height=grid[1], width=grid[2], max_text=max_text, text=text,
              anchors=anchors, scale=scale, energies=floats(energies),
              repetition=floats(repetition), row_max=floats(row_max), lse=floats(lse))
    check(lib.calibatt_block_energies(byref(call)))
    return energies, repetition, row_max, lse
