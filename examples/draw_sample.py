#!/usr/bin/env python3
"""Draws examples/sample.svg: attention of the sample's heads with the blocks their kernels compute.

    examples/quickstart.sh
    .venv/bin/python examples/draw_sample.py out/quickstart/sample.calibatt

Grey is attention of prompt 0, computed here from its dump; the outlined blocks, and the
anchor rows of repetitive heads, are read from the package through the C ABI
(calibatt_site_mask, calibatt_site_anchors).
"""

import argparse
import base64
import ctypes
import json
import pathlib
import struct
import zlib

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
BLOCK = 128
SIZE = 196  # pixels a map
GAP = 20
INK, PAPER, ACCENT, QUIET = "#1d2733", "#ffffff", "#d9480f", "#66737f"


def read_dump(path):
    """{name: float32 array} of a safetensors file of BF16 tensors."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    tensors = {}
    for name, entry in json.loads(raw[8:8 + size]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            half = np.frombuffer(raw[8 + size + begin:8 + size + end], "<u2").astype(np.uint32)
            tensors[name] = (half << 16).view(np.float32).reshape(entry["shape"])
    return tensors


def site_mask(library, package, site, blocks):
    """The [blocks, blocks] mask of a (layer, head, step)."""
    row = (blocks + 7) // 8
    bits = (ctypes.c_uint8 * (blocks * row))()
    status = library.calibatt_site_mask(package, *map(ctypes.c_uint32, site), bits,
                                        ctypes.c_size_t(len(bits)))
    if status:
        raise SystemExit(library.calibatt_last_error_message().decode())
    rows = np.frombuffer(bits, np.uint8).reshape(blocks, row)
    return np.unpackbits(rows, axis=1, bitorder="little")[:, :blocks].astype(bool)


def site_anchors(library, package, site):
    """(spatial rows a frame, tokens a row, rows that are computed) of a repetitive site, else None."""
    grid = (ctypes.c_uint32 * 3)()
    if library.calibatt_site_anchors(package, *map(ctypes.c_uint32, site), grid):
        raise SystemExit(library.calibatt_last_error_message().decode())
    height, width, count = grid
    return (height, width, [(2 * i + 1) * height // (2 * count) for i in range(count)]) if count else None


def computed_parts(mask, anchors, tokens):
    """Rectangles (left, top, right, bottom) in tokens that kernels compute, and those they do not."""
    if anchors is None:
        cells = [(c * BLOCK, r * BLOCK, min(tokens, (c + 1) * BLOCK), min(tokens, (r + 1) * BLOCK), mask[r, c])
                 for r, c in np.ndindex(*mask.shape)]
        return [cell[:4] for cell in cells if cell[4]], [cell[:4] for cell in cells if not cell[4]]
    height, width, rows = anchors
    kinds = [row % height in rows for row in range(tokens // width)]
    parts = {True: [], False: []}
    begin = 0
    for end in range(1, len(kinds) + 1):  # rows of one kind are one rectangle
        if end == len(kinds) or kinds[end] != kinds[begin]:
            parts[kinds[begin]].append((0, begin * width, tokens, end * width))
            begin = end
    return parts[True], parts[False]


def attention(q, k):
    logits = q.astype(np.float64) @ k.astype(np.float64).T / np.sqrt(q.shape[1])
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def png(grey):
    """A PNG of a uint8 [height, width] picture."""
    def chunk(kind, data):
        return (struct.pack(">I", len(data)) + kind + data
                + struct.pack(">I", zlib.crc32(kind + data)))
    height, width = grey.shape
    rows = b"".join(b"\0" + row.tobytes() for row in grey)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


def draw_map(p, mask, anchors, x, y, title, computed):
    tokens = len(p)
    cells = tokens // 3  # three tokens a pixel
    mean = p[:cells * 3, :cells * 3].reshape(cells, 3, cells, 3).mean(axis=(1, 3))
    grey = 255 - np.clip(255 * (mean / np.quantile(mean, 0.995)) ** 0.5, 0, 255).astype(np.uint8)
    grey |= 15  # sixteen levels are enough and compress well
    image = base64.b64encode(png(grey)).decode()
    scale = SIZE / tokens
    parts = [f'<text x="{x}" y="{y - 8}" font-size="12" fill="{INK}">{title}</text>',
             f'<text x="{x + SIZE}" y="{y - 8}" font-size="11" text-anchor="end" '
             f'fill="{ACCENT}">{computed}</text>',
             f'<image x="{x}" y="{y}" width="{SIZE}" height="{SIZE}" '
             f'href="data:image/png;base64,{image}" preserveAspectRatio="none"/>']
    kept, others = computed_parts(mask, anchors, tokens)
    for left, top, right, bottom in others:
        parts.append(f'<rect x="{x + left * scale:.1f}" y="{y + top * scale:.1f}" '
                     f'width="{(right - left) * scale:.1f}" height="{(bottom - top) * scale:.1f}" '
                     f'fill="{PAPER}" fill-opacity="0.72"/>')
    for left, top, right, bottom in kept:
        parts.append(f'<rect x="{x + left * scale + 1:.1f}" y="{y + top * scale + 1:.1f}" '
                     f'width="{(right - left) * scale - 2:.1f}" height="{(bottom - top) * scale - 2:.1f}" '
                     f'fill="none" stroke="{ACCENT}" stroke-width="1.5"/>')
    parts.append(f'<rect x="{x}" y="{y}" width="{SIZE}" height="{SIZE}" fill="none" stroke="{QUIET}"/>')
    return "".join(parts)


def draw_pipeline(width):
    """The boxes of the data flow over the maps."""
    boxes = [("Q, K dumps", "a file a prompt"), ("profile", "masks, a site each"),
             ("sattn IR", "rows, runs, form"), ("CUDA kernels", "schedule baked in"),
             ("package", "*.calibatt"), ("attention", "host or GPU")]
    verbs = ["calibrate", "compile", "emit", "NVRTC", "open"]
    step = (width - 2 * GAP + 44) / len(boxes)
    parts = []
    for index, (name, note) in enumerate(boxes):
        x = GAP + index * step
        parts.append(f'<rect x="{x:.1f}" y="26" width="{step - 44:.1f}" height="46" rx="6" '
                     f'fill="#f3f5f7" stroke="{QUIET}"/>'
                     f'<text x="{x + (step - 44) / 2:.1f}" y="46" text-anchor="middle" font-size="13" '
                     f'font-weight="600" fill="{INK}">{name}</text>'
                     f'<text x="{x + (step - 44) / 2:.1f}" y="62" text-anchor="middle" font-size="10" '
                     f'fill="{QUIET}">{note}</text>')
        if index < len(verbs):
            left = x + step - 44
            parts.append(f'<path d="M{left + 4:.1f} 49 h30 m-6 -5 l6 5 l-6 5" fill="none" stroke="{INK}"/>'
                         f'<text x="{left + 22:.1f}" y="20" text-anchor="middle" font-size="11" '
                         f'fill="{ACCENT}">{verbs[index]}</text>')
    return "".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=pathlib.Path)
    parser.add_argument("--library", type=pathlib.Path, default=ROOT / "build/lib/libcalibatt.so")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / "examples/sample.svg")
    arguments = parser.parse_args()

    library = ctypes.CDLL(str(arguments.library))
    library.calibatt_last_error_message.restype = ctypes.c_char_p
    package = ctypes.c_void_p()
    if library.calibatt_package_open(str(arguments.package).encode(), ctypes.byref(package)):
        raise SystemExit(library.calibatt_last_error_message().decode())
    dump = read_dump(ROOT / "examples/sample/prompt0.safetensors")

    width = GAP + 4 * (SIZE + GAP)
    parts, top, repetitive = [draw_pipeline(width)], 122, {}
    for step in (0, 2):
        for index, (layer, head) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
            q, k = dump[f"q.{layer}.{step}"][head], dump[f"k.{layer}.{step}"][head]
            mask = site_mask(library, package, (layer, head, step), -(-len(q) // BLOCK))
            anchors = site_anchors(library, package, (layer, head, step))
            computed = (f"{len(anchors[2])} of {anchors[0]} rows" if anchors
                        else f"{mask.sum()} of {mask.size}")
            if anchors:
                repetitive.setdefault(f"layer {layer} head {head}")
            title = f"layer {layer} head {head} step {step}"
            parts.append(draw_map(attention(q, k), mask, anchors, GAP + index * (SIZE + GAP), top, title,
                                  computed))
        top += SIZE + 44
    notes = ["Attention of 420 tokens (grid 3 x 7 x 20), queries down, keys across; outlined: what the kernels "
             "compute, in blocks of 128 x 128."]
    if repetitive:
        notes.append(f"Repetitive: {', '.join(repetitive)}. Of each frame only the outlined rows of 20 tokens "
                     "are computed, the others are copies.")
    for note in notes:
        parts.append(f'<text x="{GAP}" y="{top - 20}" font-size="11" fill="{QUIET}">{note}</text>')
        top += 16
    library.calibatt_package_close(package)
    arguments.output.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top - 4}" '
        f'font-family="system-ui, sans-serif"><rect width="100%" height="100%" fill="{PAPER}"/>'
        + "\n".join(parts) + "</svg>\n")
    print(arguments.output)


if __name__ == "__main__":
    main()
