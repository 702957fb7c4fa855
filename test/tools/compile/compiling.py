"""Runs of the two programs ($CALIBATT_TOOL, $CALIBATT_COMPILE), and small profiles for them."""

import json
import os
import random
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path

TOOL, COMPILE = os.environ["CALIBATT_TOOL"], os.environ["CALIBATT_COMPILE"]


def environment(**changes):
    """The caller's, without a cache and with these changes; None removes a variable."""
    result = {**os.environ, "CALIBATT_CACHE": "", **changes}
    return {name: str(value) for name, value in result.items() if value is not None}


def start(*command, **changes):
    return subprocess.Popen([str(word) for word in command], env=environment(**changes),
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def finish(process):
    """The process, ended, with what it printed as `out` and `err`."""
    process.out, process.err = process.communicate()
    return process


def run(*command, **changes):
    """A finished command that has to succeed."""
    done = finish(start(*command, **changes))
    if done.returncode:
        raise AssertionError(f"{command}: exit {done.returncode}\n{done.out}{done.err}")
    return done


def compile(profile, package, *options, **changes):
    """The report of a compile that has to succeed."""
    return json.loads(run(COMPILE, profile, "-o", package, "--json", *options, **changes).out)


def compiled(report):
    """Kernels that were compiled, rather than found in the cache."""
    return len(report["code_images"]) - report["cached_code_images"]


def synthesize(path, layers, heads, steps):
    run(TOOL, "profile", "synth", "--preset", "tiny", "--layers", layers, "--heads", heads,
        "--steps", steps, "-o", path)


def random_profile(path, layers, heads, steps):
    """A profile of any number of layers; every step of layer 1's first head is repetitive."""
    blocks = range(4)
    masks = [[[[sorted({row, *random.choices(blocks, k=2)}) for row in blocks]
               for _ in range(heads)] for _ in range(steps)] for _ in range(layers)]
    for step in masks[1]:
        step[0] = [list(blocks) for _ in blocks]
    repetition = [float(layer == 1 and head == 0)
                  for layer in range(layers) for head in range(heads) for _ in range(steps)]
    profile_of_masks(path, masks, repetition)


def profile_of_masks(path, masks, repetition=(), grid=(1, 10, 42), head_dim=64):
    """The profile of `masks[layer][step][head]`, each rows of kept blocks, and of the scores of
    repetition, [layer, head, step], if there are any."""
    row_bytes = (len(masks[0][0][0]) + 7) // 8
    document = {
        "format": "calibatt.bitmaps", "version": "1.0", "model": "masks", "grid": list(grid),
        "layers": len(masks), "heads": len(masks[0][0]), "head_dim": head_dim,
        "steps": [{"timestep": 1000.0 - step, "sigma": 1 - step / 1000, "module": "transformer"}
                  for step in range(len(masks[0]))]}
    header, data = {"__metadata__": {"calibatt": json.dumps(document)}}, b""
    for layer, steps in enumerate(masks):
        for step, heads in enumerate(steps):
            rows = [sum(1 << block for block in row).to_bytes(row_bytes, "little")
                    for head in heads for row in head]
            begin, data = len(data), data + b"".join(rows)
            header[f"mask/{layer}/{step}"] = {
                "dtype": "U8", "shape": [len(heads), len(heads[0]), row_bytes],
                "data_offsets": [begin, len(data)]}
    if repetition:
        begin, data = len(data), data + struct.pack(f"<{len(repetition)}f", *repetition)
        header["repetition"] = {
            "dtype": "F32", "shape": [len(masks), len(masks[0][0]), len(masks[0])],
            "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    bitmaps = Path(f"{path}.bitmaps")
    bitmaps.write_bytes(struct.pack("<Q", len(text)) + text + data)
    run(TOOL, "profile", "import", bitmaps, "-o", path)
    bitmaps.unlink()


class FolderTest(unittest.TestCase):
    """A test with a folder of its own, and `<folder>/<name>` as self.path(name)."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def path(self, name):
        return self.folder / name

    def names(self):
        return sorted(path.name for path in self.folder.iterdir())
