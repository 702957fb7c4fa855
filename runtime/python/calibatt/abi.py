"""The C ABI of calibatt.h as ctypes: structs, prototypes, and statuses as exceptions."""

import ctypes
from ctypes import POINTER, byref, c_char, c_char_p, c_double, c_int, c_int64, c_size_t
from ctypes import c_uint8, c_uint32, c_uint64, c_void_p

from . import arguments
from .errors import Error
from .libraries import Library

DTYPE_BF16 = 0
DTYPE_F32 = 1


_UNSIGNED = (c_uint8, c_uint32, c_uint64, c_size_t)


class Struct(ctypes.Structure):
    """A struct of calibatt.h, with its size set. Its integers and strings hold what they are given, or
    refuse it."""

    def __init__(self, **fields):
        super().__init__(struct_size=ctypes.sizeof(type(self)), **fields)

    def __setattr__(self, name, value):
        kind = dict(self._fields_).get(name)
        if kind in _UNSIGNED:
            value = arguments.integer(name, value, high=2 ** (8 * ctypes.sizeof(kind)) - 1)
        elif kind is c_char_p and value is not None:
            value = arguments.text(name, value)
        super().__setattr__(name, value)


class PackageInfo(Struct):
    _fields_ = [
        ("struct_size", c_size_t),
        ("model", c_char_p),
        ("granularity", c_char_p),
        ("dtype", c_char_p),
        ("archs", c_char_p),
        ("profile_digest", c_char_p),
        ("frames", c_uint32),
        ("height", c_uint32),
        ("width", c_uint32),
        ("tokens", c_uint32),
        ("max_text", c_uint32),
        ("layers", c_uint32),
        ("heads", c_uint32),
        ("steps", c_uint32),
        ("head_dim", c_uint32),
        ("block", c_uint32),
        ("blocks", c_uint32),
        ("min_driver", c_uint32),
        ("kernels", c_uint32),
        ("code_images", c_uint32),
        ("data_images", c_uint32),
        ("scale", c_double),
        ("file_bytes", c_uint64),
    ]


class Step(Struct):
    _fields_ = [
        ("struct_size", c_size_t),
        ("timestep", c_double),
        ("sigma", c_double),
        ("module", c_char_p),
    ]


class SessionOptions(Struct):
    _fields_ = [
        ("struct_size", c_size_t),
        ("device", c_char_p),
        ("head_begin", c_uint32),
        ("head_count", c_uint32),
        ("byte_budget", c_uint64),
        ("allow_dense", c_uint32),
        ("host_threads", c_uint32),
    ]


class Call(Struct):
    _fields_ = [
        ("struct_size", c_size_t),
        ("layer", c_uint32),
        ("step", c_uint32),
        ("batch", c_uint32),
        ("heads", c_uint32),
        ("tokens", c_uint32),
        ("head_dim", c_uint32),
        ("dtype", c_int),
        ("reserved", c_uint32),
        ("q", c_void_p),
        ("k", c_void_p),
        ("v", c_void_p),
        ("o", c_void_p),
        ("q_strides", c_int64 * 3),
        ("k_strides", c_int64 * 3),
        ("v_strides", c_int64 * 3),
        ("o_strides", c_int64 * 3),
        ("lse", c_void_p),
        ("lse_strides", c_int64 * 2),
        ("stream", c_void_p),
        ("scale", c_double),
    ]


class Energy(Struct):
    _fields_ = [
        ("struct_size", c_size_t),
        ("cover", c_void_p),
        ("epsilon", c_double),
        ("energies", c_void_p),
        ("row_max", c_void_p),
        ("repetition", c_void_p),
        ("weighted", c_uint32),
        ("reserved", c_uint32),
        ("workspace", c_void_p),
        ("workspace_bytes", c_uint64),
    ]


class SessionStats(Struct):
    _fields_ = [
        ("struct_size", c_size_t),
        ("calls", c_uint64),
        ("launches", c_uint64),
        ("dense_fallbacks", c_uint64),
        ("device_bytes", c_uint64),
        ("code_images", c_uint32),
        ("data_images", c_uint32),
        ("tensor_maps", c_uint32),
        ("reserved", c_uint32),
        ("last_fallback_reason", c_char * 256),
        ("evictions", c_uint64),
        ("reruns", c_uint64),
    ]


_PROTOTYPES = {
    "calibatt_version": (c_char_p, []),
    "calibatt_status_name": (c_char_p, [c_int]),
    "calibatt_last_error_message": (c_char_p, []),
    "calibatt_package_open": (c_int, [c_char_p, POINTER(c_void_p)]),
    "calibatt_package_close": (None, [c_void_p]),
    "calibatt_package_info": (c_int, [c_void_p, POINTER(PackageInfo)]),
    "calibatt_package_step": (c_int, [c_void_p, c_uint32, POINTER(Step)]),
    "calibatt_site_mask": (
        c_int,
        [c_void_p, c_uint32, c_uint32, c_uint32, POINTER(c_uint8), c_size_t],
    ),
    "calibatt_site_anchors": (
        c_int,
        [c_void_p, c_uint32, c_uint32, c_uint32, POINTER(c_uint32)],
    ),
    "calibatt_session_create": (c_int, [c_void_p, POINTER(SessionOptions), POINTER(c_void_p)]),
    "calibatt_session_destroy": (None, [c_void_p]),
    "calibatt_session_prewarm": (c_int, [c_void_p, POINTER(c_uint32), c_size_t, c_uint32]),
    "calibatt_attention": (c_int, [c_void_p, POINTER(Call)]),
    "calibatt_energy_workspace": (
        c_int,
        [c_void_p, POINTER(Call), POINTER(Energy), POINTER(c_uint64)],
    ),
    "calibatt_energy": (c_int, [c_void_p, POINTER(Call), POINTER(Energy)]),
    "calibatt_match": (c_int, [c_void_p, c_void_p, POINTER(Call), c_char_p, c_size_t]),
    "calibatt_session_stats": (c_int, [c_void_p, POINTER(SessionStats)]),
}


_library = Library("libcalibatt.so", "CALIBATT_LIBRARY", _PROTOTYPES, Error)


def library():
    """The loaded libcalibatt.so; raises Error naming every place that was tried."""
    return _library.get()


def check(status):
    """Raises Error with the library's message unless the status is OK."""
    if status != 0:
        lib = library()
        message = lib.calibatt_last_error_message().decode(errors="replace")
        raise Error(message, lib.calibatt_status_name(status).decode())


__all__ = [
    "Call", "DTYPE_BF16", "DTYPE_F32", "Error", "PackageInfo", "SessionOptions", "SessionStats",
    "Struct", "byref", "check", "library",
]
