"""How a picture is sent: format, quality, and whether it stands on white."""

import base64
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from fewstep.sample.server.limits import RequestRefused
from fewstep.sample.server.openai_fields import as_in_form

FORMATS = ("png", "jpeg", "webp")
FIELDS = ("output_format", "output_compression")
WHITE = (255, 255, 255, 255)


@dataclass(frozen=True)
class Packing:
    """format: of FORMATS. compression: 0 to 100, the best, as OpenAI counts. opaque: on white, without alpha."""

    format: str = "png"
    compression: int = 100
    opaque: bool = False

    def base64(self, picture: Image.Image) -> str:
        """The picture as base64. Its alpha channel is left out if all of it is opaque, and where it may not be."""
        if picture.mode == "RGBA":
            whole = self.opaque or self.format == "jpeg" or picture.getchannel("A").getextrema()[0] == 255
            picture = _on_white(picture) if whole else picture
        file = io.BytesIO()
        if self.format == "png":
            picture.save(file, format="PNG")
        else:
            picture.save(file, format=self.format.upper(), quality=self.compression)
        return base64.b64encode(file.getvalue()).decode()


WHOLE_PNG = Packing()


def packing_of(fields: Mapping[str, Any]) -> Packing:
    """
    Raises:
        RequestRefused: 400 for a format that is not served, or a compression that it does not have.
    """
    kind, compression = (fields.get(name) for name in FIELDS)
    kind, told = "png" if kind is None else kind, "100" if compression is None else as_in_form(compression)
    if kind not in FORMATS:
        raise RequestRefused(400, f"output_format is {' or '.join(FORMATS)} here, not {kind!r:.60}", FIELDS[0])
    if not re.fullmatch(r"0*(100|[1-9]?[0-9])", told):
        raise RequestRefused(400, f"output_compression is a number from 0 to 100, not {compression!r:.60}", FIELDS[1])
    if kind == "png" and int(told) < 100:
        raise RequestRefused(
            400, "a png keeps every level: output_compression is 100 there; ask for jpeg or webp to get less", FIELDS[1]
        )
    return Packing(kind, int(told), fields.get("background") == "opaque")


def _on_white(picture: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", picture.size, WHITE), picture).convert("RGB")
