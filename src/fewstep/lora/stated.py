"""How strong a LoRA is, as its file states it beside its tensors: ranks and alphas in the header and in configurations.

| where | rank | alpha | whose |
|---|---|---|---|
| header, also `transformer.r` | r, lora_rank, lora_r, lora_dim, network_dim | lora_alpha, network_alpha | trainers' |
| header, beside each other only | rank | alpha | trainers'; alone, either word may mean anything |
| header | ss_network_dim | ss_network_alpha | kohya, musubi-tuner |
| header, as JSON under lora_adapter_metadata | transformer.r | transformer.lora_alpha | diffusers |
| adapter_config.json beside the file | r | lora_alpha | peft |

The last two are whole arguments of peft's LoraConfig, with its patterns for single modules and with rsLoRA. A whole
configuration without alpha means peft's default of 8. kohya's entries are a record of the training: "Dynamic", "None"
and alpha 0 state nothing there, and neither do they where the network's own arguments give modules other sizes.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.lora.factors import Factors
from fewstep.runtime.errors import AdapterError

CONFIG_FILE = "adapter_config.json"  # what peft writes beside the weights
PEFT_ALPHA = 8.0  # peft's default where a configuration leaves it out
LARGEST = 1e9  # ours: beyond it, and below one by it, a rank or alpha is a slip
SAME_ALPHA = 1e-2  # relative; ours: trainers round alpha to the dtype of the file
_DIFFUSERS = "lora_adapter_metadata"
_PREFIXES = ("transformer.", "diffusion_model.")
_RANKS = ("r", "lora_rank", "lora_r", "lora_dim", "network_dim")
_ALPHAS = ("lora_alpha", "network_alpha")
_CONFIG_KEYS = ("rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights", "use_dora", "peft_type")
_NOTHING: tuple[Any, ...] = (None, "", "None", "null", {}, "{}")
_VARIED = re.compile(r"^(?!conv_).*(dims?|alphas?)$|^rs_lora$")  # kohya's arguments that give modules other sizes


@dataclass(frozen=True)
class Statement:
    """A value, and where it stands (for messages)."""

    value: Any
    place: str


@dataclass(frozen=True)
class StatedStrength:
    """What a file states beside its tensors.

    Args:
        facts: by peft's names: r, lora_alpha, rank_pattern, alpha_pattern, use_rslora, and whatever else a whole
            configuration holds.
        record: kohya's rank ("r") and alpha ("lora_alpha") of the training.
        whole: the place of a whole LoraConfig, for which peft's defaults hold; None if there is none.
    """

    facts: Mapping[str, Statement]
    record: Mapping[str, Statement]
    whole: str | None

    def of(self, name: str) -> Any:
        """The value of a fact; None if it is not stated."""
        return self.facts[name].value if name in self.facts else None

    def rank(self, module: str, made: Factors) -> Statement | None:
        """The rank stated for a module; None if none is. made: the module's update, of any alpha."""
        return self._matched("rank_pattern", module) or self.facts.get("r") or self._recorded("r", made)

    def alpha(self, module: str, made: Factors) -> Statement | None:
        """The alpha stated for a module, such that its scale is alpha / rank; None if none is."""
        found = self._matched("alpha_pattern", module) or self.facts.get("lora_alpha")
        if found is None:
            return self._recorded("lora_alpha", made)
        return self._for_rslora(found, made.rank)

    def default_alpha(self, rank: int) -> float:
        """The alpha where a file states none: its rank, as all programs have it, or peft's default."""
        if self.whole is None:
            return float(rank)
        return float(self._for_rslora(Statement(PEFT_ALPHA, self.whole), rank).value)

    def _for_rslora(self, alpha: Statement, rank: int) -> Statement:
        # rsLoRA scales by alpha / sqrt(rank) = (alpha sqrt(rank)) / rank    [rsLoRA, arXiv 2312.03732]
        if not self.of("use_rslora"):
            return alpha
        return Statement(alpha.value * math.sqrt(rank), f"{alpha.place}, with use_rslora")

    def _matched(self, name: str, module: str) -> Statement | None:
        """A value by pattern, as peft reads it: a pattern that matches the end of the module's name."""
        for pattern, value in (self.of(name) or {}).items():
            if re.match(rf"(?:.*\.)?(?:{pattern})$", module):
                return Statement(value, f"{name} of {self.facts[name].place}")
        return None

    def _recorded(self, name: str, made: Factors) -> Statement | None:
        """kohya's record. A layer narrower than the rank was given a rank of its own when a LoRA was extracted."""
        return None if made.rank == min(made.shape) else self.record.get(name)


