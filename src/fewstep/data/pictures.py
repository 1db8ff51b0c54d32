"""Where a user's picture enters: its header is checked before training, and its pixels are read as diffusers'
`load_image` reads them, so training and inference see the same reference."""

import functools
import hashlib
import struct
import warnings
from pathlib import Path

from PIL import Image, ImageOps

from fewstep.runtime.errors import CaseError

MAX_PIXELS = 100_000_000  # ours: far above any camera a reference comes from
ORIENTATION = 0x0112  # the EXIF tag
TURNED = (5, 6, 7, 8)  # its values that turn by a quarter
MAX_ASPECT = 16  # ours; the text encoder's own limit is 200
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    ArithmeticError,
    struct.error,
)
MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"}  # 8 bit or less


def verify_picture(path: Path, where: str, thorough: bool = False) -> tuple[int, int]:
    """(height, width) of a usable picture, from its header; `thorough` reads all of it.

    Raises:
        CaseError: missing, unreadable, too large, too elongated, or of more than 8 bits.
    """
    try:
        with _opened(path, where) as image:
            width, height = image.size
            _refuse_extent(path, where, width, height)
            if image.mode not in MODES:
                raise CaseError(f"{where}: {path} has {image.mode} pixels; save it with 8 bits per channel")
            if thorough:
                image.load()
                _orientation(image, path, where)
    except CaseError:
        raise
    except UNREADABLE as error:
        raise _unreadable(path, where, error) from error
    return height, width


def upright_size(path: Path, where: str) -> tuple[int, int]:
    """(height, width) as `open_picture` will give it, from the header alone. Read again only if the file's size or time
    has changed.

    Raises:
        CaseError: as `verify_picture`.
    """
    try:
        stat = path.stat()
    except OSError:
        return _upright(path, where, 0, 0)
    return _upright(path, where, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=1_000_000)
def _upright(path: Path, where: str, size: int, time_ns: int) -> tuple[int, int]:
    height, width = verify_picture(path, where)
    try:
        with _opened(path, where) as image:
            turned = _orientation(image, path, where) in TURNED
    except UNREADABLE as error:
        raise _unreadable(path, where, error) from error
    return (width, height) if turned else (height, width)


def open_picture(path: Path, where: str) -> Image.Image:
    """The picture upright (EXIF) and in RGB, or in RGBA where it has transparency.

    Raises:
        CaseError: as `verify_picture`, or the pixels are torn.
    """
    verify_picture(path, where)
    try:
        with _opened(path, where) as image:
            _orientation(image, path, where)
            upright = ImageOps.exif_transpose(image)
            transparent = "A" in upright.getbands() or "transparency" in upright.info
            return upright.convert("RGBA" if transparent else "RGB")
    except CaseError:
        raise
    except UNREADABLE as error:
        raise _unreadable(path, where, error) from error


def file_digest(path: Path) -> str:
    """A short hash of the file's bytes; read again only if its size or time has changed.

    Raises:
        CaseError: the file cannot be read.
    """
    try:
        stat = path.stat()
        return _digest(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise CaseError(f"{path} cannot be read ({error.strerror}); put it back, or remove its case") from error


@functools.lru_cache(maxsize=1_000_000)
def _digest(path: Path, size: int, time_ns: int) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _orientation(image: Image.Image, path: Path, where: str) -> int:
    """What EXIF says of how the picture is turned; 1 where it says nothing."""
    stated = image.getexif().get(ORIENTATION, 1)
    if not isinstance(stated, int):
        raise CaseError(f"{where}: {path} has the EXIF orientation {stated!r:.40}, which is no number; save it again")
    return stated


def _opened(path: Path, where: str) -> Image.Image:
    try:
        there = path.exists()
    except OSError as error:  # a name too long for a file system
        raise CaseError(f"{where}: {path!s:.80} cannot be read ({error.strerror}); give a picture's path") from error
    if not there:
        raise CaseError(f"{where}: there is no picture {path}; paths in a file of cases are relative to it")
    if not path.is_file():
        raise CaseError(f"{where}: {path} is a folder, not a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is checked right after
            return Image.open(path)
    except Image.DecompressionBombError as error:
        raise CaseError(f"{where}: {path} unpacks to far too many pixels; scale it down") from error


def _refuse_extent(path: Path, where: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise CaseError(f"{where}: {path} has {width} x {height} pixels, more than {MAX_PIXELS:,}; scale it down")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise CaseError(
            f"{where}: {path} is {width} x {height} px; sides may differ {MAX_ASPECT}-fold at most. Crop or pad it"
        )


def _unreadable(path: Path, where: str, error: Exception) -> CaseError:
    return CaseError(
        f"{where}: {path} is no readable picture ({error or type(error).__name__}); save it as PNG or JPEG"
    )
