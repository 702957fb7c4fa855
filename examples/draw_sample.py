#!/usr/bin/env python3
"""Draws examples/sample.svg: attention of the sample's heads with the blocks their kernels compute.

    examples/quickstart.sh
    .venv/bin/python examples/draw_sample.py out/quickstart/sample.calibatt

Grey is attention of prompt 0, computed here from its dump; the outlined blocks
are read from the package through the C ABI (calibatt_site_mask).
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


def draw_map(p, mask, x, y, title):
    tokens = len(p)
    cells = tokens // 3  # three tokens a pixel
    mean = p[:cells * 3, :cells * 3].reshape(cells, 3, cells, 3).mean(axis=(1, 3))
    grey = 255 - np.clip(255 * (mean / np.quantile(mean, 0.995)) ** 0.5, 0, 255).astype(np.uint8)
    grey |= 15  # sixteen levels are enough and compress well
    image = base64.b64encode(png(grey)).decode()
    scale = SIZE / tokens
    parts = [f'<text x="{x}" y="{y - 8}" font-size="13" fill="{INK}">{title}</text>',
             f'<image x="{x}" y="{y}" width="{SIZE}" height="{SIZE}" '
             f'href="data:image/png;base64,{image}" preserveAspectRatio="none"/>']
    for r, c in np.argwhere(~mask):
        left, top = c * BLOCK * scale, r * BLOCK * scale
        width = min(BLOCK, tokens - c * BLOCK) * scale
        height = min(BLOCK, tokens - r * BLOCK) * scale
        parts.append(f'<rect x="{x + left:.1f}" y="{y + top:.1f}" width="{width:.1f}" '
                     f'height="{height:.1f}" fill="{PAPER}" fill-opacity="0.72"/>')
    for r, c in np.argwhere(mask):
        left, top = c * BLOCK * scale, r * BLOCK * scale
        width = min(BLOCK, tokens - c * BLOCK) * scale
        height = min(BLOCK, tokens - r * BLOCK) * scale
        parts.append(f'<rect x="{x + left + 1:.1f}" y="{y + top + 1:.1f}" width="{width - 2:.1f}" '
                     f'height="{height - 2:.1f}" fill="none" stroke="{ACCENT}" stroke-width="1.5"/>')
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
    parts, top = [draw_pipeline(width)], 122
    for step in (0, 2):
        for index, (layer, head) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
            q, k = dump[f"q.{layer}.{step}"][head], dump[f"k.{layer}.{step}"][head]
            mask = site_mask(library, package, (layer, head, step), -(-len(q) // BLOCK))
            title = f"layer {layer} head {head} step {step}: {mask.sum()} of {mask.size}"
            parts.append(draw_map(attention(q, k), mask, GAP + index * (SIZE + GAP), top, title))
        top += SIZE + 44
    notes = ("Attention of 420 tokens (grid 3 x 7 x 20), queries down, keys across; outlined: the 128 x 128 "
             "blocks its kernels compute.", "Layer 1 head 1 is repetitive: dense for now.")
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
