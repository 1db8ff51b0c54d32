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

from fewstep.data.pictures import MAX_ASPECT, MODES, ORIENTATION, UNREADABLE
from fewstep.sample.server import packing
from fewstep.sample.server.limits import Limits, RequestRefused
from fewstep.sample.server.openai_fields import NEUTRAL, NEVER, refuse_unless_neutral
from fewstep.sample.server.packing import WHOLE_PNG, Packing, packing_of

FORMATS = ("PNG", "JPEG", "WEBP")  # the only decoders that uploaded bytes are given to
MAX_SEED = 2**63 - 1
OVER_OWN_AREA = 2  # OpenAI's wide sizes, 1536x1024 and 1792x1024, are within it for a student of a megapixel
OWN_FIELDS = ("prompt", "n", "size", "seed", "steps", "model", *packing.FIELDS)
FILES = ("image", "image[]")


@dataclass(frozen=True)
class ServedModel:
    """What the served model can do.

    aliases: further names that clients may call it. size: its default height and width, at which it was trained.
    multiple: sides are multiples of it. max_pixels: of a picture; None: twice the area of `size`.
    """

    name: str
    steps: int
    size: tuple[int, int]
    multiple: int
    max_references: int
    aliases: tuple[str, ...] = ()
    max_pixels: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return self.name, *(alias for alias in self.aliases if alias != self.name)

    @property
    def most_pixels(self) -> int:
        """A picture far over the size that a student was trained at is poor, and holds up all other requests."""
        return OVER_OWN_AREA * self.size[0] * self.size[1] if self.max_pixels is None else self.max_pixels

    def examples(self) -> str:
        """Sizes that are drawn, as WIDTHxHEIGHT: the student's own, and up to half as long again."""
        height, width = self.size
        longer = [side * 3 // 2 // self.multiple * self.multiple for side in (width, height)]
        sizes = dict.fromkeys([(width, height), (longer[0], height), (width, longer[1])])
        return ", ".join(f"{w}x{h}" for w, h in sizes if w * h <= self.most_pixels)


@dataclass(frozen=True)
class ImageRequest:
    """A checked request. size None means the model's default area in the shape of the last reference. Picture i has the
    seed + i."""

    prompt: str
    count: int
    seed: int
    size: tuple[int, int] | None
    references: tuple[Image.Image, ...] = ()
    packing: Packing = WHOLE_PNG


def parse_request(
    fields: Mapping[str, Any], references: Sequence[Image.Image], served: ServedModel, limits: Limits
) -> ImageRequest:
    """The request that these fields and pictures make.

    Raises:
        RequestRefused: 400, or 404 for the name of another model.
    """
    for name, value in fields.items():
        _refuse_half_letters(name, value)
        _refuse_strange(name, value)
    prompt = fields.get("prompt")
    if prompt is None or (isinstance(prompt, str) and not prompt.strip()):
        raise RequestRefused(
            400, "prompt is missing: say in words what to draw, or how to edit", "prompt", "missing_required_parameter"
        )
    if not isinstance(prompt, str):
        raise RequestRefused(400, f"prompt is a text, not {prompt!r:.60}", "prompt")
    if len(prompt) > limits.max_prompt:
        raise RequestRefused(
            400, f"prompt has {len(prompt):,} characters; at most {limits.max_prompt:,} are read", "prompt"
        )
    if fields.get("model") not in (None, *served.names):
        here = ", ".join(served.names)
        raise RequestRefused(
            404, f"no model {str(fields['model'])!r:.80} here; this server has {here}", "model", "model_not_found"
        )
    count = _whole(fields, "n", 1, 1, limits.max_pictures)
    seed = _whole(fields, "seed", secrets.randbelow(2**31), 0, MAX_SEED - count)
    steps = _whole(fields, "steps", served.steps, 1, 2**31)
    if steps != served.steps:
        raise RequestRefused(
            400, f"this student samples in {served.steps} steps and no others; leave steps out", "steps"
        )
    size = _size(fields.get("size"), served)
    return ImageRequest(prompt, count, seed, size, tuple(references), packing_of(fields))


def _refuse_half_letters(name: str, value: Any) -> None:
    """Half of a surrogate pair, which JSON can spell, is no text that an answer or a tokenizer could hold."""
    for text in (name, value):
        if isinstance(text, str) and any("\ud800" <= character <= "\udfff" for character in text):
            raise RequestRefused(400, f"{name!r:.60} holds half of a surrogate pair; send UTF-8", name[:60])


def _refuse_strange(name: str, value: Any) -> None:
    if name in OWN_FIELDS or value is None:
        return
    if name not in NEUTRAL and name not in NEVER:
        known = ", ".join([*OWN_FIELDS, *NEUTRAL])
        raise RequestRefused(400, f"unknown field {name!r:.60}; known are {known}", name[:60], "unknown_parameter")
    refuse_unless_neutral(name, value)


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


def _size(value: Any, served: ServedModel) -> tuple[int, int] | None:
    """(height, width) from OpenAI's WIDTHxHEIGHT; None for auto."""
    if value in (None, "auto"):
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value) if isinstance(value, str) else None
    if match is None:
        raise RequestRefused(400, f"size reads WIDTHxHEIGHT in pixels, or auto, not {value!r:.60}", "size")
    width, height = int(match[1]), int(match[2])
    if width * height > served.most_pixels:
        raise RequestRefused(
            400,
            f"size {value} has {width * height:,} pixels; at most {served.most_pixels:,} are drawn, in sides that are "
            f"multiples of {served.multiple} (such as {served.examples()}; or auto)",
            "size",
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
    except UNREADABLE as error:
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
        if not isinstance(opened.getexif().get(ORIENTATION, 1), int):
            raise RequestRefused(400, "image has an EXIF orientation that is no number; save it again", "image")
        upright = ImageOps.exif_transpose(opened)
        transparent = "A" in upright.getbands() or "transparency" in upright.info
        return upright.convert("RGBA" if transparent else "RGB")
    except Image.DecompressionBombError as error:
        raise _too_large(left) from error
    except UNREADABLE as error:
        raise RequestRefused(400, "image is torn: its pixels cannot be read; save it again", "image") from error


def _too_large(left: int) -> RequestRefused:
    return RequestRefused(
        413, f"image unpacks to more than the {left:,} pixels that a request may bring; scale it down", "image"
    )
