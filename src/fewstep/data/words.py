"""The words of a prompt, and runs of them: the units by which texts are compared."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

N = 8  # field: 8-grams
# A word; in scripts that put no spaces between words, a character.
_WORD = re.compile(r"[㐀-鿿豈-﫿぀-ヿ가-힯฀-๿]|[^\W_㐀-鿿豈-﫿぀-ヿ가-힯฀-๿]+")


def words_of(prompt: str) -> list[str]:
    """The prompt's words, without case, width or punctuation."""
    return _WORD.findall(unicodedata.normalize("NFKC", prompt).casefold())


def ngrams(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Every N words in a row; all of a shorter prompt."""
    for start in range(max(1, len(words) - N + 1)):
        if words:
            yield tuple(words[start : start + N])
