"""Names as people type them: one spelling for what is certainly the same, a refusal for the rest.

Belongs: stray blanks, capitals, Unicode forms and letters that only look alike, in class names and
in reviewers' names.
Does not: which names are known (the model's ``labels.txt``), reading cells (``sheet``).
Concept: two spellings are one name if they differ only in capitals, blanks, underscores, hyphens,
invisible characters or Unicode composition (NFC), and if exactly one known name is that near.
Nothing is guessed beyond: a letter of another alphabet that looks the same is a fault.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

_ALIKE = str.maketrans(
    "аеорсухіјѕԁһԛԝвкмнтАВЕКМНОРСТХІЈЅУ" + "αορνικτχυΑΒΕΖΗΙΚΜΝΟΡΤΧΥ" + "ıοɑɡ",  # noqa: RUF001
    "aeopcyxijsdhqwbkmhtABEKMHOPCTXIJSY" + "aopviktxuABEZHIKMNOPTXY" + "ioag",
)
"""Cyrillic, Greek and Latin letters that look like plain Latin ones (Unicode TR 39, the usual)."""
_FOREIGN = ("CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC")


def cleaned(text: str) -> str:
    r"""``text`` in NFC, without invisible characters, every run of blanks one blank, none around.

    >>> cleaned("\u200b Pityriasis\u00a0  rosea ")
    'Pityriasis rosea'
    """
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    composed = unicodedata.normalize("NFC", text)
    visible = "".join(c for c in composed if unicodedata.category(c) != "Cf")
    return " ".join(visible.split())


def folded(text: str) -> str:
    r"""The key under which spellings of one name meet.

    >>> folded("Lichen\u00a0Planus "), folded("lichen-planus"), folded("LICHEN_PLANUS")
    ('lichen_planus', 'lichen_planus', 'lichen_planus')
    """
    plain = cleaned(text).casefold()
    if not plain.isascii():
        plain = "".join("-" if unicodedata.category(c) == "Pd" else c for c in plain)
    return re.sub(r"[ _-]+", "_", plain)


def mixes_alphabets(text: str) -> bool:
    r"""Whether a word holds Latin letters and ones of an alphabet that looks like it.

    >>> mixes_alphabets("dr_\u0430da"), mixes_alphabets("Dr. M\u00fcller")
    (True, False)
    """
    if text.isascii():
        return False
    for word in text.split():
        alphabets = {unicodedata.name(c, "").split(" ")[0] for c in word if c.isalpha()}
        if "LATIN" in alphabets and alphabets & set(_FOREIGN):
            return True
    return False


@dataclass(frozen=True)
class Match:
    """What a typed name is.

    Attributes
    ----------
    name : the known name; None where none is certain.
    kind : why none is: ``unknown class``, ``ambiguous class``, ``look-alike letters``.
    nearest : the known name that was probably meant; None if nothing is known at all.
    """

    name: str | None
    kind: str = ""
    nearest: str | None = None


@dataclass(frozen=True)
class KnownNames:
    """The names that may be said, and the one that a spelling stands for."""

    names: tuple[str, ...]

    @cached_property
    def _exact(self) -> frozenset[str]:
        return frozenset(self.names)

    @cached_property
    def _by_key(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in dict.fromkeys(self.names):
            found.setdefault(folded(name), []).append(name)
        return found

    def match(self, text: str) -> Match:
        r"""The known name that ``text`` certainly is, or why there is none.

        An exact name is always itself. Another spelling must fold to exactly one known name.

        >>> names = KnownNames(("Eczema", "tinea_pedis", "tinea pedis"))
        >>> names.match(" ECZEMA").name, names.match("Tinea Pedis").kind
        ('Eczema', 'ambiguous class')
        >>> names.match("\u0435czema")
        Match(name=None, kind='look-alike letters', nearest='Eczema')
        """
        if text in self._exact:
            return Match(text)
        plain = cleaned(text)
        if plain in self._exact:
            return Match(plain)
        same = self._by_key.get(folded(plain), [])
        if len(same) == 1:
            return Match(same[0])
        if same:
            return Match(None, "ambiguous class", same[0])
        looks = self._by_key.get(folded(plain.translate(_ALIKE)), [])
        if looks:
            return Match(None, "look-alike letters", looks[0])
        return Match(None, "unknown class", nearest(plain, self.names))

    def could_be_cut(self, name: str) -> bool:
        """Whether ``name`` is the beginning of another known name."""
        return any(other != name and other.startswith(name) for other in self.names)


def nearest(text: str, known: Sequence[str]) -> str | None:
    """The known name most like ``text``, capitals aside; the first of equal ones."""
    keys = {folded(name): name for name in reversed(known)}
    found = difflib.get_close_matches(folded(text)[:200], list(keys), n=1, cutoff=0.0)
    return keys[found[0]] if found else None
