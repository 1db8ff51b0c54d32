"""An OpenAI-compatible chat endpoint, declared in a small TOML or YAML file.

The file never holds the key itself: `key_env` names the environment variable that does.
"""

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator

from fewstep.runtime import strict_yaml
from fewstep.runtime.errors import (
    DeclarationError,
    EnvironmentRefused,
    RecipeError,
)
from fewstep.runtime.key_help import key_notes, refusals
from fewstep.runtime.section import Section

ResponseFormat = Literal["json_schema", "json_object", "none"]
OWN = {  # what the client itself puts into a request
    "model": "model",
    "messages": "nothing: the messages are the client's",
    "response_format": "structured",
    "n": "repeats",
}


class Price(Section):
    """Money per million tokens, or per picture, in any currency; `budget` is in the same one. A part without a key
    costs nothing."""

    input: float = Field(0.0, ge=0, description="per million input tokens")
    output: float = Field(0.0, ge=0, description="per million output tokens")
    image: float = Field(0.0, ge=0, description="per picture sent, where the server bills pictures on their own")

    @property
    def by_token(self) -> bool:
        return self.input > 0 or self.output > 0

    def of(self, input_tokens: float, output_tokens: float, images: int) -> float:
        return (input_tokens * self.input + output_tokens * self.output) / 1e6 + images * self.image


