"""Which values of a record are pictures, whatever their key: paths that end as pictures do, bytes, data addresses."""

from pathlib import PurePath
from typing import Any

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")  # read in folders and archives
UNREAD_SUFFIXES = (  # pictures as well; folders and archives with them are told so
    *(".gif", ".jfif", ".jpe", ".avif", ".heic", ".heif", ".jxl", ".jp2", ".ppm", ".pgm", ".pnm"),
    *(".tga", ".ico", ".psd", ".exr", ".hdr", ".dds", ".svg", ".qoi", ".dng"),
)
BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"RIFF": ".webp",
}
_UNREAD_BEGINNINGS = (b"GIF87a", b"GIF89a", b"\0\0\0\x0cjP  ", b"\xff\x0a")
_ENCODED = ("data:image/", "iVBORw0KGgo", "/9j/4", "UklGR")  # PNG, JPEG and WebP in base64
MAX_PATH = 4096


def pictures_in(value: Any) -> list[str]:
    """The pictures of a value, those in lists and objects included, in words: a path, or what kind of bytes."""
    found: list[str] = []
    left = [value]
    while left:  # no recursion: a JSON value may be nested as deep as the parser went
        item = left.pop()
        if isinstance(item, list | tuple):
            left.extend(reversed(item))
        elif isinstance(item, dict):
            left.extend(reversed(item.values()))
        elif isinstance(item, str) and (name := _in_text(item)):
            found.append(name)
        elif isinstance(item, bytes) and item.startswith((*BEGINNINGS, *_UNREAD_BEGINNINGS)):
            found.append(f"{len(item):,} bytes")
    return found


def _in_text(text: str) -> str | None:
    if text.startswith(_ENCODED) and len(text) > 64:
        return f"{len(text):,} characters of base64"
    path = text.strip()
    if len(path) > MAX_PATH or "://" in path or "\n" in path:
        return None
    return path if PurePath(path).suffix.lower() in (*SUFFIXES, *UNREAD_SUFFIXES) else None
