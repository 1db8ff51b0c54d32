"""What drew a picture, kept within its PNG: a run keeps pictures of its teachers, and must know whose they are."""

from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fewstep.runtime import durable

KEY = "Source"  # as the PNG specification calls the device that made a picture


def save_with_origin(picture: Image.Image, path: Path, origin: str) -> None:
    """Writes the picture, whole."""
    told = PngInfo()
    told.add_itxt(KEY, origin)
    durable.replace_atomically(path, lambda beside: picture.save(beside, format="PNG", pnginfo=told))


def origin_of(path: Path) -> str | None:
    """What drew the picture of this file; None if it does not say, or there is no such picture."""
    try:
        with Image.open(path) as opened:
            told = opened.info.get(KEY)
    except OSError:
        return None
    return str(told) if told is not None else None
