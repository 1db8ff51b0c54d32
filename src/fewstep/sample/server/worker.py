"""One thread that makes all pictures, in the order in which they were requested.

Waiting pictures that fit go along in the same batch. A batch has one layout and one text length (`sample/pictures.py`),
so a picture does not depend on the others in its batch. No picture waits for a batch to fill: while one batch is made,
the next one gathers.
"""

import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import torch
from PIL import Image

from fewstep.backbones.conditioning import Conditioning
from fewstep.runtime.device import free_unused
from fewstep.runtime.errors import FewstepError, PictureError
from fewstep.sample.pictures import (
    Model,
    compatible_batches,
    sample_pictures,
)
from fewstep.sample.server.image_request import ImageRequest
from fewstep.sample.server.limits import Limits, RequestRefused

log = logging.getLogger(__name__)


@dataclass(eq=False)
class QueuedPicture:
    """One requested picture. cond: its conditioning, once it is encoded."""

    image_request: ImageRequest
    seed: int
    size: tuple[int, int]
    answer: "Future[Image.Image]" = field(default_factory=Future)
    cond: Conditioning | None = None


class Worker:
    """The only user of the model. `submit` can be called from any thread."""

    def __init__(self, model: Model, limits: Limits):
        self._model, self._limits = model, limits
        self._waiting: deque[QueuedPicture] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self.failed_in_a_row = 0  # pictures since the last success, not counting invalid requests
        self.model_fault: str | None = None  # told by the last picture, if it was not made of finite numbers
        self._thread = threading.Thread(target=self._work, name="fewstep-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """The number of pictures that are not begun yet."""
        return len(self._waiting)

    def submit(self, image_request: ImageRequest) -> "list[Future[Image.Image]]":
        """A future for each picture. One that is cancelled before its turn costs nothing.

        Raises:
            RequestRefused: 503 after `close`; 400 for a size that the model does not accept, or a prompt that it does
                not read whole.
        """
        size = image_request.size or self._model.default_size(image_request.references)
        self._refuse_size(size)
        self._refuse_text(image_request, size)
        asked = [QueuedPicture(image_request, image_request.seed + i, size) for i in range(image_request.count)]
        with self._changed:
            if self._closing:
                raise RequestRefused(503, "the server is shutting down")
            self._waiting.extend(asked)
            self._changed.notify()
        for picture in asked:
            picture.answer.add_done_callback(partial(self._forget, picture))
        return [picture.answer for picture in asked]

    def _forget(self, picture: QueuedPicture, answer: "Future[Image.Image]") -> None:
        """Drops a picture whose client has gone. Its uploads can be megabytes, so they are freed at once."""
        if answer.cancelled():
            with self._changed, suppress(ValueError):  # it is being made, or was not put back yet
                self._waiting.remove(picture)

    def close(self) -> None:
        """Makes what is still waiting, and returns when that is done."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _refuse_size(self, size: tuple[int, int]) -> None:
        try:
            self._model.backbone.layout_grid(size)
        except FewstepError as error:
            raise RequestRefused(400, str(error), "size") from error

    def _refuse_text(self, image_request: ImageRequest, size: tuple[int, int]) -> None:
        try:
            self._model.refuse_long_text([image_request.prompt], image_request.references, size)
        except FewstepError as error:
            raise RequestRefused(400, str(error), "prompt") from error

    # ---- the thread

    def _work(self) -> None:
        while batch := self._next():
            if not self._answered(batch):
                self._one_by_one(batch)

    def _next(self) -> list[QueuedPicture]:
        """The picture that has waited longest, and those that can share its batch. Empty when all is done."""
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return []
                window = [self._waiting.popleft() for _ in range(min(len(self._waiting), 4 * self._limits.batch))]
            ready = self._encoded([picture for picture in window if not picture.answer.done()])  # cancelled: gone
            if not ready:
                continue
            first, *_ = compatible_batches(
                [picture.cond for picture in ready if picture.cond is not None], None, self._limits.batch
            )
            chosen = [ready[i] for i in first]
            self._put_back([picture for picture in ready if picture not in chosen])
            return chosen

    def _put_back(self, rest: Sequence[QueuedPicture]) -> None:
        """Puts pictures back at the front of the queue, in order."""
        with self._changed:
            self._waiting.extendleft(reversed(rest))

    def _encoded(self, pictures: Sequence[QueuedPicture]) -> list[QueuedPicture]:
        """Encodes pictures, and returns those that could be encoded. Prompts without references are encoded together;
        the references of a request are encoded once."""
        known: dict[int, Conditioning] = {id(p.image_request): p.cond for p in pictures if p.cond is not None}
        new = {id(p.image_request): p for p in pictures if id(p.image_request) not in known}
        together: dict[object, list[QueuedPicture]] = {}
        for key, picture in new.items():
            together.setdefault(key if picture.image_request.references else picture.size, []).append(picture)
        for group in together.values():
            try:
                known |= self._encode(group)
                continue
            except Exception:  # then one by one, so that only the request that caused it fails
                log.debug("a group could not be encoded", exc_info=True)
            free_unused(self._model.backbone.device)  # here, where nothing holds the failed attempt's tensors any more
            for picture in group:
                with self._failing(pictures, picture.image_request):
                    known |= self._encode([picture])
        for picture in pictures:
            picture.cond = known.get(id(picture.image_request))
        return [picture for picture in pictures if picture.cond is not None]

    @torch.no_grad()
    def _encode(self, pictures: Sequence[QueuedPicture]) -> dict[int, Conditioning]:
        """Conditionings by request. Several requests only if none of them has references."""
        first = pictures[0]
        prompts, references = (
            [picture.image_request.prompt for picture in pictures],
            list(first.image_request.references) or None,
        )
        conds = self._model.backbone.encode(prompts, references, first.size)
        return {id(picture.image_request): cond for picture, cond in zip(pictures, conds, strict=True)}

    @contextmanager
    def _failing(self, pictures: Sequence[QueuedPicture], image_request: ImageRequest) -> Iterator[None]:
        """An error inside becomes the result of all pictures of this request."""
        try:
            yield
        except Exception as error:
            for picture in pictures:
                if picture.image_request is image_request:
                    self._fail(picture, error)

    def _answer(self, batch: Sequence[QueuedPicture]) -> None:
        backbone, size = self._model.backbone, batch[0].size
        grid, _ = self._model.sampling(size=size)
        conds = [picture.cond for picture in batch if picture.cond is not None]
        drawn = sample_pictures(backbone, backbone.transformer, conds, [picture.seed for picture in batch], grid)
        self.failed_in_a_row, self.model_fault = 0, None
        for picture, image in zip(batch, drawn, strict=True):
            with suppress(InvalidStateError):
                picture.answer.set_result(image)

    def _answered(self, batch: Sequence[QueuedPicture]) -> bool:
        """Makes a batch. Returns whether that is settled.

        The error of a single picture becomes its result. The error of a batch of several is dropped here, with all
        tensors that its frames hold: what did not fit into memory together may fit one by one.
        """
        try:
            self._answer(batch)
        except Exception as error:  # whatever a library raises: the other pictures must still be made
            if len(batch) == 1:
                self._fail(batch[0], error)
            return False
        return True

    def _one_by_one(self, batch: Sequence[QueuedPicture]) -> None:
        """Makes pictures one by one after an error, so that only the one that caused it fails."""
        free_unused(self._model.backbone.device)
        for picture in batch if len(batch) > 1 else ():
            self._answered([picture])

    def _fail(self, picture: QueuedPicture, error: Exception) -> None:
        if isinstance(error, PictureError):
            self.model_fault = str(error)
            refused = RequestRefused(500, str(error))
        elif isinstance(error, FewstepError):
            refused = RequestRefused(400, str(error))
        else:
            refused = RequestRefused(500, "drawing failed; see the server's log")
        if refused.status == 500:
            self.failed_in_a_row += 1
            log.error("a picture failed", exc_info=error)
        with suppress(InvalidStateError):
            picture.answer.set_exception(refused)
