"""Chat messages with pictures, in the form of OpenAI's chat API. Pictures travel as lossless PNG in the request itself,
so no server has to reach this machine."""

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class EncodedPicture:
    """A picture as it is sent. width, height: of the original; sent_*: of the picture sent, in px; hash: of the bytes
    of `png`."""

    width: int
    height: int
    sent_width: int
    sent_height: int
    hash: str
    png: bytes

    def record(self) -> dict[str, Any]:
        """What was sent, without the bytes."""
        return {
            "size": [self.height, self.width],
            "sent": [self.sent_height, self.sent_width],
            "hash": self.hash,
            "bytes": len(self.png),
        }


def encode_picture(picture: Image.Image, max_side: int | None = None) -> EncodedPicture:
    """The picture as PNG, scaled down only if its longer side exceeds `max_side` (px). Transparency stays."""
    kept = picture if picture.mode in ("RGB", "RGBA") else picture.convert("RGB")
    sent = kept
    if max_side is not None and max(kept.size) > max_side:
        scale = max_side / max(kept.size)
        width, height = (max(1, round(side * scale)) for side in kept.size)
        sent = kept.resize((width, height), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    sent.save(file, format="PNG", compress_level=4)
    png = file.getvalue()
    return EncodedPicture(*kept.size, *sent.size, hashlib.blake2b(png, digest_size=16).hexdigest(), png)


def text_message(role: Role, words: str) -> dict[str, Any]:
    return {"role": role, "content": words}


def mixed_message(role: Role, parts: Sequence[str | EncodedPicture]) -> dict[str, Any]:
    """A message of texts and pictures in this order."""
    return {"role": role, "content": [_part(part) for part in parts]}


def _part(part: str | EncodedPicture) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(part.png).decode()}"}}
