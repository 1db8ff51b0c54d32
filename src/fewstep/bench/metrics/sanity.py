"""Is there a picture at all? Failures are figures here, not gaps: a system is not better for having drawn nothing."""

from fewstep.bench.metrics.metric import GalleryPicture, Metric, Pixels, Skipped, Values, ValueSpec

BLACK = 2  # of 255; at most this everywhere
CONSTANT = 0.5  # 8-bit levels; constant if the standard deviation of every channel is below it


def measure(shot: GalleryPicture) -> Values:
    """ok is 1 if none of the others is. black includes NaN, which becomes black when written as 8 bits."""
    found = dict.fromkeys(("failed", "unreadable", "black", "constant", "wrong_size"), 0.0)
    if not shot.drawn:
        found["failed"] = 1.0
    elif isinstance(shot.pixels, Skipped):
        found["unreadable"] = 1.0
    else:
        found |= _of_pixels(shot.pixels, shot.size_asked)
    return {"ok": float(not any(found.values())), **found}


def _of_pixels(pixels: Pixels, size: tuple[int, int] | None) -> Values:
    return {
        "black": float(pixels.max() <= BLACK),
        "constant": float((pixels.std(axis=(0, 1)) < CONSTANT).all()),
        "wrong_size": float(size is not None and pixels.shape[:2] != size),
    }


_BAD = ValueSpec("share", "lower")
METRIC = Metric(
    name="sanity",
    version="1",
    main="ok",
    values={
        "ok": ValueSpec("share", "higher"),
        "failed": _BAD,
        "unreadable": _BAD,
        "black": _BAD,
        "constant": _BAD,
        "wrong_size": _BAD,
    },
    measure=measure,
)
