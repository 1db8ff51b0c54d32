"""A byte-level BPE vocabulary, written rather than learned.

Any text can be spelled (256 bytes), but each phrase of `captions.phrases` is one token, and a quoted letter is one
token that shows its slot: ` "K` first, `K` inside, `K"` last, ` "K"` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.normalizers import Normalizer

from fewstep.pocket.captions import phrases
from fewstep.pocket.world import GLYPHS

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<image1>",
    "<image2>",
    "<image3>",
    "<image4>",
)
ROLES = ("system\n", "user\n", "assistant\n")
SPACE = "\u0120"  # how byte-level BPE writes a space


@dataclass(frozen=True)
class Words:
    """A world's tokens: token -> id, the merges that lead to them, and what is done to a text before, if anything."""

    ids: dict[str, int]
    merges: list[tuple[str, str]]
    normalizer: Normalizer | None = None


def byte_symbols() -> dict[int, str]:
    """Byte -> printable character, the standard byte-level table: printable Latin-1 as is, the rest from U+0100 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def spelled(text: str) -> str:
    table = byte_symbols()
    return "".join(table[byte] for byte in text.encode())


def split_words(phrase: str) -> list[str]:
    """' a red' -> [' a', ' red']: each word with the space before it, spelled in byte symbols."""
    parts = phrase.split(" ")
    return [spelled(parts[0])] * bool(parts[0]) + [spelled(" " + part) for part in parts[1:]]


def merges(every: Sequence[str] | None = None, glyphs: str = GLYPHS) -> list[tuple[str, str]]:
    """The merges that make one token of each of `every` (the captions' phrases unless given) and of each quoted glyph.

    Their order matters: words grow from their first character, then phrases from their last word.

    A word's merges all begin with its own prefix, so they cannot apply inside another word. Role names begin without
    space or capital; they come last and cannot affect the others.
    """
    quote, open_quote = '"', SPACE + '"'
    found = [(SPACE, quote), *((open_quote, g) for g in glyphs), *((open_quote + g, quote) for g in glyphs)]
    found += [(g, quote) for g in glyphs]
    every = [*(phrases() if every is None else every), "Comprehend", " analyze", " the", " provided", " prompt"]
    for phrase in every:
        for word in split_words(phrase):
            found += [(word[:i], word[i]) for i in range(1, len(word))]
    for phrase in every:
        tail, *before = reversed(split_words(phrase))
        for word in before:
            found.append((word, tail))
            tail = word + tail
    for role in ROLES:
        word = spelled(role)
        found += [(word[:i], word[i]) for i in range(1, len(word))]
    return list(dict.fromkeys(found))


def vocabulary(every: Sequence[str] | None = None, glyphs: str = GLYPHS) -> dict[str, int]:
    """Token -> id: the special ones first, then bytes, then every merge."""
    names = [*SPECIAL, *byte_symbols().values(), *(a + b for a, b in merges(every, glyphs))]
    return {name: i for i, name in enumerate(dict.fromkeys(names))}


def byte_pair_tokenizer(
    ids: Mapping[str, int], pairs: Sequence[tuple[str, str]], normalizer: Normalizer | None = None
) -> Tokenizer:
    """The tokenizer of such a vocabulary, without special tokens and template.

    normalizer: what is done to a text before it is split, if anything.
    """
    core = Tokenizer(BPE(vocab=dict(ids), merges=list(pairs)))
    core.normalizer = normalizer
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return core
