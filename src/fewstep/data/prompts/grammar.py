"""Grammars that generate text: a file of named rules, each a list of alternatives, from which one text is drawn.

A rule begins at the margin with `name:`. Its alternatives are indented; several on one line are separated by `|`:

    weather:
      thin fog | {thick} fog        @autumn,winter !arid >fog *2

`{name}` expands another rule, `{name:upper}` does so in another form, `{#1-99}` gives a number, `[a|b|]` one of its
parts. The marks at the end of a line hold for all of it. `@a,b` allows it only if tag a or b is set (several `@` must
all hold), `!a,b` only if neither is. `>a` sets a tag once the alternative is used. `*2` doubles its share. Rules that
`first:` names are expanded once, in that order, before the rest. They give the same text wherever they are mentioned,
so a prompt that begins at night stays there.
"""

import bisect
import itertools
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent / "grammars"
FIRST = "first"
TRIES = 8  # redraws of an alternative that this text has used already
HEADER = re.compile(r"(\w+):\s*")
MARKS = re.compile(r"(?:(?:^|\s+)(?:[@!>][\w,]+|\*[\d.]+))+\s*$")
PIECE = re.compile(r"\{([^{}]*)\}|([\[\]|])|([^\[\]|{}]+)")
NUMBER = re.compile(r"#(\d+)-(\d+)")


@dataclass(frozen=True)
class Slot:
    """Another rule's text, in a form of `FORMS`."""

    rule: str
    form: str | None = None


@dataclass(frozen=True)
class Number:
    """A whole number from low to high, both included, in at least `digits` digits."""

    low: int
    high: int
    digits: int


@dataclass(frozen=True)
class Choice:
    """One of several runs of parts, all equally likely."""

    options: tuple["RuleParts", ...]


RuleParts = tuple["str | Slot | Number | Choice", ...]
FORMS: dict[str, Callable[[str], str]] = {
    "upper": str.upper,
    "lower": str.lower,
    "title": lambda text: " ".join(word[:1].upper() + word[1:] for word in text.split(" ")),
    "cap": lambda text: text[:1].upper() + text[1:],
}


@dataclass(frozen=True, eq=False)
class Alternative:
    parts: RuleParts
    needs: tuple[frozenset[str], ...] = ()
    bars: frozenset[str] = frozenset()
    sets: frozenset[str] = frozenset()
    weight: float = 1.0

    def fits(self, tags: set[str] | frozenset[str]) -> bool:
        return not self.bars & tags and all(group & tags for group in self.needs)


_Options = tuple[list[Alternative], list[float]]  # the fitting alternatives, and the running sum of their weights


@dataclass
class GrammarRule:
    name: str
    alternatives: list[Alternative] = field(default_factory=list)
    _options_by_tags: dict[frozenset[str], _Options] = field(default_factory=dict)
    _asks: frozenset[str] = frozenset()

    def menu(self, tags: set[str]) -> _Options:
        """The alternatives that fit. Cached by the tags that this rule depends on."""
        if not self._options_by_tags:
            self._asks = frozenset().union(*(a.bars.union(*a.needs) for a in self.alternatives))
        asked = self._asks & tags
        if asked not in self._options_by_tags:
            fitting = [a for a in self.alternatives if a.fits(asked)]
            assert fitting, f"no alternative of '{self.name}' fits {sorted(tags)}"
            self._options_by_tags[asked] = fitting, list(itertools.accumulate(a.weight for a in fitting))
        return self._options_by_tags[asked]


@dataclass(frozen=True)
class Grammar:
    """Rules by name, and the names of the rules expanded first."""

    rules: dict[str, GrammarRule]
    first: tuple[str, ...]

    def expand(self, rule: str, rng: random.Random, tags: frozenset[str] = frozenset(), **said: str) -> "Expansion":
        """The expansion of `rule`, with its `.text` and the `.tags` set on the way. `said`: rules that are already
        decided. Only `rng.random()` is used, so the texts are the same on every Python."""
        return Expansion(self, rng, set(tags), dict(said)).begin(rule)


