#!/usr/bin/env python3
"""What a superset pass could save that makes rows of one site equal, or equal up to a shift.

usage: shifted_rows.py BUILD DATA [--preset 480p|720p] [--layers N] [--heads N] [--steps N] [--seed N]
                       [--profile P] [--scheme equal|diagonal|frame]... [--bound SHARE]...
                       [--steady] [--package]

Invents a profile (or takes P) and merges the rows of every site into classes, the cheapest merge first, as
long as the blocks that this adds stay within SHARE of those the site had. Blocks are added, never taken.
Prints how many classes are left of how many rows. Profiles stay in DATA and are used again.

  equal     rows of a class keep the same key blocks: what a data image stores once
  diagonal  the same key blocks relative to their own query block
  frame     the same keys relative to the frame of their first query, in tokens, each row rounded to blocks
            outwards; a run is held by the middles of its first and last block, so that half a block of
            misalignment costs nothing

--steady makes the steps that a package stores as differences from one whole step (eight) have the same
classes, so that classes do not come and go from step to step; SHARE then holds for the eight together. `as
classes` is what the schedules would take if a package stored the classes, and which row is of which.

--package hands the masks to `calibatt compile --dry-run`, which says what images, stored schedules and
package take and how long the kernels run. `whole` and `turned` compress every eighth step as a package
does, and with every row turned by its own number, so that rows equal up to a shift become equal bytes.
`frame` has none of this and no --steady: it is there for its classes.
"""

import argparse
import ctypes
import ctypes.util
import json
import subprocess
import sys
from pathlib import Path

import numpy
import safetensors.numpy

BLOCK = 128
CHAIN = 8  # steps from one that a package stores whole to the next
WHOLE, DIFFERENCE = 9, 3  # levels of zstd in a package


class Zstd:
    """The two calls of libzstd that are needed; Python has no module of it."""

    def __init__(self):
        self.library = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
        for name in ("ZSTD_compress", "ZSTD_decompress", "ZSTD_compressBound"):
            getattr(self.library, name).restype = ctypes.c_size_t
        self.library.ZSTD_getFrameContentSize.restype = ctypes.c_ulonglong

    def compressed_bytes(self, data, level):
        bound = self.library.ZSTD_compressBound(ctypes.c_size_t(len(data)))
        return self.library.ZSTD_compress(ctypes.create_string_buffer(bound), ctypes.c_size_t(bound), data,
                                          ctypes.c_size_t(len(data)), level)

    def decompress(self, frame):
        size = self.library.ZSTD_getFrameContentSize(frame, ctypes.c_size_t(len(frame)))
        out = ctypes.create_string_buffer(size)
        got = self.library.ZSTD_decompress(out, ctypes.c_size_t(size), frame, ctypes.c_size_t(len(frame)))
        if got != size:
            sys.exit("shifted_rows: a mask frame of the profile cannot be decompressed")
        return out.raw