def stated_strength(file: Path, header: Mapping[str, str]) -> StatedStrength:
    """What the header of a LoRA file, and a configuration beside it, state.

    Raises:
        AdapterError: a value that is none, a configuration that is no JSON, or two places that contradict each other.
    """
    found: dict[str, Statement] = {}
    whole = None
    for place, values in _sources(file, header):
        if place != "its header" and values:
            whole = place
        for key, value in values.items():
            _add(found, _canonical(key), _valued(file, _canonical(key), value, f"'{key}' in {place}"), file)
    return StatedStrength(found, _record(file, header), whole)


def _sources(file: Path, header: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, its values by key), without what states nothing."""
    names = {_bare(key) for key in header}
    pair = {"rank", "alpha"} if "alpha" in names and names & {"rank", *_RANKS} else set()
    known = {*_RANKS, *_ALPHAS, *_CONFIG_KEYS, *pair}
    yield "its header", _said({key: value for key, value in header.items() if _bare(key) in known})
    if _DIFFUSERS in header:
        yield f"its header's {_DIFFUSERS}", _said(_json(file, header[_DIFFUSERS]))
    beside = file.with_name(CONFIG_FILE)
    if beside.is_file():
        yield CONFIG_FILE, _said(_json(file, beside.read_text(encoding="utf-8", errors="replace")))


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value not in _NOTHING}


def _bare(key: str) -> str:
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return key


def _canonical(key: str) -> str:
    name = _bare(key)
    return "r" if name in (*_RANKS, "rank") else "lora_alpha" if name in (*_ALPHAS, "alpha") else name


def _add(found: dict[str, Statement], name: str, new: Statement, file: Path) -> None:
    """Adds a statement.

    Raises:
        AdapterError: another place states another value.
    """
    old = found.setdefault(name, new)
    if name in ("r", "lora_alpha", *_CONFIG_KEYS) and old.value != new.value:
        raise AdapterError(
            f"{file} contradicts itself: {old.place} is {_short(old.value)}, {new.place} is {_short(new.value)}. "
            "Take out the one that is wrong, or export it again"
        )


def _valued(file: Path, name: str, value: Any, place: str) -> Statement:
    """The value in its own type; headers hold text only."""
    if name in ("r", "lora_alpha"):
        return Statement(_number(file, value, place), place)
    if name in ("rank_pattern", "alpha_pattern"):
        given = _json(file, value) if isinstance(value, str) else value
        if not isinstance(given, dict):
            raise AdapterError(f"{file}: {place} is {value!r}, no table of patterns; export it again")
        return Statement(dict(_patterns(file, given, place)), place)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return Statement(value.lower() == "true", place)
    return Statement(value, place)


def _patterns(file: Path, given: Mapping[str, Any], place: str) -> Iterator[tuple[str, float]]:
    for pattern, value in given.items():
        try:
            re.compile(pattern)
        except (re.error, RecursionError) as error:
            raise AdapterError(
                f"{file}: '{pattern[:40]}' of {place} is no pattern ({error}); export it again"
            ) from error
        yield pattern, _number(file, value, f"'{pattern[:40]}' of {place}")


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)[:80]


def _number(file: Path, value: Any, place: str) -> float:
    try:
        number = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise AdapterError(f"{file}: {place} is {str(value)[:40]!r}, no number above 0; export it again")
    if not 1 / LARGEST <= number <= LARGEST:
        raise AdapterError(f"{file}: {place} is {number:g}, which no rank or alpha of a LoRA is; export it again")
    return number


def _record(file: Path, header: Mapping[str, str]) -> dict[str, Statement]:
    """kohya's record of rank and alpha; empty where its arguments give modules other ones."""
    try:
        arguments = json.loads(header.get("ss_network_args", "null"))
    except (ValueError, RecursionError):
        arguments = None
    if isinstance(arguments, dict) and any(_VARIED.match(k) and str(v) != "False" for k, v in arguments.items()):
        return {}
    found = {}
    for key, name in (("ss_network_dim", "r"), ("ss_network_alpha", "lora_alpha")):
        value = header.get(key)
        if value not in (*_NOTHING, "Dynamic", "0", "0.0"):
            found[name] = Statement(_number(file, value, f"'{key}' in its header"), f"'{key}' in its header")
    return found


def _json(file: Path, text: Any) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise AdapterError(f"the configuration of {file} is no JSON ({str(error)[:80]}); export it again") from error
    if not isinstance(found, dict):
        raise AdapterError(f"the configuration of {file} is no JSON object; export it again")
    return found
