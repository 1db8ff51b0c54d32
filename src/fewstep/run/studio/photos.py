"""Photos that a page hands in as references: bounded, checked, and kept by their content."""

import hashlib
import re
import tempfile
from pathlib import Path

from starlette.requests import Request

from fewstep.data.pictures import open_picture
from fewstep.run.studio.answers import StudioRefused
from fewstep.runtime import durable
from fewstep.runtime.errors import CaseError
from fewstep.sample.server.limits import Limits

LIMITS = Limits()
MOST_PHOTOS = 500  # kept; the oldest go
NAME = re.compile(r"[0-9a-f]{32}")


async def photo_bytes(request: Request) -> bytes:
    """The body of a request.

    Raises:
        StudioRefused: it is larger than a photo may be.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LIMITS.max_upload:
            raise StudioRefused(f"a photo has at most {LIMITS.max_upload >> 20} MB", 413)
    return body


def keep_photo(folder: Path, data: bytes) -> tuple[str, tuple[int, int]]:
    """Keeps a photo, upright and without what a camera wrote beside it. Returns its name and (height, width).

    Raises:
        StudioRefused: it is no picture, or too large.
    """
    durable.make_folder(folder)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".upload") as file:
        file.write(data)
        file.flush()
        try:
            picture = open_picture(Path(file.name), "this photo")
        except CaseError as error:
            raise StudioRefused(str(error).replace(f" {file.name}", "")) from error
    if picture.width * picture.height > LIMITS.max_reference_pixels:
        raise StudioRefused(
            f"a photo has at most {LIMITS.max_reference_pixels // 10**6} megapixels; scale it down", 413
        )
    name = hashlib.blake2b(data, digest_size=16).hexdigest()
    if not (folder / f"{name}.png").is_file():
        durable.replace_atomically(folder / f"{name}.png", lambda beside: picture.save(beside, format="PNG"))
        _forget_old(folder)
    return name, (picture.height, picture.width)


def photo_path(folder: Path, name: str) -> Path:
    """
    Raises:
        StudioRefused: there is no such photo.
    """
    path = folder / f"{name}.png"
    if not NAME.fullmatch(name) or not path.is_file():
        raise StudioRefused("this photo is not there (any more); hand it in again", 404)
    return path


def _forget_old(folder: Path) -> None:
    kept = sorted(folder.glob("*.png"), key=lambda path: path.stat().st_mtime)
    for old in kept[: max(0, len(kept) - MOST_PHOTOS)]:
        old.unlink(missing_ok=True)
