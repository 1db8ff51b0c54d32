"""What drew a picture, kept within its PNG: a run keeps pictures of its teachers, and must know whose they are."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fewstep.runtime import durable

KEY = "Source"  # as the PNG specification calls the device that made a picture


def save_with_origin(picture: Image.Image, path: Path, origin: str, facts: Mapping[str, str] | None = None) -> None:
    """Writes the picture, whole. facts: further text chunks, by their keywords (1 to 79 letters of Latin-1)."""
    told = PngInfo()
    for key, text in ({KEY: origin} | dict(facts or {})).items():
        told.add_itxt(key, text.encode("utf-8", "backslashreplace").decode())
    durable.replace_atomically(path, lambda beside: picture.save(beside, format="PNG", pnginfo=told))


def origin_of(path: Path) -> str | None:
    """What drew the picture of this file; None if it does not say, or there is no such picture."""
    return facts_of(path).get(KEY)


def facts_of(path: Path) -> dict[str, str]:
    """All text that the picture of this file carries; nothing if there is no such picture."""
    try:
        with Image.open(path) as opened:
            return {str(key): str(value) for key, value in opened.info.items() if isinstance(value, str)}
    except OSError:
        return {}
