"""Arguments of Python as the C ABI takes them: what ctypes would cut or wrap silently is refused."""

import operator
import os

from .errors import Error


def integer(name, value, low=0, high=2**32 - 1):
    """An integer in [low, high]: of Python or NumPy, or an integer tensor without dimensions. Neither
    bools nor numbers that merely round to one."""
    text = repr(value)
    dtype = str(getattr(value, "dtype", ""))
    whole = not (isinstance(value, bool) or dtype.endswith("bool") or getattr(value, "shape", ()))
    try:
        found = operator.index(value) if whole else None
    except (TypeError, ValueError):
        found = None
    if found is None:
        raise Error(f"{name} is {text}, wanted an integer")
    if not low <= found <= high:
        limits = f"{low} to {high}" if high.bit_length() < 32 else f"{low} to 2^{high.bit_length()} - 1"
        raise Error(f"{name} is {found}, wanted {limits}")
    return found


def text(name, value):
    """A string or path as bytes without a zero byte, where C would end it."""
    encoded = os.fsencode(value)
    if b"\0" in encoded:
        raise Error(f"{name} {value!r} has a zero byte")
    return encoded
