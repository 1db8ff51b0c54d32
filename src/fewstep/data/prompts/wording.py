"""English around the words: articles, capitals, spaces; and texts made comparable. Text between straight quotation
marks is literal: only an `a/an` is decided there."""

import re
import unicodedata

from fewstep.data.words import words_of

ARTICLE = re.compile(r"\b([Aa])/([Aa][Nn]) (?=(\S+))")
CONSONANT = re.compile(
    r"(?:eu|ew|uni(?!m|n)|us[aeu]|ut[ei]|ur[aiou]|ub[iu]|uk|uv\b|one\b|once\b|ouija|u-)", re.IGNORECASE
)
SILENT = re.compile(r"(?:hour|honest|honou?r|heir)", re.IGNORECASE)
SPELT = re.compile(r"(?:[AEFHILMNORSX](?:-|\b)|LED\b|8|11\b|18\b)")  # spoken letter by letter, or as a number
SENTENCE = re.compile(r"([.!?] +)(\w)")
QUOTED = re.compile(r'"([^"]+)"')


def finished_text(text: str) -> str:
    """The text with `a/an` decided, sentences begun with a capital, and spaces and commas in order."""
    pieces = ARTICLE.sub(_article, text).split('"')
    for n in range(0, len(pieces), 2):
        pieces[n] = _in_order(pieces[n])
    whole = '"'.join(pieces).strip()
    return whole[:1].upper() + whole[1:]


def _in_order(text: str) -> str:
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r" +([,.;:!?])", r"\1", text)
    text = re.sub(r"([,;:])[,;:]+|[,;:]+(?=\.)", r"\1", text)
    return SENTENCE.sub(lambda m: m[1] + m[2].upper(), text)


def _article(found: re.Match[str]) -> str:
    """ "a" or "an", with the capitals of the mark."""
    return (found[1] + found[2][1:] if _vowel(found[3].lstrip('"')) else found[1]) + " "


def _vowel(word: str) -> bool:
    """Whether `word` begins with a vowel sound."""
    if SPELT.match(word) or SILENT.match(word):
        return True
    return word[0].lower() in "aeiou" and not CONSONANT.match(word)


def quoted(text: str) -> list[str]:
    """The texts that the picture should carry, in order, each once."""
    return list(dict.fromkeys(QUOTED.findall(text)))


def normalised_text(text: str) -> str:
    """Texts that differ only in case, width or spacing become the same text."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def shingles(text: str, length: int) -> set[tuple[str, ...]]:
    """Every `length` words in a row; the whole text if it is shorter."""
    words = words_of(text)
    return {tuple(words[n : n + length]) for n in range(max(1, len(words) - length + 1))}
