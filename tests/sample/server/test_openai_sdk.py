"""The real `openai` SDK against a real socket: each call is answered as OpenAI's server would, or refused in its shape.

One server and one student for all calls.
"""

import asyncio
import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from PIL import Image

from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.flow.guidance import NO_GUIDANCE
from fewstep.sample.pictures import Model
from fewstep.sample.server.app import Server
from fewstep.sample.server.limits import Limits
from tests.sample.server.listening import listening_at

ALIASES = ("gpt-image-1", "dall-e-3")
Call = Callable[[openai.OpenAI], Any]
Refusal = tuple[type[openai.APIStatusError], str | None, str | None]  # class by status, param, code


@pytest.fixture(scope="module")
def server(backbone: QwenImage21) -> Server:
    return Server(Model(backbone, 4, NO_GUIDANCE, (64, 64)), "tiny", Limits(), ALIASES)


@pytest.fixture(scope="module")
def address(server: Server) -> Iterator[str]:
    with listening_at(server) as found:
        yield found


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=30) as made:
        yield made


def png(size: tuple[int, int] = (64, 64), mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert(mode).save(file, format="PNG")
    return file.getvalue()


def generate(**fields: Any) -> Call:
    return lambda client: client.images.generate(**{"prompt": "a boat", "extra_body": {"seed": 7}} | fields)


def edit(**fields: Any) -> Call:
    asked = {"prompt": "make it night", "image": ("a.png", png(), "image/png"), "extra_body": {"seed": 7}} | fields
    return lambda client: client.images.edit(**asked)


def pictures(answer: Any) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(one.b64_json))) for one in answer.data]


