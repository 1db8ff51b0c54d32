"""What is encoded together: prompts with the reference pictures that they are about."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True)
class EncodeRequest:
    """Prompts about the same references, for a target of a size (height and width in px)."""

    prompts: tuple[str, ...]
    references: tuple[Image.Image, ...]
    size: tuple[int, int]


def encode_in_groups(
    requests: Sequence[EncodeRequest],
    kind: Callable[[EncodeRequest], Hashable],
    encode: Callable[[Sequence[EncodeRequest]], list[AnswerT]],
) -> list[AnswerT]:
    """What `encode` answers to the requests of each kind together, in the order of `requests`."""
    groups: dict[Hashable, list[int]] = {}
    for place, request in enumerate(requests):
        groups.setdefault(kind(request), []).append(place)
    answers: dict[int, AnswerT] = {}
    for places in groups.values():
        answers |= zip(places, encode([requests[place] for place in places]), strict=True)
    return [answers[place] for place in range(len(requests))]
