"""The decay of the averaged student by update, and how much of the untrained start an average still holds.

With a constant decay d, d^n of the start is left after n updates: 30 % at 0.999 and 1,200. So the decay begins low and
rises with the number of updates, up to d. While it rises, the average reaches back over a share of all updates so far:
its mean age is about 1 / c of them, the half with c = 2.
"""

from math import prod

DEFAULT_WARMUP = 10.0  # field: c of the rise, as TensorFlow and diffusers have it
LARGEST_START = 0.05  # ours: of the untrained start in what ships; a run that would end above it is refused


def decay_at(decay: float, updates: int, warmup: float = DEFAULT_WARMUP) -> float:
    """The decay of the next update, after `updates` of them. warmup: c, above 1.

    min(d, (1 + i) / (c + i)), c = 10    [TensorFlow's ExponentialMovingAverage with num_updates; diffusers' EMAModel]
    """
    return min(decay, (1 + updates) / (warmup + updates))


def start_share(decay: float, updates: int, warmup: float = DEFAULT_WARMUP) -> float:
    """The share of the untrained start in the average after `updates`: the product of their decays."""
    return prod(decay_at(decay, i, warmup) for i in range(updates))


def fewest_updates(decay: float, share: float = LARGEST_START, warmup: float = DEFAULT_WARMUP) -> int:
    """The number of updates after which the average holds at most `share` of the start."""
    updates, left = 0, 1.0
    while left > share:
        left *= decay_at(decay, updates, warmup)
        updates += 1
    return updates


def largest_decay(updates: int, share: float = LARGEST_START) -> float:
    """A decay with which at most `share` of the start is left after `updates`, rounded down to three decimals.

    Without the warm-up d^n <= share would be needed. That is enough with it too, since it only lowers decays.
    """
    return int(share ** (1 / updates) * 1000) / 1000


def start_words(decay: float, left: float) -> str:
    """What ships, and the share `left` of the untrained start in it, in words."""
    if decay == 0:
        return "what ships is the raw student (student.ema 0)"
    share = "under 0.1 %" if left < 0.001 else f"{100 * left:.1f} %"
    return f"what ships is the averaged student (student.ema {decay:g}), with {share} of the untrained start in it"
