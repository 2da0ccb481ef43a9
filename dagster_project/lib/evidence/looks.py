"""The ledger of looks: how often thresholds were fitted and certified on the same rows.

Belongs: recognising the same rows, counting, the file.
Does not: what a look costs in words (``release.note``).
Concept: each look may be wrong with probability delta, so L looks together guarantee only L delta
(union bound). A look is one content of the rows (scores and labels) under one policy; the same one
again, a retry say, is no further look. Rows are recognised by a bottom-k sketch of the hashes of
their ids (Broder, On the resemblance and containment of documents, 1997), so that a few rows more
or fewer do not make them look new.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dagster_project.lib import files
from dagster_project.lib.errors import InputError

SKETCH = 64
"""Hashes kept of a set of rows; two sets that share a twentieth of their rows share about three."""


def count_look(path: Path, image_uuids: Iterable[str], what: Mapping[str, str | None]) -> int:
    """Record this look at these rows, and say how many there have been, this one included.

    Parameters
    ----------
    path : the ledger, JSON lines; made if it is not there. A second process waits.
    image_uuids : ids of the rows that are looked at; their order does not matter.
    what : what else makes the look: content of the rows, policy; hashes, no paths.

    Returns
    -------
    The place of this look among those at rows that overlap with these: 1 for the first. A look that
    is in the ledger already keeps its place.

    Raises
    ------
    InputError
        The ledger is not readable as one.
    """
    hashes = sorted(hashlib.sha256(uuid.encode()).hexdigest() for uuid in image_uuids)
    rows = files.sha256_bytes("\n".join(hashes).encode())
    entry: dict[str, Any] = {
        "look": files.digest({"rows": rows, **what}),
        "n": len(hashes),
        "rows": [value[:16] for value in hashes[:SKETCH]],
        **what,
    }
    files.make_folder(path.parent)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = read_looks(path)
        place = 1
        for row in known:
            if row["look"] == entry["look"]:
                return place
            place += not set(entry["rows"]).isdisjoint(row["rows"])
        now = datetime.now(UTC).isoformat(timespec="seconds")
        lines = [json.dumps(row, sort_keys=True) for row in [*known, {**entry, "time": now}]]
        files.write_text(path, "\n".join(lines) + "\n")
    return place


def read_looks(path: Path) -> list[dict[str, Any]]:
    """Every look, oldest first; none where there is no file. Errors as :func:`count_look`."""
    if not path.exists():
        return []
    found = []
    for row, line in enumerate(
        path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1
    ):
        try:
            value = json.loads(line)
            sound = isinstance(value["look"], str) and all(
                isinstance(name, str) for name in list(value["rows"])
            )
        except (ValueError, TypeError, KeyError):
            sound = False
        if not sound:
            raise InputError(
                f"{path.name} row {row}: not a look; restore the ledger from a copy, or start "
                "another file and say so, because looks are lost with it"
            )
        found.append(value)
    return found
