"""Reads the body of a request within limits: JSON, or a form with pictures. No more bytes are read than are allowed."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import anyio
from PIL import Image
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from fewstep.sample.server.image_request import FILES, reference_picture
from fewstep.sample.server.limits import Limits, RequestRefused

READ_SECONDS = 60  # a body that takes longer is given up
DROP_SECONDS, DROP_BYTES = 10, 64 * 1024 * 1024  # of a body that is refused
MAX_FIELDS = MAX_FILES = 32  # of a form; how many pictures an edit may have, is said with its field


async def json_fields(request: Request, limits: Limits) -> dict[str, Any]:
    """The fields of a JSON request.

    Raises:
        RequestRefused: 415 another content type, 413 too long, 408 too slow, 400 not a JSON object.
    """
    await _refuse_type(request, "application/json")
    with _in_time():
        data = b"".join([part async for part in _limited(request, limits.max_json)])
    try:
        fields = json.loads(data, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise RequestRefused(400, f"the body is no JSON ({error!s:.100})") from error
    if not isinstance(fields, dict):
        raise RequestRefused(400, 'the body is a JSON object: {"prompt": ...}')
    return fields


async def form_fields(
    request: Request, limits: Limits, max_references: int
) -> tuple[dict[str, Any], list[Image.Image]]:
    """The fields and the reference pictures of a form.

    Raises:
        RequestRefused: as `json_fields`; 400 for a form that is incomplete or has no picture, 413 for pictures that are
            too large.
    """
    await _refuse_type(request, "multipart/form-data")
    body = _limited(request, limits.max_upload)
    parser = MultiPartParser(
        request.headers,
        body,
        max_files=MAX_FILES,
        max_fields=MAX_FIELDS,
        max_part_size=limits.max_json,
    )
    try:
        with _in_time():
            form = await parser.parse()
        return await _sorted(form.multi_items(), limits, max_references)
    except KeyError as error:
        raise RequestRefused(400, "the form cannot be read: its content type names no boundary") from error
    except (MultiPartException, ValueError) as error:  # ValueError: a header or a charset that does not decode
        await drain(body)
        raise RequestRefused(400, f"the form cannot be read ({error!s:.100})") from error
    finally:
        for file in parser._files_to_close_on_error:  # of an incomplete form nobody else knows them
            file.close()


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise RequestRefused(400, f"{name!r:.60} is given twice", name[:60])
        made[name] = value
    return made


async def _sorted(items: list[tuple[str, Any]], limits: Limits, most: int) -> tuple[dict[str, Any], list[Image.Image]]:
    if (count := sum(name in FILES for name, _ in items)) > most:
        raise RequestRefused(400, f"an edit has at most {most} pictures here, not {count}", "image")
    fields: dict[str, Any] = {}
    pictures: list[Image.Image] = []
    left = limits.max_reference_pixels
    for name, value in items:
        if name in FILES:
            if not isinstance(value, UploadFile):
                raise RequestRefused(400, "image is an uploaded file; paths and addresses are never opened", "image")
            pictures.append(await anyio.to_thread.run_sync(reference_picture, await value.read(), left))
            left -= pictures[-1].width * pictures[-1].height
        elif name in fields:
            raise RequestRefused(400, f"{name!r:.60} is given twice", name[:60])
        else:
            fields[name] = "a file" if isinstance(value, UploadFile) else value
    if not pictures:
        words = "image is missing: upload the picture to edit as the form's file `image`"
        raise RequestRefused(400, words, "image", "missing_required_parameter")
    return fields, pictures


async def drain(parts: AsyncGenerator[bytes, None]) -> None:
    """Reads and discards the rest of a body that is refused, within bounds. A client whose socket is closed while it is
    still sending gets "connection reset" and not the reason."""
    got = 0
    with anyio.move_on_after(DROP_SECONDS):
        async for part in parts:
            got += len(part)
            if got > DROP_BYTES:
                return


async def _refuse_type(request: Request, wanted: str) -> None:
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != wanted:
        await drain(request.stream())
        raise RequestRefused(415, f"send {wanted}, not {found or 'a body without a content type'!r:.80}")


async def _limited(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    """The parts of the body. Refuses it as soon as there are more than `most` bytes."""
    declared, parts = request.headers.get("content-length", "0"), request.stream()
    got = 0
    if declared.isdecimal() and int(declared) > most:
        await drain(parts)
        raise _too_long(most)
    async for part in parts:
        got += len(part)
        if got > most:
            await drain(parts)
            raise _too_long(most)
        yield part


def _too_long(most: int) -> RequestRefused:
    return RequestRefused(
        413, f"the request is longer than {most:,} bytes; shorten the prompt, or scale the pictures down"
    )


class _in_time:
    """Turns a timeout inside into a 408."""

    def __enter__(self) -> None:
        self._scope = anyio.fail_after(READ_SECONDS)
        self._scope.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        try:
            return self._scope.__exit__(*error)
        except TimeoutError as late:
            raise RequestRefused(408, f"the body did not come within {READ_SECONDS} s") from late
