"""Timing kernels beside one another on one GPU.

Under the power limit a kernel's clock depends on what ran just before it, so that rounds in a fixed order flatter
whoever follows a light one. Rounds are shuffled, and every kernel is also timed alone, long enough for the clock
to settle.
"""

import random
import statistics
import time

import torch

WARM_UP = 5
#: Seconds that a kernel runs alone; of the first part the clock is still another's.
ALONE, SETTLING = 0.5, 0.15


def shuffled(candidates, rounds, seed):
    """{name: milliseconds of each round}: one run of every candidate a round, in an order of its own."""
    order = list(candidates)
    for _ in range(WARM_UP):
        for name in order:
            candidates[name]()
    torch.cuda.synchronize()
    events = {name: [] for name in order}
    generator = random.Random(seed)
    for _ in range(rounds):
        generator.shuffle(order)
        for name in order:
            events[name].append(_timed(candidates[name]))
    torch.cuda.synchronize()
    return {name: [begin.elapsed_time(end) for begin, end in events[name]] for name in candidates}


def alone(run):
    """Milliseconds of the calls of one candidate that runs by itself, back to back, for ALONE seconds."""
    torch.cuda.synchronize()
    begin, events, settled = time.monotonic(), [], 0
    while (past := time.monotonic() - begin) < ALONE or len(events) - settled < 3:
        if past < SETTLING:
            settled = len(events) + 1
        events.append(_timed(run))
        if len(events) > 1:
            events[-2][1].synchronize()  # one call is always waiting
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) for begin, end in events[settled:]]


def summary(times):
    """Median, minimum and maximum."""
    return statistics.median(times), min(times), max(times)


def _timed(run):
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    return begin, end
