"""The order in which a reviewer sees a packet: random, look-alikes apart, repeats far away.

Belongs: which images look alike, one reviewer's order, where repeats stand, ids for showings that
must look like any other.
Does not: which images are asked about (``design``), files (``packet``).
Concept: a random permutation makes every prefix a simple random sample of the packet, so that a
partial return keeps the design. What is moved is moved by few places: an image waits while it would
follow one of its own group (serial dependence of readings: Diagnostics 2023;13:1775).
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from dagster_project.lib.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

REPEAT_SHARE = 0.05
FEWEST_REPEATS = 5
"""In packets of 100 images and more; below, the share alone."""
_SLACK = 5
"""Places by which keeping look-alikes apart may move an image that is shown again."""
_LEVELS = 3
"""Of how widely the characters of made-up ids are chosen, see :func:`made_up_ids`."""
_HEX = frozenset("0123456789abcdef")
_KINDS = (string.digits, string.ascii_lowercase, string.ascii_uppercase)


@dataclass(frozen=True)
class Order:
    """One reviewer's order.

    Attributes
    ----------
    shown : (n + R,) int; i < n is the first showing of image i, n + k the second showing of the
        k-th repeated image.
    n_adjacent : neighbours of one group that could not be kept apart.
    smallest_gap : places between the two showings of an image, the smallest; None without repeats.
    """

    shown: tuple[int, ...]
    n_adjacent: int
    smallest_gap: int | None


def default_repeats(n: int) -> int:
    """About 5 % of n images, at least 5 where n is 100 or more.

    >>> [default_repeats(n) for n in (5, 40, 100, 200)]
    [0, 2, 5, 10]
    """
    return max(FEWEST_REPEATS if n >= 100 else 0, round(n * REPEAT_SHARE))


def groups(rows: pl.DataFrame, similar: pl.DataFrame | None = None) -> Ints:
    """(n,) a number for each row: equal for images of one patient and for look-alikes.

    Parameters
    ----------
    rows : (n,) ``image_uuid, patient``.
    similar : ``image_uuid, group``; images of one group look alike. Others are alone. Groups that
        share a patient become one.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    patient = rows["patient"].rank("dense").to_numpy().astype(np.int64) - 1
    n_patients = int(patient.max()) + 1 if patient.size else 0
    if similar is None or not rows.height:
        return patient
    known = similar.unique("image_uuid").select("image_uuid", pl.col("group").cast(pl.String))
    joined = rows.select("image_uuid").join(known, "image_uuid", how="left", maintain_order="left")
    # an image without a group of its own belongs to its patient's only
    number = joined["group"].rank("dense").to_numpy()
    has = ~np.isnan(number)
    other = n_patients + number[has].astype(np.int64) - 1
    size = n_patients + joined["group"].n_unique()
    edges = coo_array((np.ones(other.size), (patient[has], other)), shape=(size, size))
    found: Ints = connected_components(edges, directed=False)[1][patient].astype(np.int64)
    return found