class Endpoint(Section):
    """One endpoint and how it may be used. No defaults are sent: the server decides whatever `parameters` does not
    set."""

    base_url: str = Field(description="address of the API without /chat/completions, such as http://127.0.0.1:8000/v1")
    model: str = Field(min_length=1, description="the model's name, as the server lists it")
    name: str = Field("", description="what its answers are filed under; without one, the name of the file")
    key_env: str | None = Field(None, description="environment variable that holds the key; null: no key is sent")
    structured: tuple[ResponseFormat, ...] = Field(
        ("json_schema",),
        description="how JSON is asked for: json_schema, json_object or none. Several: the next is taken where the "
        "server refuses the one before",
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="sent as they are: temperature, max_tokens, seed, reasoning_effort, ..."
    )
    answers_as: tuple[str, ...] = Field(
        (), description="further model names the server may answer under; a dated version of `model` is always accepted"
    )
    concurrency: int = Field(8, ge=1, le=1000, description="calls in flight at most; 429 lowers it for a while")
    requests_per_minute: float | None = Field(None, gt=0, description="tries begun a minute at most; null: no limit")
    timeout_s: float = Field(120.0, gt=0, description="seconds for one try, from sending to the last byte")
    deadline_s: float = Field(600.0, gt=0, description="seconds for one call with all its tries and pauses")
    backoff_s: float = Field(1.0, ge=0, description="first pause before another try; doubled each time, with jitter")
    give_up_after: int = Field(
        10,
        ge=1,
        description="calls that fail in a row, or first answers of a judge without a verdict, before the run stops",
    )
    price: Price | None = Field(None, description="what tokens and pictures cost; null: unknown")
    budget: float | None = Field(
        None, gt=0, description="most that one pass may spend, its earlier runs included; needs price"
    )
    image_tokens: int | None = Field(
        None, ge=1, description="tokens of one picture, for estimates; null: one for each 32 x 32 px"
    )
    max_side: int | None = Field(
        None, ge=16, description="pictures are scaled down to this longer side in px; null: sent as they are"
    )
    repeats: int = Field(1, ge=1, le=100, description="how often a judge is asked the same question")

    @field_validator("base_url")
    @classmethod
    def _address(cls, url: str) -> str:
        url = url.rstrip("/")
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ValueError(f"base_url {url!r:.80} is no address; write http://HOST:PORT/v1 or https://HOST/v1")
        if url.endswith("/chat/completions"):
            raise ValueError("base_url ends in /chat/completions; leave that away, the client adds it")
        if urlsplit(url).password or urlsplit(url).query:
            raise ValueError("base_url holds a password or a query; a key belongs into the variable that key_env names")
        return url

    @field_validator("structured", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("key_env")
    @classmethod
    def _variable(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", name):
            raise ValueError("key_env is the NAME of an environment variable, such as OPENAI_API_KEY, never the key")
        return name

    @field_validator("parameters")
    @classmethod
    def _not_ours(cls, given: dict[str, Any]) -> dict[str, Any]:
        taken = next((key for key in given if key in OWN), None)
        if taken is not None:
            raise ValueError(f"parameters.{taken} is set by the client; use {OWN[taken]}")
        try:
            json.dumps(given, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"parameters hold what JSON cannot carry ({error}); use numbers, text, lists") from error
        return given

    @model_validator(mode="after")
    def _consistent(self) -> "Endpoint":
        if not self.structured:
            raise ValueError("structured is empty; name json_schema, json_object or none")
        if self.budget is not None and self.price is None:
            raise ValueError("budget needs price: without one nobody knows what a call costs")
        if self.deadline_s < self.timeout_s:
            raise ValueError(f"deadline_s {self.deadline_s:g} is below timeout_s {self.timeout_s:g}; raise it")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}|", self.name):
            raise ValueError(f"name {self.name!r:.110} cannot name a file; use letters, digits, . _ and -")
        return self

    def key(self) -> str | None:
        """The key, from the environment.

        Raises:
            EnvironmentRefused: the variable is not set, or its value cannot be a key; names the variable.
        """
        if self.key_env is None:
            return None
        value = os.environ.get(self.key_env, "").strip()
        if not value:
            raise EnvironmentRefused(
                f"{self.name or self.model} wants its key in the environment variable {self.key_env}, which is not "
                f"set: export {self.key_env}=..., or take key_env out for a server without keys"
            )
        if not (value.isascii() and value.isprintable() and " " not in value):
            raise EnvironmentRefused(f"{self.key_env} holds no key: blanks or letters that no key has; set it again")
        return value


def load_endpoint(path: str | Path) -> Endpoint:
    """The endpoint that a .toml, .yaml or .yml file declares.

    Raises:
        DeclarationError: one line for each thing that is wrong.
    """
    path = Path(path)
    return endpoint_of({"name": re.sub(r"[^A-Za-z0-9._-]", "-", path.stem).lstrip("._-"), **_raw(path)}, str(path))


def endpoint_of(raw: dict[str, Any], where: str) -> Endpoint:
    """The endpoint that these keys declare.

    Raises:
        DeclarationError: as `load_endpoint`.
    """
    try:
        return Endpoint.model_validate(raw)
    except ValidationError as error:
        lines = refusals(error, raw, key_notes(Endpoint), "an endpoint")
        raise DeclarationError("\n".join(f"{where}: {line}" for line in lines)) from error


def _raw(path: Path) -> dict[str, Any]:
    if path.suffix not in (".toml", ".yaml", ".yml"):
        raise DeclarationError(f"{path}: an endpoint is declared in a .toml or .yaml file")
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text) if path.suffix == ".toml" else strict_yaml.load_yaml(text, str(path))
    except OSError as error:
        raise DeclarationError(f"{path} cannot be read ({error.strerror}); name the file of an endpoint") from error
    except UnicodeDecodeError as error:
        raise DeclarationError(f"{path}: is no UTF-8 text; save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise DeclarationError(f"{path}: no TOML ({error}); mend it there") from error
    except RecipeError as error:
        raise DeclarationError(str(error)) from error
    except (ValueError, RecursionError) as error:  # numbers of 5,000 digits, lists in lists without end
        raise DeclarationError(f"{path}: no TOML that can be read ({error!s:.80}); mend it there") from error
    if not isinstance(raw, dict):
        raise DeclarationError(f"{path}: holds no keys; base_url and model are the least")
    return raw
