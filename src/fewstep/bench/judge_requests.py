"""One question to a judge, identified by the pictures and words it contains, never by where they are stored.

The key covers the pixels of every picture, the prompt, the protocol's words, the model and its parameters. Renamed
folders, another server of the same model and a PNG saved again keep it. Any change of the question makes a new key.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from fewstep.bench import pixels
from fewstep.bench.protocol import JudgeProtocol
from fewstep.data.pictures import open_picture
from fewstep.endpoint.declaration import Endpoint
from fewstep.endpoint.messages import EncodedPicture, encode_picture


@dataclass(frozen=True)
class LazyPicture:
    """A picture that is opened only when it is sent. size: (height, width) in px."""

    hash: str
    size: tuple[int, int]
    open: Callable[[], Image.Image]


def picture_of_file(path: Path, where: str) -> LazyPicture:
    """The picture of a file.

    Raises:
        CaseError: missing or torn; the whole file is read.
    """
    opened = open_picture(path, where)
    return LazyPicture(pixels.pixel_hash(opened), (opened.height, opened.width), lambda: _of_file(path, where))


def picture_of_image(image: Image.Image) -> LazyPicture:
    """A picture in memory."""
    return LazyPicture(pixels.pixel_hash(image), (image.height, image.width), lambda: image)


def _of_file(path: Path, where: str) -> Image.Image:
    return pixels.rgb_or_rgba(open_picture(path, where))


@dataclass(frozen=True)
class JudgeQuestion:
    """One question. answers: one picture to rate, or a pair. about: what a record states about it (case, seed, ...)."""

    protocol: JudgeProtocol
    prompt: str
    references: tuple[LazyPicture, ...]
    answers: tuple[LazyPicture, ...]
    about: Mapping[str, Any]

    @property
    def rubric(self) -> str | None:
        return self.protocol.rubric_name(str(self.about["category"]))

    @property
    def pictures(self) -> tuple[LazyPicture, ...]:
        return (*self.references, *self.answers)

    @property
    def words(self) -> str:
        """A hash of everything that is sent, except the case."""
        return _words(self.protocol, self.rubric)

    def key(self, endpoint: Endpoint) -> str:
        told = [
            [picture.hash for picture in self.references],
            [picture.hash for picture in self.answers],
            self.prompt,
            self.words,
            judge_hash(endpoint),
        ]
        return hashlib.blake2b(json.dumps(told).encode(), digest_size=16).hexdigest()

    def messages(self, max_side: int | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The messages, and the record of each picture sent."""
        references, answers = _shown(self.references, max_side), _shown(self.answers, max_side)
        sent = [picture.record() for picture in (*references, *answers)]
        return self.protocol.messages(self.prompt, references, answers, self.rubric), sent


@dataclass(frozen=True)
class JudgeRequest:
    """A question to a judge, in its repeat-th repetition."""

    question: JudgeQuestion
    key: str
    repeat: int

    @property
    def request_key(self) -> tuple[str, int]:
        """Unique for each call."""
        return self.key, self.repeat


def requests_of(questions: Sequence[JudgeQuestion], endpoint: Endpoint) -> list[JudgeRequest]:
    """Every question as often as declared, each repeat after all of the one before. So a pass that was stopped has
    covered all cases evenly."""
    keys = [question.key(endpoint) for question in questions]
    pairs = list(zip(questions, keys, strict=True))
    return [JudgeRequest(question, key, repeat) for repeat in range(endpoint.repeats) for question, key in pairs]


def judge_hash(endpoint: Endpoint) -> str:
    """A hash of what identifies a judge: model, parameters, and the largest size of the pictures it gets."""
    told = json.dumps([endpoint.model, endpoint.parameters, endpoint.max_side], sort_keys=True, default=str)
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


def _shown(pictures: Sequence[LazyPicture], max_side: int | None) -> list[EncodedPicture]:
    return [encode_picture(picture.open(), max_side) for picture in pictures]


def _words(protocol: JudgeProtocol, rubric: str | None) -> str:
    return _cached_words(protocol.model_dump_json(), rubric)


@cache
def _cached_words(protocol: str, rubric: str | None) -> str:
    return JudgeProtocol.model_validate_json(protocol).fingerprint(rubric)
