"""Small copies of pictures, each made once.

They lie in the user's cache and not in the run: a run folder is hashed, copied and written by others, may be read-only,
and looking at it changes nothing.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from threading import BoundedSemaphore

from PIL import Image

from fewstep.run.studio.answers import StudioRefused
from fewstep.runtime.user_cache import user_cache

SIDES = (320, 640)
KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
MOST_BYTES = 500 * 2**20  # of all copies; when the studio starts, the oldest above it go
_AT_ONCE = BoundedSemaphore(2)  # a decoded picture of 4 MP takes 12 MB


def small_copy(picture: Path, side: int) -> Path:
    """A copy whose longer side is at most `side`; the picture itself where it is hardly larger.

    Raises:
        StudioRefused: no such size, or the file cannot be read as a picture.
    """
    if side not in SIDES:
        raise StudioRefused(f"pictures are shown at {' or '.join(map(str, SIDES))} px")
    told = picture.stat()
    key = f"{picture}\0{told.st_mtime_ns}\0{told.st_size}\0{side}"
    kept = _folder() / f"{hashlib.blake2b(key.encode('utf-8', 'surrogateescape'), digest_size=16).hexdigest()}.webp"
    if kept.is_file():
        return kept
    try:
        with _AT_ONCE, Image.open(picture) as opened:
            if max(opened.size) <= 1.5 * side:
                return picture
            opened.draft("RGB", (side, side))
            small = opened.convert("RGBA" if "A" in opened.getbands() else "RGB")
            small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
            return _kept(small, kept) or picture
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise StudioRefused(f"{picture.name:.100} cannot be read as a picture (any more)", 404) from error


def forget_old() -> None:
    """Removes the oldest copies above `MOST_BYTES`."""
    with suppress(OSError):
        files = sorted(_folder().glob("*.webp"), key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for path in files:
            total += path.stat().st_size
            if total > MOST_BYTES:
                path.unlink(missing_ok=True)


def _folder() -> Path:
    return user_cache() / "studio" / "pictures"


def _kept(small: Image.Image, path: Path) -> Path | None:
    """None where the cache cannot be written: then the picture itself is shown."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        small.save(beside, format="WEBP", quality=90, method=2)
        os.replace(beside, path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        return None
    return path
