"""The file that declares an endpoint: what it may hold, and how mistakes are reported."""

import io
import re
from pathlib import Path

import pytest
from PIL import Image

from fewstep.endpoint.declaration import Endpoint, load_endpoint
from fewstep.endpoint.messages import encode_picture
from fewstep.runtime.errors import DeclarationError, EnvironmentRefused

TOML = 'base_url = "http://127.0.0.1:8000/v1/"\nmodel = "seer"\n'


def declared(tmp_path: Path, more: str = "", name: str = "seer.toml") -> Endpoint:
    (tmp_path / name).write_text(TOML + more)
    return load_endpoint(tmp_path / name)


def test_toml_and_yaml_declare_the_same(tmp_path: Path) -> None:
    given = 'structured = "json_object"\nbudget = 5\n[price]\ninput = 2.5\n[parameters]\ntemperature = 0.0\n'
    from_toml = declared(tmp_path, given)
    (tmp_path / "seer.yaml").write_text(
        "base_url: http://127.0.0.1:8000/v1\nmodel: seer\nstructured: [json_object]\nbudget: 5\n"
        "price: {input: 2.5}\nparameters: {temperature: 0.0}\n"
    )
    assert from_toml == load_endpoint(tmp_path / "seer.yaml")
    assert (from_toml.name, from_toml.base_url) == ("seer", "http://127.0.0.1:8000/v1")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("concurency = 3\n", ["concurency is no key of an endpoint", "did you mean concurrency?"]),
        ("temperature = 0.0\n", ["temperature is no key", "parameters"]),
        ("concurrency = 0\n", ["concurrency", "greater than or equal to 1"]),
        ("budget = 3\n", ["budget needs price"]),
        ("[price]\ninputs = 3\n", ["price.inputs", "price.input"]),
        ("[parameters]\nmodel = 'x'\n", ["parameters.model is set by the client"]),
        ("[parameters]\nn = 4\n", ["repeats"]),
        ("[parameters]\ntop_p = nan\n", ["JSON cannot carry"]),
        ("[parameters]\nsince = 2026-01-05\n", ["JSON cannot carry"]),
        ("structured = 'xml'\n", ["structured", "json_schema"]),
        ("structured = []\n", ["structured is empty"]),
        ("key_env = 'sk-proj-123'\n", ["NAME of an environment variable"]),
        ("timeout_s = 30\ndeadline_s = 10\n", ["deadline_s"]),
        ("name = '../x'\n", ["cannot name a file"]),
        ("broken", ["no TOML"]),
    ],
)
def test_mistakes_are_named(tmp_path: Path, more: str, words: list[str]) -> None:
    with pytest.raises(DeclarationError) as error:
        declared(tmp_path, more)
    assert "seer.toml" in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x/v1", "http://x/v1/chat/completions", "http://a:b@x/v1"])
def test_addresses(tmp_path: Path, url: str) -> None:
    (tmp_path / "x.yaml").write_text(f"base_url: {url}\nmodel: m\n")
    with pytest.raises(DeclarationError, match="base_url"):
        load_endpoint(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.json", b"{}"),
        ("none.toml", None),
        ("x.yaml", b"\xff\xfe"),
        ("y.yaml", b"a: ["),
        ("tag.yaml", b"base_url: !!python/name:os.system"),
        ("deep.toml", b"a = " + b"[" * 3_000),
        ("deep.yaml", b"a: " + b"[" * 3_000),
        ("digits.toml", b"a = " + b"9" * 5_000),
        ("digits.yaml", b"a: " + b"9" * 5_000),
    ],
)
def test_files_that_declare_nothing(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DeclarationError, match=name):
        load_endpoint(tmp_path / name)


def test_a_missing_key_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = declared(tmp_path, 'key_env = "SEER_KEY"\n')
    monkeypatch.delenv("SEER_KEY", raising=False)
    with pytest.raises(EnvironmentRefused, match="SEER_KEY"):
        endpoint.key()
    monkeypatch.setenv("SEER_KEY", " abc ")
    assert endpoint.key() == "abc"
    monkeypatch.setenv("SEER_KEY", "two words")
    with pytest.raises(EnvironmentRefused, match="SEER_KEY"):
        endpoint.key()


def test_pictures_go_unresized_unless_declared() -> None:
    picture = Image.linear_gradient("L").resize((300, 100)).convert("RGB")
    whole, small = encode_picture(picture), encode_picture(picture, max_side=150)
    assert (whole.sent_width, whole.sent_height) == (300, 100)
    with Image.open(io.BytesIO(whole.png)) as sent:
        assert sent.tobytes() == picture.tobytes()
    assert (small.width, small.height, small.sent_width, small.sent_height) == (300, 100, 150, 50)
    assert encode_picture(picture, max_side=300).hash == whole.hash
    assert whole.png.startswith(b"\x89PNG")


def test_the_documented_declarations_are_read(tmp_path: Path) -> None:
    words = (Path(__file__).parents[2] / "docs" / "judges.md").read_text()
    blocks = re.findall(r"```(toml|yaml)\n(.*?)```", words, re.DOTALL)
    assert len(blocks) == 3
    for kind, block in blocks:
        (tmp_path / f"judge.{kind}").write_text(block)
        load_endpoint(tmp_path / f"judge.{kind}")


def test_every_key_is_documented() -> None:
    words = (Path(__file__).parents[2] / "docs" / "judges.md").read_text()
    assert not [name for name in Endpoint.model_fields if f"`{name}`" not in words]
