"""The page that a dermatologist judges a packet with: offline, from a double-click.

Belongs: ``index.html`` and ``packet.js`` beside the images; what must hold so that every class can
be typed and every row can come back.
Does not: which images, in which order, for whom (``review.packet``); reading what comes back
(``labels.drop``).
Concept: blind and quick. The page knows ids, file names, class names and what may be shown, and
nothing else; a digit or a few letters and Enter are an answer; each presentation becomes one row of
the CSV that the drop accepts. No request leaves it; answers stay in the browser until they are
downloaded (docs/review-page.md).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath

from dagster_project.lib import files
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.labels.drop import NOT_USABLE, UNSURE
from dagster_project.lib.offline_page import script_json, security_policy

GAP_MS = 40
"""Neutral grey between two images; with it the next one is still there within 100 ms."""
MAX_GAP_MS = 2000
KEYS = {"u": UNSURE, "n": NOT_USABLE}
"""What a single letter and Enter mean, whatever the classes are called."""

_SCRIPTS = ("matching.js", "answers.js", "keeping.js", "viewer.js", "page.js")


@dataclass(frozen=True)
class ReviewClass:
    """A class as the reviewer may give it: its exact name, and a short description or none."""

    name: str
    description: str = ""


@dataclass(frozen=True)
class Presentation:
    """One image to be judged once.

    Attributes
    ----------
    image_uuid : the id that its row returns under, which nothing else in the packet has.
    image_path : relative to the page, with ``/``.
    practice : shown first, never exported.
    shown : what the reviewer may know of it, by name.
    """

    image_uuid: str
    image_path: str
    practice: bool = False
    shown: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PageContent:
    """Everything on the page of one reviewer.

    Attributes
    ----------
    packet : hash of the packet; answers are kept and returned under it.
    reviewer : as it will stand in the ``reviewer`` column: letters, digits, ``. _ -``.
    classes : at least one.
    presentations : in the order they are shown, practice first.
    gap_ms : neutral grey between two images, 0 to 2000.
    """

    packet: str
    reviewer: str
    classes: Sequence[ReviewClass]
    presentations: Sequence[Presentation]
    gap_ms: int = GAP_MS


def write_page(folder: Path, content: PageContent) -> None:
    """Publish ``index.html`` and ``packet.js`` in ``folder``: same content, same bytes.

    Raises
    ------
    InputError
        All faults at once, capped: a class that could not be typed because of a key or of another
        class, a name that cannot be a file name, an id that is there twice, a path outside.
    """
    faults = list(_faults(content))
    if faults:
        rest = len(faults) - 5
        more = f"; and {rest} more" if rest > 0 else ""
        raise InputError(f"review page of {content.reviewer}: {'; '.join(faults[:5])}{more}")
    files.publish_bytes(folder / "packet.js", _packet_js(content))
    files.publish_bytes(folder / "index.html", _index_html())


def folded(text: str) -> str:
    """``text`` as it is compared with what is typed; ``matching.js`` has the same.

    >>> folded("Lichen_planus (Ödem)")
    'lichen planus odem'
    """
    plain = "".join(
        c for c in unicodedata.normalize("NFKD", text) if unicodedata.category(c)[0] != "M"
    )
    words = "".join(
        c if unicodedata.category(c)[0] in "LN" else "" if c in "'\u2019" else " "
        for c in plain.lower()
    )
    return " ".join(words.split())


def _faults(content: PageContent) -> Iterator[str]:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,60}", content.reviewer):
        yield "the reviewer's name becomes a file name; use letters, digits and . _ -"
    if not re.fullmatch(r"[A-Za-z0-9]{1,64}", content.packet):
        yield f"packet {content.packet!r}: expected the letters and digits of a hash"
    if not 0 <= content.gap_ms <= MAX_GAP_MS:
        yield f"gap_ms {content.gap_ms}: expected 0 to {MAX_GAP_MS}"
    yield from _class_faults([one.name for one in content.classes])
    yield from _presentation_faults(content.presentations)


def _class_faults(names: Sequence[str]) -> Iterator[str]:
    """Why a class could not be typed: each needs a spelling of its own that no key takes away."""
    if not names:
        yield "no classes; a reviewer needs at least one"
    taken = {folded(word): word for word in KEYS.values()}
    for name in names:
        typed = folded(name)
        if not typed:
            yield f"class {name!r} has no letter or digit to type; rename it"
        elif typed in KEYS:
            yield f"class {name!r} collides with the key {typed} ({KEYS[typed]}); rename it"
        elif typed in taken:
            yield f"class {name!r} is typed like {taken[typed]!r}; rename one"
        elif typed[0] in "0123456789":
            yield (
                f"class {name!r} begins with the key {typed[0]}, which gives a recent class; "
                "rename it so that it begins with a letter"
            )
        taken.setdefault(typed, name)


def _presentation_faults(presentations: Sequence[Presentation]) -> Iterator[str]:
    counts = Counter(one.image_uuid for one in presentations)
    repeated = [uuid for uuid, n in counts.items() if n > 1]
    if repeated:
        yield f"image_uuid {some(repeated)} is there twice; give a repeat an id of its own"
    blank = [uuid for uuid in counts if uuid != uuid.strip() or not uuid.isprintable() or not uuid]
    if blank:
        yield f"image_uuid {some(blank)} is empty or has blanks or signs that a CSV would not keep"
    outside = [one.image_path for one in presentations if not _inside(one.image_path)]
    if outside:
        yield f"image_path {some(outside)} is not a relative path below the page"
    practice = [one.practice for one in presentations]
    if all(practice):
        yield "nothing to review; at least one presentation must count"
    if practice != sorted(practice, reverse=True):
        yield "a practice case stands after one that counts; put them first"


def _inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return (
        bool(parts)
        and not path.startswith("/")
        and ".." not in parts
        and not set(path) & set("\\:")
    )


def _packet_js(content: PageContent) -> bytes:
    """The data as a script: a page opened from a disk may run one beside it, but fetch nothing."""
    packet = {
        "packet": content.packet,
        "reviewer": content.reviewer,
        "gap_ms": content.gap_ms,
        "classes": [
            {"name": one.name, "folded": folded(one.name), "description": one.description}
            for one in content.classes
        ],
        # pairs, because a foreign name as a key could be one that JavaScript gives a meaning to
        "presentations": [
            {
                "id": one.image_uuid,
                "path": one.image_path,
                "practice": one.practice,
                "shown": [[name, str(value)] for name, value in one.shown.items()],
            }
            for one in content.presentations
        ],
    }
    return f"window.REVIEW_PACKET = {script_json(packet)};\n".encode()


@cache
def _index_html() -> bytes:
    """The page itself: the same for everyone."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    style = _text("page.css")
    script = '"use strict";\n' + "\n".join(_text(name) for name in _SCRIPTS)
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        _text("page.html.j2")
    )
    return template.render(
        csp=security_policy(style, script, files_beside=True),
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
    ).encode()


def _text(name: str) -> str:
    return (resources.files("dagster_project.lib.review.page") / name).read_text(encoding="utf-8")
