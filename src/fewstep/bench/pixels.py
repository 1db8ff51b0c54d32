"""A picture is identified by its pixels, whoever encoded it. The bytes of a PNG change with the version of zlib."""

import hashlib
from functools import lru_cache
from pathlib import Path

from PIL import Image

from fewstep.data.pictures import open_picture

_Stamp = tuple[int, int]


def rgb_or_rgba(picture: Image.Image) -> Image.Image:
    """RGBA if the picture has transparent pixels, else RGB."""
    if picture.mode not in ("RGBA", "LA", "PA") and "transparency" not in picture.info:
        return picture.convert("RGB")
    clear = picture.convert("RGBA")
    return clear.convert("RGB") if clear.getchannel("A").getextrema()[0] == 255 else clear


def pixel_hash(picture: Image.Image) -> str:
    """32 hexadecimal digits of mode, size and every pixel; an opaque RGBA picture is its RGB."""
    plain = rgb_or_rgba(picture)
    head = f"{plain.mode} {plain.width}x{plain.height}".encode()
    return hashlib.blake2b(head + b"\n" + plain.tobytes(), digest_size=16).hexdigest()


def file_hash(path: Path) -> str:
    """`pixel_hash` of a file; read again only if its size or time has changed.

    Raises:
        CaseError: no readable picture.
    """
    stat = path.stat() if path.exists() else None
    return _file_hash(path, None if stat is None else (stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=100_000)
def _file_hash(path: Path, _stamp: _Stamp | None) -> str:
    return pixel_hash(open_picture(path, str(path)))
