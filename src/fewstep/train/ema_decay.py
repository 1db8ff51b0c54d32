"""The decay of the averaged student, by update.

With a constant decay d, d^n of the untrained start is left after n updates: 30 % at 0.999 and 1,200. So the decay
begins at 0, which takes the start out, and rises with the number of updates up to d. While it rises, the average
reaches back over a share of all updates so far: its mean age is about 1 / c of them. With c = 2 and no bound it is
their plain mean.
"""

DEFAULT_WARMUP = 10.0  # field: c of the rise, as TensorFlow and diffusers have it
LARGEST_START = 0.05  # ours: of the untrained start in what ships; a run of before the rise that ends above it is told


def decay_at(decay: float, updates: int, warmup: float = DEFAULT_WARMUP) -> float:
    """The decay of the next update, after `updates` of them. warmup: c, above 1.

    min(d, i / (c - 1 + i)), 0 at the first update    [as diffusers' EMAModel, whose first update copies the weights;
    TensorFlow's ExponentialMovingAverage has (1 + i) / (10 + i), which keeps some of the start]
    """
    return min(decay, updates / (warmup - 1 + updates))


def shipped_words(decay: float) -> str:
    """What ships, in words."""
    if decay == 0:
        return "what ships is the raw student (student.ema 0)"
    return f"what ships is the averaged student (student.ema {decay:g}), with nothing of the untrained start in it"
