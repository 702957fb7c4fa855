"""Which versions of torch and diffusers the adapters were run with; older ones are refused by name."""

import re

import diffusers
import torch

from ..errors import Error

LEAST = {"torch": (2, 11), "diffusers": (0, 35)}


def check_versions():
    """Raises Error where torch or diffusers is older than LEAST."""
    for module in (torch, diffusers):
        name, least = module.__name__, LEAST[module.__name__]
        found = re.match(r"(\d+)\.(\d+)", module.__version__)
        if found and tuple(map(int, found.groups())) < least:
            raise Error(f"{name} is {module.__version__}, wanted {'.'.join(map(str, least))} or newer")
