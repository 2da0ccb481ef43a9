"""Review sheets as people and spreadsheets spoil them, and what the csv module reads in them.

Not a benchmark itself: ``fuzz_drop.py`` reads 10,000 of them, the test suite a few hundred.
"""

# ruff: noqa: ARG001, ARG005 - every damage is called alike

from __future__ import annotations

import csv
import gzip
import io
import re
import unicodedata
from collections.abc import Callable
from random import Random
from typing import Literal

CLASSES = (
    *("acne", "Eczema", "tinea", "tinea_pedis", "Lichen planus", "psoriasis", "wart"),
    *("pa\u00f1al dermatitis", "insect-bite", "scabies", "vitiligo", "melasma"),
)
IDS = (*(f"{n:04d}" for n in range(8, 40)), "12", *(f"9f{n:02x}c1d" for n in range(40)))
HEADER = ["image_uuid", "image_path", "reviewer", "label", "confidence", "comment"]
WORDS = ["too dark", "scaling, red", 'says "itchy"', "gr\u00fcn", "two\nlines", "", "", ""]

Table = list[list[str]]
Judged = tuple[str, str, str, float | None]
"""image, reader, label, confidence."""


def sheet(rng: Random, reviewer: str) -> Table:
    """A returned sheet: header and rows, some not judged yet."""
    images = rng.sample(IDS, rng.randint(1, 12))
    rows = [HEADER]
    for image in images:
        label = rng.choice([*CLASSES, "unsure", "not_usable", ""])
        stated = rng.choice(["", "0.8", "1", "0.25", ".5"]) if label else ""
        who = reviewer if label else ""
        rows.append([image, f"images/{image}.jpg", who, label, stated, rng.choice(WORDS)])
    return rows


def spoil_cells(rng: Random, rows: Table) -> Table:
    """The same rows after one thing that happens to cells."""
    rows = [list(row) for row in rows]
    if any(len(row) != len(HEADER) for row in rows):  # it has lost its shape already
        return rows
    at = rng.randrange(1, len(rows))
    rng.choice(_CELLS)(rng, rows, at)
    return rows


def _label(change: Callable[[Random, str], str]) -> Callable[[Random, Table, int], None]:
    def spoil(rng: Random, rows: Table, at: int) -> None:
        rows[at][3] = change(rng, rows[at][3])

    return spoil


def _put(column: int, *values: str) -> Callable[[Random, Table, int], None]:
    def spoil(rng: Random, rows: Table, at: int) -> None:
        rows[at][column] = rng.choice(values)

    return spoil


def _shuffle(rng: Random, rows: Table, at: int) -> None:
    order = rng.sample(range(len(rows[0])), len(rows[0]))
    rows[:] = [[row[place] for place in order] for row in rows]


def _lose_column(rng: Random, rows: Table, at: int) -> None:
    lost = rng.randrange(len(rows[0]))
    rows[:] = [row[:lost] + row[lost + 1 :] for row in rows]


def _add_column(rng: Random, rows: Table, at: int) -> None:
    name = rng.choice(["label", "Label ", "age", "", "reviewer"])
    rows[:] = [[*row, rng.choice(["", "acne", "7"])] for row in rows]
    rows[0][-1] = name


_CELLS: list[Callable[[Random, Table, int], None]] = [
    _label(lambda _, s: s.upper()),
    _label(lambda _, s: f" {s}\u00a0"),
    _label(lambda r, s: s[:1] + r.choice(["\u200b", "\ufeff", "\u00ad"]) + s[1:]),
    _label(lambda _, s: unicodedata.normalize("NFD", s)),
    _label(lambda _, s: s.replace("_", "-").replace(" ", "_")),
    _label(lambda _, s: s.replace("a", "\u0430", 1)),
    _label(lambda r, s: s[:-1] if r.random() < 0.5 else s + "s"),
    _label(lambda _, s: "=" + s),
    _put(0, "1.2E+10", "8", "13", "12.0", "zz", "", "Total", "04-Mar", "9F00C1D"),
    _put(2, "", "=A1", "dr_\u0430da", "x" * 150, " Ada  Lovelace"),
    _put(4, "0,8", "80 %", "nan", "1e-1", "2", "high", "-1", "1.", "\uff11"),
    _put(5, 'open " quote', "a,b;c\td", "x\r\ny", "\0", "caf\u00e9"),
    lambda r, rows, at: rows.insert(at, list(rows[0])),
    lambda r, rows, at: rows.insert(at, list(rows[at])),
    lambda r, rows, at: rows.insert(at, []),
    lambda r, rows, at: rows.append(["Total", "", "", str(len(rows)), "", ""]),
    lambda r, rows, at: rows.__setitem__(at, rows[at][:-1]),
    lambda r, rows, at: rows[at].append(r.choice(["", "x"])),
    lambda r, rows, at: rows[0].__setitem__(
        r.randrange(len(rows[0])), r.choice(["", "label", "Id"])
    ),
    _shuffle,
    _lose_column,
    _add_column,
]


