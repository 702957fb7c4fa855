"""What a calibration has counted, read and selected again by NumPy alone: nothing of ours is used."""

import json
import math

import numpy

BLOCK = 128
_TYPES = {"U8": "u1", "U32": "<u4", "U64": "<u8", "I64": "<i8", "F32": "<f4"}


def read(path):
    """(document, tensors) of a file of counts or a profile."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    metadata = header.pop("__metadata__")
    document = json.loads(metadata.get("calibatt_counts") or metadata["calibatt"])
    return document, {
        name: numpy.memmap(path, _TYPES[tensor["dtype"]], "r", 8 + size + tensor["data_offsets"][0],
                           tuple(tensor["shape"]))
        for name, tensor in header.items() if tensor["data_offsets"][0] < tensor["data_offsets"][1]}


class Selection:
    """The masks of a file of counts by the criterion of a profile: `count`, `energy` and `kept` [layers,
    heads, steps, B, B], and `repetitive`, `scores`, `density` and `kept_mass` [layers, heads, steps]."""

    def __init__(self, counts, criterion):
        document, tensors = read(counts)
        sites = tuple(document[name] for name in ("layers", "heads")) + (len(document["steps"]),)
        prompts = int(tensors["state"][0])
        count, energy = tensors["count"], tensors["energy_sum"]
        blocks = count.shape[-1]
        kept = count >= criterion["rho"] * prompts
        numpy.put_along_axis(kept, energy.argmax(-1)[..., None], True, -1)
        kept |= numpy.eye(blocks, dtype=bool)
        scores = tensors["repetition"] / 2**32 / prompts
        repetitive = scores >= criterion["gamma"]
        kept[repetitive] = True
        self.prompts = prompts
        self.count = count.reshape(*sites, blocks, blocks)
        self.energy = energy.reshape(*sites, blocks, blocks)  # in units of 2^-24
        self.kept = kept.reshape(*sites, blocks, blocks)
        self.repetitive = repetitive.reshape(sites)
        self.scores = scores.reshape(sites)
        self.density = self.kept.mean((-1, -2))
        tokens = math.prod(document["grid"])
        self.kept_mass = kept_mass(energy.astype(float), kept, tokens).reshape(sites)
        self.kept_mass[self.repetitive] = 1


def kept_mass(energies, kept, tokens):
    """Attention mass of the kept blocks, mean over queries, of energies [..., B, B]."""
    blocks = energies.shape[-1]
    queries = numpy.full(blocks, BLOCK)
    queries[-1] = tokens - BLOCK * (blocks - 1)
    return numpy.where(kept, energies, 0).sum(-1) / energies.sum(-1) @ queries / tokens
