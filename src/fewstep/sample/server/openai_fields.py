"""Fields of OpenAI's images API that a student has no use for.

Values that ask for nothing are taken. A value that would need another picture is refused with the field's name, so
nothing is ignored that a client could miss.
"""

from typing import Any

from fewstep.sample.server.limits import RequestRefused

# Taken with these values only. None: any text; it tells OpenAI who asks. A student has one quality and one style, so
# every wish of that kind is met as well as it can be.
NEUTRAL: dict[str, tuple[str, ...] | None] = {
    "response_format": ("b64_json",),
    "stream": ("false",),
    "partial_images": ("0",),
    "background": ("auto", "opaque"),
    "moderation": ("auto", "low"),
    "quality": ("auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"),
    "style": ("vivid", "natural"),
    "input_fidelity": ("low", "high"),
    "complexity": ("low", "medium", "high"),
    "user": None,
    "safety_identifier": None,
}
REASONS = {
    "response_format": "; pictures are kept nowhere, so there is no address to send",
    "stream": "; a picture is sent once it is done",
    "partial_images": "; a picture is sent once it is done",
    "background": "; the prompt alone says what stands behind a picture",
}
NEVER = ("mask", "markup")


def refuse_unless_neutral(name: str, value: Any) -> None:
    """
    Args:
        name: a key of NEUTRAL, or one of NEVER.

    Raises:
        RequestRefused: 400 for a value that would need another picture.
    """
    if name in NEVER:
        words = f"masks are not supported: say in the prompt what to change, and leave {name} out"
        raise RequestRefused(400, words, name, "unsupported_parameter")
    taken = NEUTRAL[name]
    if taken is None and not isinstance(value, str):
        raise RequestRefused(400, f"{name} is a text, not {value!r:.60}", name)
    if taken is not None and as_in_form(value) not in taken:
        why = REASONS.get(name, "")
        raise RequestRefused(400, f"{name} is {' or '.join(taken)} here, not {value!r:.60}{why}", name)


def as_in_form(value: Any) -> str:
    """A JSON value as forms send it. What no form can send is empty, which is no value of any field."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) and len(str(value)) < 100 else ""
