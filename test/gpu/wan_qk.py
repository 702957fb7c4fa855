"""Q, K and V that attend as those of a video transformer do, at any grid, with Wan's rotary embedding.

No weights are needed: every head has a vector of queries and one of keys, which by the rotary
embedding alone make it prefer near frames, rows or columns, or all of an axis where it gives that no
weight; beside it the content of a drawn video, of which prompts share most, and noise of every token.
So the types of heads come from the rotary axes, as in trained models, and masks from votes.
"""

import hashlib
from typing import NamedTuple

import numpy
import torch

THETA = 10000.0
#: Rotary pairs of an axis that carry position; the slow ones carry content.
POSITION_PAIRS = 5
CONTENT_FROM = 12
OBJECTS = 12
PROMPT_SHARE = 0.1  # of the variance of a video's content, that is not of all videos
MODEL_SEED = 5
OFFSETS = (-1, 0, 0, 0, 1)  # of the place that a head prefers, along an axis


class Kind(NamedTuple):
    """How a head attends. A peak is what a key at the preferred place gets over a far one, in nats."""

    peaks: tuple  #: for the frame, row and column
    content: float  #: nats for the same object
    noise: float  #: standard deviation of every element of Q and K


KINDS = {
    "local": Kind((4.0, 4.0, 2.0), 1.0, 0.4),
    "temporal": Kind((0.5, 6.0, 3.0), 1.0, 0.4),
    "spatial": Kind((4.5, 2.5, 1.5), 1.5, 0.4),
    "scattered": Kind((1.0, 1.5, 0.5), 6.0, 0.4),
    "near-dense": Kind((0.7, 0.7, 0.7), 1.5, 1.0),
    # Nothing depends on the row that asks.
    "repetitive": Kind((3.0, 0.0, 4.0), 0.3, 0.15),
}
#: Kinds of the heads of a layer, again and again; the first six are one of each.
ORDER = ("local", "temporal", "spatial", "scattered", "near-dense", "repetitive", "temporal", "scattered")


def kind_of(head):
    return ORDER[head % len(ORDER)]


def axes_of(head_dim):
    """[(first dimension, frequencies of the pairs)] of frame, row and column, as diffusers'
    WanRotaryPosEmbed splits a head."""
    spatial = 2 * (head_dim // 6)
    sizes = (head_dim - 2 * spatial, spatial, spatial)
    firsts = numpy.cumsum((0, *sizes[:2]))
    return [(int(first), THETA ** (-numpy.arange(0, size, 2) / size)) for first, size in zip(firsts, sizes)]


def rotary_angles(grid, head_dim):
    """Angle of every pair at every token, float64 [tokens, head_dim / 2]."""
    positions = numpy.meshgrid(*map(numpy.arange, grid), indexing="ij")
    return numpy.concatenate(
        [position.reshape(-1, 1) * frequencies
         for position, (_, frequencies) in zip(positions, axes_of(head_dim))], 1)


def rotated(x, cos, sin):
    """Pairs of neighbours of x [tokens, head_dim] turned by angles [tokens, head_dim / 2]."""
    a, b = x[:, 0::2], x[:, 1::2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(1)


class SyntheticModel:
    """Gives q, k and v of every layer and step of a prompt: the same on every call, for one device."""

    def __init__(self, grid, heads, head_dim, steps, device):
        self.grid, self.heads, self.head_dim, self.steps = tuple(grid), heads, head_dim, steps
        self.device = torch.device(device)
        angles = torch.from_numpy(rotary_angles(self.grid, head_dim))
        self._cos, self._sin = (turn.to(self.device, torch.float32) for turn in (angles.cos(), angles.sin()))
        self._content = {}  # prompt: which object is where

    def qkv(self, prompt, layer, step, heads=None):
        """bf16 [1, heads, tokens, head_dim] each, of all heads or the first few."""
        heads = heads or self.heads
        tokens = self._cos.shape[0]
        made = [torch.empty(1, heads, tokens, self.head_dim, dtype=torch.bfloat16, device=self.device)
                for _ in range(3)]
        late = step / max(1, self.steps - 1)  # 0 for the noisiest step
        for head in range(heads):
            generator = torch.Generator(self.device).manual_seed(_seed("noise", prompt, layer, step, head))
            plan = numpy.random.default_rng(_seed("head", layer, head))
            kind = KINDS[kind_of(head)]
            queries, keys = self._vectors(kind, plan)
            content = self._content_of(prompt)
            objects = torch.from_numpy(self._objects(plan)).to(self.device, torch.float32)
            vectors = torch.nn.functional.normalize(content @ objects, dim=-1)
            # Content shows as the noise goes.
            vectors *= (kind.content * (0.6 + 0.4 * late) * self.head_dim**0.5) ** 0.5
            values = torch.from_numpy(plan.normal(size=(OBJECTS, self.head_dim))).to(content)
            draw = torch.randn(3, tokens, self.head_dim, generator=generator, device=self.device)
            noise = kind.noise * (1.2 - 0.4 * late)
            for tensor, vector, own in ((made[0], queries, draw[0]), (made[1], keys, draw[1])):
                vector = torch.from_numpy(vector).to(self.device, torch.float32)
                tensor[0, head] = rotated(vector + vectors + noise * own, self._cos, self._sin)
            made[2][0, head] = content @ values + 0.3 * draw[2]
        return made

    def _vectors(self, kind, plan):
        """Of queries and of keys [head_dim], whose rotated product prefers a place."""
        queries, keys = numpy.zeros(self.head_dim), numpy.zeros(self.head_dim)
        for peak, (first, frequencies) in zip(kind.peaks, axes_of(self.head_dim)):
            weight = peak * plan.uniform(0.85, 1.15) / POSITION_PAIRS
            offset = plan.choice(OFFSETS)
            amplitude = (weight * self.head_dim**0.5) ** 0.5
            for pair in range(POSITION_PAIRS):
                at, phase = first + 2 * pair, frequencies[pair] * offset
                queries[at:at + 2] = amplitude * numpy.cos(phase), amplitude * numpy.sin(phase)
                keys[at] = amplitude
        return queries, keys

    def _objects(self, plan):
        """A direction [OBJECTS, head_dim] for every object, in the pairs that hardly turn."""
        directions = numpy.zeros((OBJECTS, self.head_dim))
        for first, frequencies in axes_of(self.head_dim):
            # The slow half of an axis, of a small head too.
            begin = first + 2 * min(CONTENT_FROM, len(frequencies) // 2)
            end = first + 2 * len(frequencies)
            directions[:, begin:end] = plan.normal(size=(OBJECTS, end - begin))
        return directions

    def _content_of(self, prompt):
        """How much of each object is at a token [tokens, OBJECTS]: smooth, and mostly one."""
        if prompt not in self._content:
            coarse = [max(2, size // cells) for size, cells in zip(self.grid, (5, 6, 26))]
            shared, own = (numpy.random.default_rng(seed).normal(size=(1, OBJECTS, *coarse))
                           for seed in (MODEL_SEED, _seed("video", prompt)))
            field = torch.from_numpy((1 - PROMPT_SHARE) ** 0.5 * shared + PROMPT_SHARE**0.5 * own)
            field = torch.nn.functional.interpolate(
                field.float(), size=self.grid, mode="trilinear", align_corners=True)
            weights = torch.softmax(4 * field[0].flatten(1).T, -1)
            # Only the prompt at hand.
            self._content = {prompt: weights.to(self.device)}
        return self._content[prompt]


def _seed(*parts):
    """A number below 2^63, the same on every machine."""
    text = "/".join(map(str, (MODEL_SEED, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