@dataclass
class Expansion:
    """One text being drawn. tags only grow; an alternative is not used twice while others are left."""

    grammar: Grammar
    rng: random.Random
    tags: set[str]
    bound: dict[str, str]
    text: str = ""
    _used: set[Alternative] = field(default_factory=set)

    def begin(self, rule: str) -> "Expansion":
        for name in self.grammar.first:
            if name not in self.bound:
                self.bound[name] = self.rule(name)
        self.text = self.rule(rule)
        return self

    def rule(self, name: str) -> str:
        if name in self.bound:
            return self.bound[name]
        chosen = self._pick(self.grammar.rules[name])
        self._used.add(chosen)
        self.tags |= chosen.sets
        return self.parts(chosen.parts)

    def parts(self, parts: RuleParts) -> str:
        return "".join(self._part(part) for part in parts)

    def _part(self, part: "str | Slot | Number | Choice") -> str:
        match part:
            case str():
                return part
            case Slot(rule, form):
                said = self.rule(rule)
                return FORMS[form](said) if form else said
            case Number(low, high, digits):
                return f"{low + int(self.rng.random() * (high - low + 1)):0{digits}d}"
            case Choice(options):
                return self.parts(options[int(self.rng.random() * len(options))])

    def _pick(self, rule: GrammarRule) -> Alternative:
        fitting, sums = rule.menu(self.tags)
        for _ in range(TRIES):
            chosen = fitting[bisect.bisect(sums, self.rng.random() * sums[-1])]
            if chosen not in self._used:
                break
        return chosen


def load_grammar(*names: str) -> Grammar:
    """One grammar of several shipped files; a rule stands in one of them."""
    rules: dict[str, GrammarRule] = {}
    for name in names:
        add_rules((FOLDER / f"{name}.grammar").read_text(encoding="utf-8"), rules)
    first = tuple(rules.pop(FIRST).alternatives[0].parts[0].split()) if FIRST in rules else ()  # type: ignore[union-attr]
    for rule in rules.values():
        for slot in slots(rule):
            known = slot.rule in rules and slot.form in {None, *FORMS}
            assert known, f"{rule.name} names an unknown {slot}"
    assert set(first) <= set(rules), first
    return Grammar(rules, first)


def add_rules(text: str, rules: dict[str, GrammarRule]) -> None:
    """Adds the rules that `text` states."""
    current: GrammarRule | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        if line[0] != " ":
            header = HEADER.fullmatch(line)
            assert header is not None, f"line {number} is no rule: {line}"
            assert header[1] not in rules, f"line {number}: there is a rule {header[1]} already"
            current = rules[header[1]] = GrammarRule(header[1])
        else:
            assert current is not None, f"line {number} stands before the first rule"
            current.alternatives += _alternatives(line)


def slots(rule: GrammarRule) -> Iterator[Slot]:
    """Every mention of another rule, inner ones too."""
    waiting = [part for a in rule.alternatives for part in a.parts]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Slot):
            yield part
        elif isinstance(part, Choice):
            waiting += [inner for option in part.options for inner in option]


def _alternatives(line: str) -> list[Alternative]:
    found = MARKS.search(line)
    marks = found[0].split() if found else []
    body = line[: found.start()] if found else line
    needs = tuple(frozenset(mark[1:].split(",")) for mark in marks if mark[0] == "@")
    bars, sets = (frozenset(t for mark in marks if mark[0] == sign for t in mark[1:].split(",")) for sign in "!>")
    weight = next((float(mark[1:]) for mark in marks if mark[0] == "*"), 1.0)
    pieces = list(PIECE.finditer(body.strip()))
    options, rest = _options(pieces, 0)
    assert rest == len(pieces), f"brackets do not pair in: {line.strip()}"
    return [Alternative(_trimmed(parts), needs, bars, sets, weight) for parts in options]


def _options(pieces: list[re.Match[str]], at: int) -> tuple[list[RuleParts], int]:
    """The runs of parts up to the closing bracket or the end, and the place after it."""
    options: list[list[str | Slot | Number | Choice]] = [[]]
    while at < len(pieces):
        slot, sign, words = pieces[at].groups()
        at += 1
        if sign == "]":
            return [tuple(option) for option in options], at
        if sign == "[":
            inner, at = _options(pieces, at)
            options[-1].append(Choice(tuple(inner)))
        elif sign == "|":
            options.append([])
        else:
            options[-1].append(words if slot is None else _slot(slot))
    return [tuple(option) for option in options], at


def _slot(text: str) -> Slot | Number:
    if number := NUMBER.fullmatch(text):
        low, high = number.groups()
        return Number(int(low), int(high), len(low))
    name, _, form = text.partition(":")
    return Slot(name, form or None)


def _trimmed(parts: RuleParts) -> RuleParts:
    """Without the spaces around the bars that separate alternatives."""
    if parts and isinstance(parts[0], str):
        parts = (parts[0].lstrip(), *parts[1:])
    if parts and isinstance(parts[-1], str):
        parts = (*parts[:-1], parts[-1].rstrip())
    return parts
