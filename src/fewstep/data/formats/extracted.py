"""Pictures from archives, written as files. A file's name follows from its content, never from its name in the archive.
So nothing can be written elsewhere, nothing is written twice, and an unpacking that was stopped can go on."""

import hashlib
from pathlib import Path

from fewstep.data.picture_values import BEGINNINGS
from fewstep.runtime import durable
from fewstep.runtime.errors import CaseError

MAX_BYTES = 256 * 2**20  # ours; of one picture


def save_picture(data: bytes, folder: Path, where: str) -> Path:
    """The file in `folder` that holds this picture.

    Raises:
        CaseError: the bytes are no picture, or too many.
        EnvironmentRefused: the file cannot be written.
    """
    if len(data) > MAX_BYTES:
        raise CaseError(f"{where}: holds a picture of {len(data):,} bytes, more than {MAX_BYTES:,}; scale it down")
    suffix = next((ending for beginning, ending in BEGINNINGS.items() if data.startswith(beginning)), None)
    if suffix is None:
        raise CaseError(f"{where}: holds bytes that are no picture; write PNG, JPEG, WebP, BMP or TIFF")
    name = hashlib.blake2b(data, digest_size=16).hexdigest()
    path = folder / name[:2] / f"{name}{suffix}"
    if not path.exists():
        durable.make_folder(path.parent)
        durable.write_atomically(path, data)
    return path
