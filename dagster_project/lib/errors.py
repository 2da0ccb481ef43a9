"""What can go wrong, and whose fault it is.

::

    TierRefitError            never raised itself
    +-- InputError            the input is wrong; the message says where and how to mend it (exit 2)
    +-- RefusedError          everything ran, and the answer is no (exit 3)

Anything else that escapes is a fault of ours (exit 1).

Belongs: the exception tree and the helpers that word its messages.
Does not: printing, exit codes (``cli``), Dagster failures (``defs``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class TierRefitError(Exception):
    """Base of the errors this package raises on purpose."""


class InputError(TierRefitError):
    """Bad input: one line with file, row, column, what was found, and the mend."""


class RefusedError(TierRefitError):
    """A check ran to its end and said no (blocked release, hash mismatch)."""


def some(values: Iterable[object], limit: int = 3) -> str:
    """Count and sample for a message: ``'a', 'b', 'c' and 4 more``.

    >>> some(["a", "b", "c", "d"], limit=2)
    "'a', 'b' and 2 more"
    """
    items = [repr(str(v)) for v in values]
    rest = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {rest} more" if rest > 0 else "")


def unknown_class(name: str, known: Sequence[str]) -> str:
    """The end of every "unknown class" message, with the nearest known name.

    >>> unknown_class("ezcema", ["eczema", "acne"])
    'unknown class "ezcema" (2 known; nearest "eczema")'
    """
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    hint = f'; nearest "{nearest[0]}"' if nearest else ""
    return f'unknown class "{name}" ({len(known)} known{hint})'
