"""The method's definitions in float64 NumPy, written from their words and from nothing else."""

import numpy

BLOCK = 128


def attention(q, k, scale):
    """softmax(scale q k^T) of one head, [tokens, tokens]."""
    logits = scale * (q.astype(numpy.float64) @ k.astype(numpy.float64).T)
    weights = numpy.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def energies(p, blocks=None):
    """E[r, c]: attention of block row r that falls into block c, a mean over its queries."""
    tokens = len(p)
    blocks = blocks or -(-tokens // BLOCK)
    result = numpy.zeros((blocks, blocks))
    for r in range(-(-tokens // BLOCK)):
        rows = p[r * BLOCK:(r + 1) * BLOCK]
        for c in range(-(-tokens // BLOCK)):
            result[r, c] = rows[:, c * BLOCK:(c + 1) * BLOCK].sum() / len(rows)
    return result


def epsilon(a, c, k, step, steps):
    return a + (c - a) * numpy.exp(-k * step / steps)


def cover(row, eps):
    """The fewest blocks that reach eps of the row's sum: float32 energies, float64 sums."""
    row = numpy.asarray(row, numpy.float32)
    order = numpy.argsort(-row, kind="stable")  # ties: lower column first
    prefix, total = 0.0, 0.0
    for e in row:
        total += float(e)
    kept = numpy.zeros(len(row), bool)
    for column in order:
        kept[column] = True
        prefix += float(row[column])
        if prefix >= eps * total:
            break
    return kept


def prompt_cover(e, eps, video=None, max_text=0):
    """What a prompt keeps of a site: covers, the diagonal, and everything with text."""
    kept = numpy.array([cover(row, eps) for row in e])
    return kept | always(len(e), video, max_text)


def always(blocks, video=None, max_text=0):
    """Diagonal and text, without the best blocks."""
    kept = numpy.eye(blocks, dtype=bool)
    if max_text:
        first = video // BLOCK  # the block of the first text token
        kept[first:, :] = True
        kept[:, first:] = True
    return kept


def units(e):
    """An energy as counts hold it: 12 significant bits, then whole multiples of 2^-24."""
    fraction, exponent = numpy.frexp(numpy.asarray(e, numpy.float64))
    rounded = numpy.ldexp(numpy.rint(fraction * 4096), exponent - 12)
    return numpy.floor(rounded * 2.0**24 + 0.5).astype(numpy.int64)


def score_units(scores):
    """Repetition scores in 2^-32, to the nearest, halves away from zero: float32 scores do hit halves."""
    exact = scores.astype(numpy.float64) * 2.0**32
    return (numpy.sign(exact) * numpy.floor(numpy.abs(exact) + 0.5)).astype(numpy.int64)


def code(sum_of_units, prompts):
    """The byte of a mean energy: -8 log2 of it, 255 for none."""
    if sum_of_units == 0:
        return 255
    return int(min(254, max(0, numpy.rint(-8 * numpy.log2(sum_of_units / (prompts * 2.0**24))))))


def vote(counts, sums, prompts, rho, fixed):
    """Blocks that rho of the prompts kept; `fixed`, and the best of each row, always."""
    kept = (counts >= rho * prompts) | fixed
    kept[numpy.arange(len(kept)), numpy.argmax(sums, axis=1)] = True
    return kept


def hysteresis(counts, sums, prompts, rho, band, before, fixed):
    surely = counts >= (rho + band) * prompts
    perhaps = counts >= (rho - band) * prompts
    kept = surely | (perhaps & before) | fixed
    kept[numpy.arange(len(kept)), numpy.argmax(sums, axis=1)] = True
    return kept


def without_singletons(kept, sums, prompts, bound, fixed):
    blocks = len(kept)
    padded = numpy.pad(kept, 1).astype(int)
    around = sum(padded[1 + y:1 + y + blocks, 1 + x:1 + x + blocks]
                 for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))
    weak = sums / (prompts * 2.0**24) < bound / blocks
    result = kept & ~((around == 0) & weak)
    result |= kept & fixed
    best = numpy.arange(blocks), numpy.argmax(sums, axis=1)
    result[best] = True
    return result


def kept_mass(kept, sums, tokens):
    """Share of the attention inside the mask, a mean over queries."""
    total = sums.sum(axis=1)
    shares = numpy.where(total > 0, (sums * kept).sum(axis=1) / numpy.maximum(total, 1), 1.0)
    queries = numpy.minimum(BLOCK, tokens - BLOCK * numpy.arange(len(kept)))
    return float((shares * queries).sum() / tokens)


def anchors(height, count):
    return sorted({(2 * i + 1) * height // (2 * count) for i in range(count)})


def repetition(p, grid, count):
    """Median cosine between the attention of spatial rows and of their nearest anchor rows."""
    frames, height, width = grid
    rows = anchors(height, count)
    slices = p[:frames * height * width].reshape(frames, height, width * len(p))
    cosines = []
    for frame in slices:
        for y in range(height):
            if y in rows:
                continue
            anchor = min(rows, key=lambda a: (abs(y - a), a))  # ties to the lower
            x, z = frame[y], frame[anchor]
            cosines.append((x @ z) / numpy.sqrt((x @ x) * (z @ z)))
    return float(numpy.median(cosines)) if cosines else 0.0


def iou(a, b):
    either = (a | b).sum()
    return 1.0 if either == 0 else (a & b).sum() / either


def share_steps(masks, tau):
    """Greedy groups of consecutive steps: every pair of a group has an IoU of at least tau.
    Returns the union that each step computes."""
    groups = []
    for mask in masks:
        if groups and all(iou(mask, other) >= tau for other in groups[-1]):
            groups[-1].append(mask)
        else:
            groups.append([mask])
    shared = []
    for group in groups:
        shared += [numpy.logical_or.reduce(group)] * len(group)
    return shared