class Profile:
    def __init__(self, path, zstd):
        with safetensors.safe_open(path, "numpy") as file:
            self.document = json.loads(file.metadata()["calibatt"])
            tensors = {name: file.get_tensor(name) for name in ("pool", "pool_index", "map", "repetition")}
        self.grid = self.document["grid"]
        self.tokens = int(numpy.prod(self.grid))
        self.blocks = -(-(self.tokens + self.document["max_text"]) // BLOCK)
        self.map, self.repetition = tensors["map"], tensors["repetition"]
        self.tensors, self.zstd = tensors, zstd
        self.repetitive = self.repetition >= numpy.float32(self.document["criterion"]["gamma"])

    def head(self, layer, head):
        """[steps, blocks, blocks] bool."""
        offset, size, masks = map(int, self.tensors["pool_index"][layer * self.map.shape[1] + head])
        raw = self.zstd.decompress(self.tensors["pool"][offset:offset + size].tobytes())
        packed = numpy.frombuffer(raw, numpy.uint8).reshape(masks, self.blocks, -1)
        distinct = numpy.unpackbits(packed, axis=-1, bitorder="little", count=self.blocks)
        return distinct[self.map[layer, head]].astype(bool)


def merge_by_cost(union, members, bounds, budget):
    """Merges rows of `union` [rows, places] (bool), the cheapest pair first. members[c, p]: rows of class c
    that have place p. Yields, a bound each, the classes [rows] and the blocks added, before either is passed."""
    rows = len(union)
    union, weight = union.astype(numpy.float32), members.astype(numpy.float32)
    class_of = numpy.arange(rows)
    lacking = weight * (1 - union)  # what a place costs a class that has to take it over
    cost = lacking @ union.T
    cost += cost.T
    cost[numpy.tril_indices(rows)] = numpy.inf
    added, bounds = 0, list(bounds)
    while bounds:
        a, b = divmod(int(cost.argmin()), rows)
        while bounds and not added + cost[a, b] <= bounds[0] * budget:
            yield bounds.pop(0), class_of.copy(), int(added)
        if not bounds:
            return
        added += cost[a, b]
        union[a] = numpy.maximum(union[a], union[b])
        weight[a] += weight[b]
        class_of[class_of == b] = a
        cost[b, :] = cost[:, b] = numpy.inf
        lacking[a] = weight[a] * (1 - union[a])
        new = union @ lacking[a] + lacking @ union[a]
        alive = numpy.isfinite(cost[a]) | numpy.isfinite(cost[:, a])
        cost[a, a + 1:] = numpy.where(alive[a + 1:], new[a + 1:], numpy.inf)
        cost[:a, a] = numpy.where(alive[:a], new[:a], numpy.inf)


def turned(mask):
    """[rows, 2 blocks - 1]: every row moved so that its own block is in the middle."""
    blocks = mask.shape[-1]
    out = numpy.zeros((*mask.shape[:-1], 2 * blocks - 1), bool)
    for r in range(blocks):
        out[..., r, blocks - 1 - r:2 * blocks - 1 - r] = mask[..., r, :]
    return out


def turned_back(rows):
    blocks = rows.shape[-2]
    return numpy.stack([rows[..., r, blocks - 1 - r:2 * blocks - 1 - r] for r in range(blocks)], axis=-2)


def merge_rows(masks, turn, bounds):
    """Of steps that shall have the same classes [steps, rows, blocks]: a bound each, classes, blocks added,
    the rows as they are stored (turned or not), and the masks made of them."""
    rows = turned(masks) if turn else masks
    present = turned(numpy.ones_like(masks)) if turn else numpy.ones_like(masks)
    places = [numpy.concatenate(list(part), axis=-1) for part in (rows, present)]
    for bound, classes, added in merge_by_cost(*places, bounds, masks.sum()):
        stored = rows.copy()
        for c in numpy.unique(classes):
            members = numpy.flatnonzero(classes == c)
            stored[:, members] = rows[:, members].any(axis=1, keepdims=True)
        out = turned_back(stored) if turn else stored
        assert out.sum() - masks.sum() == added and not (masks & ~out).any()
        yield bound, classes, added, stored, out


def merge_frame(mask, grid, bounds):
    """Rows are Python integers, a bit a piece of gcd(frame, block) tokens."""
    blocks, frame = len(mask), grid[1] * grid[2]
    piece = int(numpy.gcd(frame, BLOCK))
    pieces = BLOCK // piece
    whole = (1 << blocks * pieces) - 1
    firsts = sum(1 << b * pieces for b in range(blocks))

    def touched(keys, f):
        """Blocks that the keys of a class touch in frame f."""
        at = keys >> (grid[0] - 1 - f) * (frame // piece) & whole
        for shift in (1 << i for i in range(pieces.bit_length() - 1)):
            at |= at >> shift
        return (at & firsts).bit_count()

    def excess(keys, members):
        return sum(count * touched(keys, f) for f, count in members.items())

    classes = {}
    for r, row in enumerate(mask):
        edges = numpy.flatnonzero(numpy.diff(numpy.concatenate(([0], row.view(numpy.int8), [0]))))
        keys = 0
        for begin, end in edges.reshape(-1, 2):
            first, last = (int(b) * pieces + pieces // 2 for b in (begin, end - 1))
            keys |= (1 << last + 1) - (1 << first)
        f = r * BLOCK // frame
        keys <<= (grid[0] - 1 - f) * (frame // piece)
        classes[r] = (keys, {f: 1}, int(row.sum()))

    def pair(a, b):
        members = dict(classes[a][1])
        for f, count in classes[b][1].items():
            members[f] = members.get(f, 0) + count
        keys = classes[a][0] | classes[b][0]
        total = excess(keys, members)
        return total - classes[a][2] - classes[b][2], (keys, members, total)

    cost = numpy.full((blocks, blocks), numpy.inf)
    for a in range(blocks):
        for b in range(a + 1, blocks):
            cost[a, b] = pair(a, b)[0]
    added, budget, bounds = 0, int(mask.sum()), list(bounds)
    while True:
        a, b = divmod(int(cost.argmin()), blocks)
        while bounds and not added + cost[a, b] <= bounds[0] * budget:
            yield bounds.pop(0), list(classes), added, None, None
        if not bounds:
            return
        added += int(cost[a, b])
        classes[a] = pair(a, b)[1]
        del classes[b]
        cost[b, :] = cost[:, b] = numpy.inf
        for other in classes:
            if other != a:
                cost[min(a, other), max(a, other)] = pair(min(a, other), max(a, other))[0]


SCHEMES = ("equal", "diagonal", "frame")


class Packages:
    """What the compiler makes of masks: written as bitmaps, imported, compiled without code."""

    def __init__(self, calibatt, data, profile):
        self.calibatt, self.data, self.profile = calibatt, data, profile

    def compile(self, masks):
        """masks: {(layer, head): [steps, blocks, blocks]}"""
        layers, heads, steps = self.profile.map.shape
        tensors = {f"mask/{layer}/{step}":
                   numpy.packbits([masks[layer, head][step] for head in range(heads)], axis=-1,
                                  bitorder="little") for layer in range(layers) for step in range(steps)}
        tensors["repetition"] = self.profile.repetition
        document = {key: self.profile.document[key]
                    for key in ("model", "grid", "layers", "heads", "head_dim", "steps")}
        document.update(format="calibatt.bitmaps", version="1.0")
        bitmaps, profile = self.data / "rows.safetensors", self.data / "rows.calib.safetensors"
        safetensors.numpy.save_file(tensors, bitmaps, {"calibatt": json.dumps(document)})
        run(self.calibatt, "profile", "import", bitmaps, "-o", profile, "-j", 1)
        report = json.loads(run(self.calibatt, "compile", profile, "--dry-run", "--no-cache", "-j", 1, "--json"))
        bitmaps.unlink(), profile.unlink()
        return report

    def whole_bytes(self, masks, zstd, turn):
        """All heads of every eighth step, compressed."""
        layers, heads, steps = self.profile.map.shape
        total = 0
        for layer in range(layers):
            for step in range(0, steps, CHAIN):
                rows = numpy.concatenate([masks[layer, head][step] for head in range(heads)])
                if turn:
                    rows = numpy.stack([numpy.roll(row, -(r % len(row))) for r, row in enumerate(rows)])
                packed = numpy.packbits(rows, axis=-1, bitorder="little")
                total += zstd.compressed_bytes(packed.tobytes(), WHOLE)
        return total


class ClassStore:
    """What a package would take that stored the classes of every CHAIN steps, and which row is of which,
    coded as rows are coded now: the first step whole, of every other the bits that differ."""

    def __init__(self, zstd):
        self.zstd, self.parts, self.bytes = zstd, [], 0

    def add(self, stored, classes, present):
        """One head's rows of the steps that are `present` of a chain; the others are repetitive: no rows."""
        first, number = numpy.unique(classes, return_index=True, return_inverse=True)[1:]
        places = numpy.ones(stored.shape[1:], bool)
        if stored.shape[-1] != stored.shape[-2]:
            places = turned(places[:, :stored.shape[-2]])
        # Of a class that is moved, the places that at least one of its rows has.
        used = numpy.stack([places[number == c].any(axis=0) for c in range(len(first))])
        steps = numpy.zeros((len(present), used.sum()), bool)
        steps[present] = stored[:, first][:, used]
        self.parts.append((steps, number.astype(numpy.uint16)))

    def end_chain(self):
        steps = numpy.concatenate([part for part, _ in self.parts], axis=1)
        self.bytes += self.zstd.compressed_bytes(b"".join(number.tobytes() for _, number in self.parts), WHOLE)
        before = None
        for step in steps:
            whole = numpy.packbits(step, bitorder="little").tobytes()
            coded, level = whole, WHOLE
            if before is not None:
                gaps = numpy.diff(numpy.flatnonzero(step ^ before), prepend=-1) - 1
                if (gaps // 255 + 1).sum() <= len(whole) // 2:
                    coded = b"".join(b"\xff" * int(gap // 255) + bytes([gap % 255]) for gap in gaps)
                    level = DIFFERENCE
            self.bytes += self.zstd.compressed_bytes(coded, level)
            before = step
        self.parts = []


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"shifted_rows: {' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def measure(profile, scheme, bounds, steady, zstd):
    """Totals over the sites that are not repetitive, a bound each; the masks made; and their classes, coded."""
    totals = {bound: {"rows": 0, "classes": 0, "kept": 0, "added": 0} for bound in bounds}
    masks = {bound: {} for bound in bounds}
    stores = {bound: ClassStore(zstd) for bound in bounds}
    layers, heads, steps = profile.map.shape
    for layer in range(layers):
        own = [profile.head(layer, head) for head in range(heads)]
        for bound in bounds:
            masks[bound].update({(layer, head): own[head].copy() for head in range(heads)})
        length = CHAIN if steady else 1
        for begin in range(0, steps, length):
            for head in range(heads):
                present = ~profile.repetitive[layer, head, begin:begin + length]
                if not present.any():
                    continue
                chosen = begin + numpy.flatnonzero(present)
                group = own[head][chosen]
                made = merge_frame(group[0], profile.grid, bounds) if scheme == "frame" else \
                    merge_rows(group, scheme == "diagonal", bounds)
                for bound, classes, added, stored, out in made:
                    total = totals[bound]
                    total["rows"] += profile.blocks * len(chosen)
                    total["classes"] += len(numpy.unique(classes)) * len(chosen)
                    total["kept"] += int(group.sum())
                    total["added"] += added
                    if out is not None:
                        masks[bound][layer, head][chosen] = out
                        stores[bound].add(stored, classes, present)
            for store in stores.values():
                if store.parts:
                    store.end_chain()
    return totals, masks, stores


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--preset", default="480p", choices=("480p", "720p"))
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=40)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scheme", action="append", choices=SCHEMES)
    parser.add_argument("--bound", action="append", type=float)
    parser.add_argument("--steady", action="store_true")
    parser.add_argument("--package", action="store_true")
    parser.add_argument("--profile", type=Path)
    options = parser.parse_args()
    options.scheme = options.scheme or [s for s in SCHEMES if s != "frame" or not options.steady]
    if options.steady and "frame" in options.scheme:
        parser.error("frame is merged step by step: not with --steady")
    options.data.mkdir(parents=True, exist_ok=True)
    calibatt, zstd = options.build.resolve() / "bin" / "calibatt", Zstd()
    path = options.profile or options.data / (f"{options.preset}-{options.layers}-{options.heads}-"
                                              f"{options.steps}-{options.seed}.calib.safetensors")
    if not path.exists():
        run(calibatt, "profile", "synth", "--preset", f"wan2.1-14b-{options.preset}", "--layers", options.layers,
            "--heads", options.heads, "--steps", options.steps, "--seed", options.seed, "-o", path, "-j", 1)
    profile = Profile(path, zstd)
    packages = Packages(calibatt, options.data, profile)
    bounds = sorted(options.bound or [0, 0.01, 0.02, 0.05, 0.1])
    print(f"{path.name}: {(~profile.repetitive).sum()} of {profile.map.size} sites have masks, "
          f"{profile.blocks} rows each")
    print(f"{'scheme':<9} {'bound':>6} {'classes':>8} {'of rows':>8} {'added':>7}"
          + (f" {'row classes':>11} {'images':>11} {'stored':>10} {'package':>10} {'predicted':>10}"
             f" {'whole':>9} {'turned':>9}"
             if options.package else "") + (f" {'as classes':>10}" if options.steady else ""), flush=True)
    for scheme in options.scheme:
        totals, masks, stores = measure(profile, scheme, bounds, options.steady, zstd)
        for bound, total in totals.items():
            line = (f"{scheme:<9} {bound:>6.2%} {total['classes']:>8} {total['classes'] / total['rows']:>8.1%} "
                    f"{total['added'] / total['kept']:>7.2%}")
            if options.package and scheme != "frame":
                report = packages.compile(masks[bound])
                counts = report["deduplication"]
                micros = sum(kernel["predicted_us"] for kernel in report["kernels"]
                             if not kernel["dense_fallback"])
                line += (f" {counts['row_classes']:>11} {counts['data_bytes']:>11} {counts['stored_bytes']:>10} "
                         f"{report['predicted_package_bytes']:>10} {micros / 1e3:>8.1f}ms"
                         f" {packages.whole_bytes(masks[bound], zstd, False):>9}"
                         f" {packages.whole_bytes(masks[bound], zstd, True):>9}")
            if options.steady and scheme != "frame":
                line += f" {stores[bound].bytes:>10}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
