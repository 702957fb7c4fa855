"""What the GPU scripts share: site masks as torch tensors, and the machine they ran on."""

import json
import subprocess

import torch

BLOCK = 128


def site_rows(package, layer, step, heads, device):
    """Block masks of a (layer, step): bool [heads, blocks, blocks]."""
    blocks = package.info["blocks"]
    packed = b"".join(package.site_mask_bits(layer, head, step) for head in range(heads))
    packed = torch.frombuffer(bytearray(packed), dtype=torch.uint8).view(heads, blocks, -1, 1)
    bits = packed >> torch.arange(8, dtype=torch.uint8) & 1
    return bits.flatten(-2)[..., :blocks].bool().to(device)


def anchor_tokens(package, layer, head, step, device):
    """[tokens] the token whose query each output comes from, None where it is its own."""
    grid = package.site_anchors(layer, head, step)
    if grid is None:
        return None
    height, width, anchors = grid
    rows = [min(((2 * i + 1) * height // (2 * anchors) for i in range(anchors)),
                key=lambda anchor, row=row: (abs(anchor - row), anchor)) for row in range(height)]
    token = torch.arange(package.info["tokens"], device=device)
    row = token // width % height
    return token + (torch.tensor(rows, device=device)[row] - row) * width


def site_visits(package, layer, step, blocks):
    """Key blocks that are computed, of masks [heads, blocks, blocks]: a repetitive head has one
    tile for 128 anchor queries."""
    visits = 0
    for head, kept in enumerate(blocks):
        grid = package.site_anchors(layer, head, step)
        if grid is None:
            visits += kept.sum().item()
        else:
            packed = package.info["tokens"] // grid[0] * grid[2]
            visits += -(-packed // BLOCK) * kept[0].sum().item()
    return visits


def token_mask(blocks, tokens):
    """A block mask [..., blocks, blocks] as a token mask [..., tokens, tokens]."""
    return blocks.repeat_interleave(BLOCK, -2).repeat_interleave(BLOCK, -1)[..., :tokens, :tokens]


def inputs(package, batch, device, seed, heads=None, deviation=1.5):
    """q, k, v in bf16 [batch, heads, tokens, dim]: normal, logits of about that deviation."""
    generator = torch.Generator(device).manual_seed(seed)
    shape = (batch, heads or package.info["heads"], package.info["tokens"],
             package.info["head_dim"])
    q, k, v = (torch.randn(shape, generator=generator, device=device) for _ in range(3))
    return (deviation * q).bfloat16(), k.bfloat16(), v.bfloat16()


def gpu_state(index=0):
    """Clocks, power and temperature of the GPU now, as nvidia-smi says; {} without it."""
    fields = ["name", "uuid", "driver_version", "clocks.sm", "clocks.mem", "power.draw", "power.limit",
              "temperature.gpu", "clocks_throttle_reasons.active"]
    try:
        line = subprocess.run(
            ["nvidia-smi", f"--id={index}", f"--query-gpu={','.join(fields)}",
             "--format=csv,noheader"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    return dict(zip(fields, (part.strip() for part in line.strip().split(","))))


def versions():
    return {"torch": torch.__version__, "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version()}


def write_json(path, content):
    if path:
        with open(path, "w") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
