"""Checks a request. A field that is unknown, or a value outside the limits, is refused with the field's name.

Nothing in a request is ever used as a path or an address.
"""

import io
import re
import secrets
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageOps

from fewstep.data.pictures import MAX_ASPECT, MODES
from fewstep.sample.server.limits import Limits, RequestRefused

FORMATS = ("PNG", "JPEG", "WEBP")  # the only decoders that uploaded bytes are given to
MAX_SEED = 2**63 - 1
# Fields of the OpenAI API that are accepted with these values only, which change nothing. None: any value, ignored.
DEFAULT_ONLY: dict[str, tuple[str, ...] | None] = {
    "response_format": ("b64_json",),
    "output_format": ("png",),
    "quality": ("auto", "standard"),
    "background": ("auto",),
    "moderation": ("auto",),
    "user": None,
}
OWN_FIELDS = ("prompt", "n", "size", "seed", "steps", "model")
FILES = ("image", "image[]")


@dataclass(frozen=True)
class ServedModel:
    """What the served model can do. size: its default height and width. multiple: sides are multiples of it."""

    name: str
    steps: int
    size: tuple[int, int]
    multiple: int
    max_references: int


@dataclass(frozen=True)
class ImageRequest:
    """A checked request. size None means the model's default area in the shape of the last reference. Picture i has the
    seed + i."""

    prompt: str
    count: int
    seed: int
    size: tuple[int, int] | None
    references: tuple[Image.Image, ...] = ()


def parse_request(
    fields: Mapping[str, Any], references: Sequence[Image.Image], served: ServedModel, limits: Limits
) -> ImageRequest:
    """The request that these fields and pictures make.

    Raises:
        RequestRefused: 400, or 404 for the name of another model.
    """
    for name, value in fields.items():
        _refuse_strange(name, value)
    prompt = fields.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise RequestRefused(400, "prompt is missing: say in words what to draw, or how to edit", "prompt")
    if any("\ud800" <= character <= "\udfff" for character in prompt):
        raise RequestRefused(400, "prompt is no text: it holds half of a surrogate pair; send it as UTF-8", "prompt")
    if len(prompt) > limits.max_prompt:
        raise RequestRefused(
            400, f"prompt has {len(prompt):,} characters; at most {limits.max_prompt:,} are read", "prompt"
        )
    if fields.get("model") not in (None, served.name):
        raise RequestRefused(404, f"no model {str(fields['model'])!r:.80} here; this server has {served.name}", "model")
    count = _whole(fields, "n", 1, 1, limits.max_pictures)
    seed = _whole(fields, "seed", secrets.randbelow(2**31), 0, MAX_SEED - count)
    steps = _whole(fields, "steps", served.steps, 1, 2**31)
    if steps != served.steps:
        raise RequestRefused(
            400, f"this student samples in {served.steps} steps and no others; leave steps out", "steps"
        )
    return ImageRequest(prompt, count, seed, _size(fields.get("size"), served, limits), tuple(references))


def _refuse_strange(name: str, value: Any) -> None:
    if name in OWN_FIELDS or value is None:
        return
    if name == "mask":
        raise RequestRefused(400, "masks are not supported: say in the prompt what to change, and leave mask out", name)
    if name not in DEFAULT_ONLY:
        raise RequestRefused(
            400, f"unknown field {name!r:.60}; known are {', '.join([*OWN_FIELDS, *DEFAULT_ONLY])}", name[:60]
        )
    default = DEFAULT_ONLY[name]
    if default is not None and value not in default:
        raise RequestRefused(400, f"{name} is {' or '.join(default)} here, not {value!r:.60}", name)


def _whole(fields: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    """An integer within bounds. Forms send it as text."""
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,20}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise RequestRefused(400, f"{name} is a whole number from {low} to {high}, not {value!r:.60}", name)
    return value


def _size(value: Any, served: ServedModel, limits: Limits) -> tuple[int, int] | None:
    """(height, width) from OpenAI's WIDTHxHEIGHT; None for auto."""
    if value in (None, "auto"):
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value) if isinstance(value, str) else None
    if match is None:
        raise RequestRefused(400, f"size reads WIDTHxHEIGHT in pixels, or auto, not {value!r:.60}", "size")
    width, height = int(match[1]), int(match[2])
    if width * height > limits.max_pixels:
        raise RequestRefused(
            400, f"size {value} has {width * height:,} pixels; at most {limits.max_pixels:,} are drawn", "size"
        )
    short, long = sorted((width, height))
    if short == 0 or long > MAX_ASPECT * short:
        raise RequestRefused(400, f"size {value}: sides may differ {MAX_ASPECT}-fold at most", "size")
    if width % served.multiple or height % served.multiple:
        raise RequestRefused(400, f"size {value}: sides are multiples of {served.multiple} pixels", "size")
    return height, width


def reference_picture(data: bytes, left: int) -> Image.Image:
    """An uploaded picture, upright, in RGB or RGBA. left: how many more pixels the request may contain.

    Raises:
        RequestRefused: 400 for a picture that cannot be read; 413 for too many pixels, before any is decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is checked right after
            opened = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_large(left) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise RequestRefused(
            400, f"image is no {', '.join(FORMATS)} picture that can be read; upload the file itself", "image"
        ) from error
    width, height = opened.size
    if width * height > left:
        raise _too_large(left)
    short, long = sorted((width, height))
    if long > MAX_ASPECT * short:
        raise RequestRefused(400, f"image is {width} x {height}; sides may differ {MAX_ASPECT}-fold at most", "image")
    if opened.mode not in MODES:
        raise RequestRefused(400, f"image has {opened.mode} pixels; save it with 8 bits per channel", "image")
    try:
        upright = ImageOps.exif_transpose(opened)
        transparent = "A" in upright.getbands() or "transparency" in upright.info
        return upright.convert("RGBA" if transparent else "RGB")
    except Image.DecompressionBombError as error:
        raise _too_large(left) from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise RequestRefused(400, "image is torn: its pixels cannot be read; save it again", "image") from error


def _too_large(left: int) -> RequestRefused:
    return RequestRefused(
        413, f"image unpacks to more than the {left:,} pixels that a request may bring; scale it down", "image"
    )