# name -> a call, and what its pictures are: the format, (width, height), and how many.
ANSWERED: dict[str, tuple[Call, tuple[str, tuple[int, int], int]]] = {
    "a prompt": (generate(), ("PNG", (64, 64), 1)),
    "its model": (generate(model="tiny"), ("PNG", (64, 64), 1)),
    "an alias": (generate(model="gpt-image-1"), ("PNG", (64, 64), 1)),
    "another alias": (generate(model="dall-e-3"), ("PNG", (64, 64), 1)),
    "three pictures": (generate(n=3), ("PNG", (64, 64), 3)),
    "a size": (generate(size="96x64"), ("PNG", (96, 64), 1)),
    "the largest size": (generate(size="128x64"), ("PNG", (128, 64), 1)),
    "size auto": (generate(size="auto"), ("PNG", (64, 64), 1)),
    "no stream": (generate(stream=False), ("PNG", (64, 64), 1)),
    "no partial images": (generate(stream=False, partial_images=0), ("PNG", (64, 64), 1)),
    "background auto": (generate(background="auto"), ("PNG", (64, 64), 1)),
    "background opaque": (generate(background="opaque"), ("PNG", (64, 64), 1)),
    "moderation": (generate(moderation="low"), ("PNG", (64, 64), 1)),
    "quality": (generate(quality="hd"), ("PNG", (64, 64), 1)),
    "style": (generate(style="natural"), ("PNG", (64, 64), 1)),
    "who asks": (generate(user="u-1", safety_identifier="s-1"), ("PNG", (64, 64), 1)),
    "base64": (generate(response_format="b64_json"), ("PNG", (64, 64), 1)),
    "png, whole": (generate(output_format="png", output_compression=100), ("PNG", (64, 64), 1)),
    "jpeg": (generate(output_format="jpeg"), ("JPEG", (64, 64), 1)),
    "webp": (generate(output_format="webp", output_compression=60), ("WEBP", (64, 64), 1)),
    "nulls": (generate(model=None, n=None, size=None, quality=None), ("PNG", (64, 64), 1)),
    "an edit": (edit(), ("PNG", (64, 64), 1)),
    "an edit of a wide picture": (edit(image=("a.png", png((256, 64)), "image/png")), ("PNG", (128, 32), 1)),
    "an edit of a file": (edit(image=io.BytesIO(png())), ("PNG", (64, 64), 1)),
    "an edit of bytes": (edit(image=png()), ("PNG", (64, 64), 1)),
    "an edit of a picture that can be seen through": (edit(image=png(mode="RGBA")), ("PNG", (64, 64), 1)),
    "an edit of several": (edit(image=[("a.png", png()), ("b.png", png((32, 32)))]), ("PNG", (64, 64), 1)),
    "an edit, twice": (edit(n=2, model="gpt-image-1"), ("PNG", (64, 64), 2)),
    "an edit at a size": (edit(size="64x96"), ("PNG", (64, 96), 1)),
    "an edit, size auto": (edit(size="auto"), ("PNG", (64, 64), 1)),
    "an edit, all that is neutral": (
        edit(
            **{"stream": False, "partial_images": 0, "background": "opaque", "quality": "low", "user": "u"},
            **{"input_fidelity": "high", "output_format": "jpeg", "output_compression": 80},
        ),
        ("JPEG", (64, 64), 1),
    ),
    "an edit, nulls": (edit(model=None, n=None, size=None, stream=None), ("PNG", (64, 64), 1)),
}
BAD, UNKNOWN = openai.BadRequestError, openai.NotFoundError
REFUSED: dict[str, tuple[Call, Refusal]] = {
    "an empty prompt": (generate(prompt=" "), (BAD, "prompt", "missing_required_parameter")),
    "a prompt that is no text": (generate(prompt=["a"]), (BAD, "prompt", "invalid_value")),
    "a prompt too long": (generate(prompt="a" * 20_000), (BAD, "prompt", "invalid_value")),
    "a prompt of 1 MB": (generate(prompt="a" * 2**20), (openai.APIStatusError, None, None)),
    "another model": (generate(model="gpt-image-2"), (UNKNOWN, "model", "model_not_found")),
    "no picture": (generate(n=0), (BAD, "n", "invalid_value")),
    "many pictures": (generate(n=10), (BAD, "n", "invalid_value")),
    "half a picture": (generate(n=1.5), (BAD, "n", "invalid_value")),
    "a stream": (generate(stream=True), (BAD, "stream", "invalid_value")),
    "partial images": (generate(stream=False, partial_images=2), (BAD, "partial_images", "invalid_value")),
    "a transparent background": (generate(background="transparent"), (BAD, "background", "invalid_value")),
    "an address": (generate(response_format="url"), (BAD, "response_format", "invalid_value")),
    "a moving picture": (generate(output_format="gif"), (BAD, "output_format", "invalid_value")),
    "a drawing": (generate(output_format="svg"), (BAD, "output_format", "invalid_value")),
    "frames": (generate(frame_count=3), (BAD, "frame_count", "unknown_parameter")),
    "a compressed png": (generate(output_compression=50), (BAD, "output_compression", "invalid_value")),
    "a compression over 100": (
        generate(output_format="jpeg", output_compression=101),
        (BAD, "output_compression", "invalid_value"),
    ),
    "a quality that nobody has": (generate(quality="best"), (BAD, "quality", "invalid_value")),
    "16 megapixels": (generate(size="4096x4096"), (BAD, "size", "invalid_value")),
    "over its own area": (generate(size="128x128"), (BAD, "size", "invalid_value")),
    "a size off the grid": (generate(size="65x64"), (BAD, "size", "invalid_value")),
    "a seed below zero": (generate(extra_body={"seed": -1}), (BAD, "seed", "invalid_value")),
    "a field of no API": (generate(extra_body={"path": "/tmp/x"}), (BAD, "path", "unknown_parameter")),
    "an edit with a mask": (edit(mask=("m.png", png(mode="RGBA"))), (BAD, "mask", "unsupported_parameter")),
    "an edit with markup": (edit(markup=("m.png", png(mode="RGBA"))), (BAD, "markup", "unsupported_parameter")),
    "an edit of no picture": (edit(image=("a.txt", b"hello")), (BAD, "image", "invalid_value")),
    "an edit of nothing": (edit(image=[]), (BAD, "image", "missing_required_parameter")),
    "an edit of eleven": (edit(image=[("a.png", png((32, 32)))] * 11), (BAD, "image", "invalid_value")),
    "an edit, streamed": (edit(stream=True), (BAD, "stream", "invalid_value")),
    "an edit without words": (edit(prompt=""), (BAD, "prompt", "missing_required_parameter")),
    "an edit of another model": (edit(model="nosuch"), (UNKNOWN, "model", "model_not_found")),
    "an edit of 60 megapixels": (edit(size="9999x6000"), (BAD, "size", "invalid_value")),
    "another route": (
        lambda client: client.post("/images/variations", body={}, cast_to=object),
        (UNKNOWN, None, "unknown_url"),
    ),
    "a chat": (
        lambda client: client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}]),
        (UNKNOWN, None, "unknown_url"),
    ),
    "a model that is not there": (
        lambda client: client.models.retrieve("nosuch"),
        (UNKNOWN, "model", "model_not_found"),
    ),
    "removing a model": (
        lambda client: client.models.delete("tiny"),
        (openai.APIStatusError, None, "method_not_supported"),
    ),
}