def presentation_order(group: Ints, repeated: Sequence[int], rng: np.random.Generator) -> Order:
    """A random order with groups apart and each repeat at least a third of the packet later.

    A uniform permutation of the images; then, from front to back, the next image that is not of
    the group shown last is taken, or one of a group that fills more than half of what is left.
    Thus no two of a group are neighbours whenever that is possible, and as few as possible
    otherwise. An image that is shown again is first exchanged with a random early one if it stands
    too late; as repeated images are themselves drawn at random, prefixes stay random.

    Parameters
    ----------
    group : (n,) of :func:`groups`.
    repeated : (R,) images shown twice, different ones.
    rng : the reviewer's own stream.
    """
    n = group.size
    gap = -(-(n + len(repeated)) // 3)
    order = rng.permutation(n).tolist()
    _bring_forward(order, set(repeated), n - gap - _SLACK, rng)
    shown = _spaced(order, group)
    every = np.concatenate([group, group[list(repeated)]]) if repeated else group
    for k in rng.permutation(len(repeated)).tolist():
        _insert(shown, n + k, shown.index(repeated[k]) + gap, every, rng)
    place = {item: at for at, item in enumerate(shown)}
    gaps = [place[n + k] - place[i] for k, i in enumerate(repeated)]
    sequence = every[shown]
    n_adjacent = int((sequence[1:] == sequence[:-1]).sum())
    return Order(tuple(shown), n_adjacent, min(gaps, default=None))


def order_of_some(
    group: Ints, repeated: Sequence[int], left: Ints, rng: np.random.Generator
) -> Order:
    """:func:`presentation_order` of the images ``left`` alone; an image keeps its number.

    Parameters
    ----------
    group, repeated, rng : as there, of all n images.
    left : images that are shown to this reviewer, ascending; a repeat of another is not shown.
    """
    place = {int(image): at for at, image in enumerate(left)}
    mine = [k for k, image in enumerate(repeated) if image in place]
    found = presentation_order(group[left], [place[repeated[k]] for k in mine], rng)
    numbers = [*left.tolist(), *(group.size + k for k in mine)]
    return replace(found, shown=tuple(numbers[item] for item in found.shown))


def _bring_forward(
    order: list[int], repeated: set[int], zone: int, rng: np.random.Generator
) -> None:
    """Exchange repeated images at or beyond place ``zone`` with random ones before it."""
    late = [at for at, item in enumerate(order) if item in repeated and at >= zone]
    early = [at for at, item in enumerate(order[: max(zone, 0)]) if item not in repeated]
    for at, to in zip(late, rng.permutation(early).tolist(), strict=False):
        order[at], order[to] = order[to], order[at]


def _spaced(order: Sequence[int], group: Ints) -> list[int]:
    """``order`` with neighbours of different groups, as far as that goes."""
    waiting, left = list(order), Counter(group[list(order)].tolist())
    shown: list[int] = []
    last: int | None = None
    while waiting:
        crowd = _crowd(left, len(waiting), last)
        fits = (
            at
            for at, item in enumerate(waiting)
            if (group[item] == crowd if crowd is not None else group[item] != last)
        )
        item = waiting.pop(next(fits, 0))
        last = int(group[item])
        left[last] -= 1
        shown.append(item)
    return shown


def _crowd(left: Counter[int], n: int, last: int | None) -> int | None:
    """The group that must come now, because it fills more than half of the ``n`` images left."""
    (name, count), *_ = left.most_common(1)
    return name if 2 * count > n and name != last else None


def _insert(
    shown: list[int], item: int, earliest: int, group: Ints, rng: np.random.Generator
) -> None:
    """Put ``item`` at a random place from ``earliest`` on where it has no neighbour of its group.

    If there is none: the last such place before it; if there is none either, the end.
    """
    free = [
        at
        for at in range(len(shown) + 1)
        if all(group[near] != group[item] for near in shown[max(at - 1, 0) : at + 1])
    ]
    late = [at for at in free if at >= earliest]
    if late:
        shown.insert(late[int(rng.integers(len(late)))], item)
    else:
        shown.insert(free[-1] if free else len(shown), item)


def made_up_ids(known: pl.Series, n: int, rng: np.random.Generator) -> list[str]:
    """``n`` ids that look like the known ones and are none of them.

    Each has the shape of a known id drawn at random (length, and where its dashes and other signs
    stand), and at every place a character that some known id of that shape has there; where those
    are used up, any character of the same kind (digit, small letter, capital; hexadecimal where all
    are), and at last one character more.

    Parameters
    ----------
    known : (N,) different ids, N > 0.
    """
    names = known.cast(pl.String).sort().to_list()
    if not names:
        raise InputError("no image ids: there is nothing that a made-up id could look like")
    taken, found = set(names), list[str]()
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(_shape(name), []).append(name)
    wider: dict[str, list[list[list[str]]]] = {}
    for level in range(_LEVELS):
        for _ in range(50 * n):
            if len(found) == n:
                return found
            shape = _shape(names[int(rng.integers(len(names)))])
            if shape not in wider:
                places = zip(*alike[shape], strict=True)
                wider[shape] = _wider([sorted(set(signs)) for signs in places])
            alphabets = wider[shape][level]
            made = "".join(letters[int(rng.integers(len(letters)))] for letters in alphabets)
            if made not in taken:
                taken.add(made)
                found.append(made)
        if len(found) == n:
            return found
    raise InputError(f"{n} made-up ids wanted, {len(found)} found beside {len(names)} known ones")


def _shape(name: str) -> str:
    """``name`` with one sign for every letter or digit.

    >>> _shape("PAT_46_881")
    'xxx_xx_xxx'
    """
    return "".join("x" if sign.isalnum() else sign for sign in name)


def _wider(seen: list[list[str]]) -> list[list[list[str]]]:
    """Alphabets by place: as seen, by kind, and longer by one."""
    every = sorted({letter for letters in seen for letter in letters})
    signs = {letter for letter in every if letter.isalnum()}
    is_hex = signs <= _HEX and not signs <= set(string.digits)

    def kind(letters: list[str]) -> list[str]:
        if len(letters) == 1 and not letters[0].isdigit():
            return letters  # a dash, a prefix
        if is_hex and set(letters) <= _HEX:
            return sorted(_HEX)
        kinds = {letter for k in _KINDS for letter in k if set(letters) & set(k)}
        return sorted(kinds | set(letters))

    by_kind = [kind(letters) for letters in seen]
    return [seen, by_kind, [*by_kind, kind(every)]]
