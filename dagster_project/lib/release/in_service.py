"""What is in service, as a folder of releases says: the approved release under ``current``.

Belongs: reading the pointer with everything that vouches for it; candidate or approved, in words.
Does not: moving it (``approval``).
Concept: a pointer alone proves nothing. The release must be whole, and an approval must be of these
very bytes; otherwise the answer is an error that says what to do, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagster_project.lib import files, sums
from dagster_project.lib.errors import InputError
from dagster_project.lib.release import inputs, ledger
from dagster_project.lib.release.approval import pointed
from dagster_project.lib.release.signatures import (
    CURRENT,
    Signature,
    approvals,
    release_problems,
    thresholds_of,
)
from dagster_project.lib.tiers.thresholds import ENV_NAMES, Thresholds, read_deployed


@dataclass(frozen=True)
class InService:
    """An approved release in service.

    Attributes
    ----------
    name, folder : of the release.
    thresholds, label_version : as its ``thresholds.json`` says.
    line : number of the ledger's entry that put it in service, from 1: changes with every
        approval and rollback, even to the same release.
    entry : that entry.
    signature : the newest approval by the person of that entry.
    """

    name: str
    folder: Path
    thresholds: Thresholds
    label_version: str | None
    line: int
    entry: ledger.Entry
    signature: Signature


def release_in_service(root: Path) -> InService | None:
    """The approved release that ``root/current`` points to; None if nothing was ever approved.

    Raises
    ------
    InputError
        The pointer, the ledger, the release or its approval do not agree; says how to mend it.
    """
    name, entries = pointed(root), ledger.read_ledger(root)
    if name is None and not entries:
        return None
    if not entries or entries[-1].release != name:
        decided = entries[-1].release if entries else "nothing"
        raise InputError(
            f"{root}: {ledger.LEDGER} ends with {decided}, {CURRENT} points to "
            f"{name or 'nothing'}; approve the one that shall be in service"
        )
    folder, entry = root / name, entries[-1]
    if not folder.is_dir():
        raise InputError(f"{folder}: {CURRENT} points to it and it is gone; approve another")
    problems = release_problems(folder)
    if problems:
        raise InputError(f"{folder}: in service and {'; '.join(problems)}; approve a whole release")
    signed = [s for s in approvals(folder) if s.user == entry.user]
    if not signed:
        raise InputError(f"{folder}: in service without an approval; approve it again")
    version = thresholds_of(folder).get("label_version")
    at = read_deployed(folder / "thresholds.json")
    return InService(name, folder, at, version, len(entries), entry, signed[-1])


def rows_in_service(found: InService) -> Path | None:
    """The copy of the scored rows that the release in service was fitted on; None if none is left.

    A copy that is not what the release recorded counts as none.
    """
    recorded = files.read_json(found.folder / sums.RUN).get(inputs.RECORD) or {}
    entry = recorded.get("files", {}).get(inputs.SCORED)
    if not entry:
        return None
    path = Path(entry["path"])
    if not path.is_file() or files.sha256_file(path) != entry["sha256"]:
        return None
    return path


def release_state(
    root: Path, thresholds: Mapping[str, float], label_version: str | None
) -> dict[str, Any]:
    """Whether these thresholds, of these labels, are a candidate or the approved ones.

    Parameters
    ----------
    thresholds : the contract's three names to values.

    Returns
    -------
    ``state`` (``candidate`` or ``approved``), ``words`` (one sentence) and ``thresholds``: a row a
    threshold with ``threshold, fitted, label_version, in_service, in_service_label_version,
    release``; null where nothing is in service. Never raises for what lies in ``root``: what is
    wrong there is said in ``words``, and nothing counts as approved.
    """
    found, fault = None, None
    try:
        found = release_in_service(root)
    except (InputError, OSError) as error:
        fault = str(error)
    same = found is not None and found.thresholds.as_dict() == dict(thresholds)
    approved = found is not None and same and found.label_version == label_version
    rows = [
        {
            "threshold": name,
            "fitted": thresholds[name],
            "label_version": label_version,
            "in_service": found.thresholds.as_dict()[name] if found else None,
            "in_service_label_version": found.label_version if found else None,
            "release": found.name if found else None,
        }
        for name in ENV_NAMES
    ]
    state = "approved" if approved else "candidate"
    return {"state": state, "words": _words(approved, found, fault), "thresholds": rows}


def _words(approved: bool, found: InService | None, fault: str | None) -> str:
    if found is None:
        return f"candidate; {fault or 'no release has been approved yet'}"
    by = f"release {found.name}, approved by {found.entry.name} on {found.entry.time}"
    if approved:
        return f"approved: {by}"
    return f"candidate; in service is {by}, on labels {found.label_version}"