@pytest.mark.parametrize(("call", "wanted"), ANSWERED.values(), ids=ANSWERED)
def test_answered(client: openai.OpenAI, call: Call, wanted: tuple[str, tuple[int, int], int]) -> None:
    answer = call(client)
    kind, size, count = wanted
    assert [(p.format, p.size) for p in pictures(answer)] == [(kind, size)] * count
    assert answer.output_format == kind.lower()
    assert answer.size == "{}x{}".format(*size)
    assert answer.created > 0


@pytest.mark.parametrize(("call", "wanted"), REFUSED.values(), ids=REFUSED)
def test_refused(client: openai.OpenAI, call: Call, wanted: Refusal) -> None:
    kind, param, code = wanted
    with pytest.raises(kind) as caught:
        call(client)
    error = caught.value
    assert isinstance(error, openai.APIStatusError)
    assert isinstance(error.body, dict)
    assert set(error.body) == {"message", "type", "param", "code"}
    assert (error.param, error.code, error.type) == (param, code, "invalid_request_error")
    assert error.body["message"]


def test_the_matrix_has_sixty_calls() -> None:
    assert len(ANSWERED) + len(REFUSED) >= 60


def test_models(client: openai.OpenAI) -> None:
    assert [one.id for one in client.models.list()] == ["tiny", *ALIASES]
    assert client.get("/models/", cast_to=dict[str, Any])["object"] == "list"
    for name in ("tiny", *ALIASES):
        one = client.models.retrieve(name)
        assert (one.id, one.object, one.owned_by) == (name, "model", "fewstep")


def test_a_refused_size_names_those_that_are_served(client: openai.OpenAI) -> None:
    with pytest.raises(BAD, match=r"such as 64x64, 96x64, 64x96; or auto"):
        generate(size="2048x2048")(client)


def test_compression_is_honoured(client: openai.OpenAI) -> None:
    for kind in ("jpeg", "webp"):
        sizes = []
        for compression in (5, 100):
            answer = generate(output_format=kind, output_compression=compression)(client)
            sizes.append(len(answer.data[0].b64_json))
        assert sizes[0] < 0.7 * sizes[1], kind


def test_the_format_does_not_change_what_is_drawn(client: openai.OpenAI) -> None:
    asked = ({"output_format": "jpeg"}, {"output_format": "png", "background": "opaque"})
    jpeg, whole = (pictures(generate(**fields)(client))[0] for fields in asked)
    assert whole.mode == "RGB"
    again = io.BytesIO()
    whole.save(again, format="JPEG", quality=100)
    assert Image.open(again).tobytes() == jpeg.tobytes()


def test_an_edit_of_a_path_and_of_an_open_file(client: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    with path.open("rb") as file:
        answers = [edit(image=file)(client), edit(image=path)(client), edit(image=[path])(client)]
    assert len({answer.data[0].b64_json for answer in answers}) == 1


def test_several_at_once_from_the_async_client(address: str) -> None:
    async def talk() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none") as client:
            asked = [client.images.generate(prompt="a boat", extra_body={"seed": seed}) for seed in (1, 2, 1)]
            asked += [client.images.edit(prompt="make it night", image=("a.png", png()))]
            return await asyncio.gather(*asked)

    one, two, again, edited = asyncio.run(talk())
    assert one.data[0].b64_json != two.data[0].b64_json
    assert pictures(one)[0].size == pictures(again)[0].size == pictures(edited)[0].size == (64, 64)


def test_a_client_that_gives_up_costs_nobody_else(client: openai.OpenAI, server: Server) -> None:
    with pytest.raises(openai.APITimeoutError):
        generate(n=4, timeout=0.001)(client)
    assert pictures(generate()(client))[0].size == (64, 64)
    assert server.worker.failed_in_a_row == 0


def test_the_sdk_comes_back_to_a_full_queue(address: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits as long as `Retry-After` says, and gives up after as many tries as it was told."""
    monkeypatch.setattr(server, "_taken", server.limits.queue)
    monkeypatch.setattr("fewstep.sample.server.app.RETRY_SECONDS", 0.01)
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=1) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            generate()(client)
        assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "rate_limit_error")
        monkeypatch.setattr(server, "_taken", 0)
        assert len(generate()(client).data) == 1