def plain(rows: Table) -> bytes:
    """The bytes of a table as the packet's own page exports it."""
    sink = io.StringIO(newline="")
    csv.writer(sink, lineterminator="\n").writerows(rows)
    return sink.getvalue().encode()


def write(rng: Random, rows: Table) -> bytes:
    """The bytes of a table, as one of the usual programs saves it."""
    sink = io.StringIO(newline="")
    separator = rng.choice([",", ",", ",", ";", "\t"])
    ends = rng.choice(["\n", "\n", "\r\n", "\r"])
    quoting: Literal[0, 1] = csv.QUOTE_ALL if ends == "\r" else csv.QUOTE_MINIMAL
    writer = csv.writer(sink, delimiter=separator, lineterminator=ends, quoting=quoting)
    writer.writerows(rows)
    text = sink.getvalue()
    if rng.random() < 0.1:
        text = text.rstrip("\r\n")
    encoding = rng.choice(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252"])
    return text.encode(encoding, errors="replace")


def spoil_bytes(rng: Random, data: bytes) -> bytes:
    """The same bytes after one accident."""
    at = rng.randrange(len(data) + 1)
    span = rng.randint(1, 40)
    found: bytes = rng.choice(_BYTES)(rng, data, at, span)
    return found


_BYTES: list[Callable[[Random, bytes, int, int], bytes]] = [
    lambda r, d, at, n: d[:at],
    lambda r, d, at, n: d[:at] + d[at + n :],
    lambda r, d, at, n: d[:at] + d[at : at + n] + d[at:],
    lambda r, d, at, n: d[:at] + r.randbytes(n) + d[at:],
    lambda r, d, at, n: (
        d[:at] + bytes([d[at] ^ (1 << r.randrange(8))]) + d[at + 1 :] if at < len(d) else d
    ),
    lambda r, d, at, n: d[:at] + r.choice([b'"', b",", b";", b"\t", b"\n", b"\r", b"\0"]) + d[at:],
    lambda r, d, at, n: d.replace(b",", b";", n),
    lambda r, d, at, n: d.replace(b'"', b"", n),
    lambda r, d, at, n: d + d,
    lambda r, d, at, n: gzip.compress(d, mtime=0),
    lambda r, d, at, n: b"sep=;\n" + d,
    lambda r, d, at, n: d[:at] + b"x" * 120_000 + d[at:],
]


def reference(data: bytes) -> set[Judged]:
    """What the csv module reads in a file that somebody has accepted; no check of anything.

    Written apart from the package: names are compared without blanks, dashes and what is invisible.
    """
    text = data.decode(
        "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace"
    )
    for separator in (",", ";", "\t"):
        records = [
            r for r in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if any(r)
        ]
        header = [_column(cell) for cell in records[0]] if records else []
        if {"image_uuid", "reviewer", "label"} <= set(header):
            break
    labels = {_key(name): name for name in (*CLASSES, "unsure", "not_usable")}
    found: set[Judged] = set()
    for record in records[1:]:
        row = dict(zip(header, record, strict=False))
        if not _key(row.get("label", "")):
            continue
        number = row.get("confidence", "").strip().replace(",", ".")
        stated = float(number) if number else None
        label = labels[_key(row["label"])]
        found.add((row["image_uuid"].strip(), _key(row["reviewer"]), label, stated))
    return found


def _column(text: str) -> str:
    seen = "".join(c for c in text if unicodedata.category(c) != "Cf")
    return re.sub(r"[\s_-]+", "_", seen.strip()).casefold()


def _key(text: str) -> str:
    plain = unicodedata.normalize("NFC", text).casefold()
    seen = "".join(c for c in plain if unicodedata.category(c) not in ("Cf", "Pd"))
    return re.sub(r"[\s_]+", "", seen)
