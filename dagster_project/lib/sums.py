"""A folder of files that says what it holds: contents, their hashes, and checking them again.

Belongs: ``SHA256SUMS``, a folder named by its content, verifying one.
Does not: what the files say (``release.bundle``, ``gate.bundle``), approval.
Concept: the bytes depend on the inputs only; who ran it, when and where goes to ``run.json``, which
is neither hashed nor part of the folder's name.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster_project.lib import files
from dagster_project.lib.errors import InputError

SUMS = "SHA256SUMS"
RUN = "run.json"
APPROVAL = "approval.json"
NOT_HASHED = frozenset({SUMS, RUN})
NAME_DIGITS = 16
"""A folder is named by so many hex digits of the sha256 of its ``SHA256SUMS``."""


def with_sums(contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """``contents`` and their ``SHA256SUMS``, readable by ``sha256sum -c``."""
    hashed = {name: data for name, data in contents.items() if name not in NOT_HASHED}
    lines = [f"{files.sha256_bytes(data)}  {name}\n" for name, data in sorted(hashed.items())]
    return {**contents, SUMS: "".join(lines).encode()}


def write_folder(
    root: Path, contents: Mapping[str, bytes], *, run: Mapping[str, Any] | None = None
) -> Path:
    """Publish a folder whole, in a folder of ``root`` named by its content.

    Parameters
    ----------
    contents : file names and bytes, without their ``SHA256SUMS``.
    run : run id, time, command, host: written to ``run.json``.

    Returns
    -------
    ``root/<first 16 hex digits of the sha256 of SHA256SUMS>``. The same content published again is
    left as it is, with the ``run.json`` of the first time. A folder of that name that does not
    :func:`verify` is put aside as ``.damaged-<name>-<8 hex digits>``, for a person to look at.
    """
    hashed = with_sums(contents)
    out = root / files.sha256_bytes(hashed[SUMS])[:NAME_DIGITS]
    if out.exists() and not _is_whole(out):
        out.rename(root / f".damaged-{out.name}-{secrets.token_hex(4)}")
    with files.publish_folder(out) as folder:
        fill(folder, hashed, run)
    return out


def fill(folder: Path, hashed: Mapping[str, bytes], run: Mapping[str, Any] | None) -> None:
    """Write the files into a folder that is about to be published."""
    for name, data in hashed.items():
        (folder / name).write_bytes(data)
    if run is not None:
        (folder / RUN).write_bytes(json_bytes(run))


def verify(folder: Path) -> list[str]:
    """Compare a folder with its ``SHA256SUMS``.

    Returns
    -------
    One sentence for each file that is missing, changed or not listed (``run.json`` and what
    approval adds are not listed on purpose); empty when all agree.

    Raises
    ------
    InputError
        No ``SHA256SUMS``, or a line of it that is no hash and plain file name.
    """
    listed = read_sums(folder)
    problems = []
    for name, expected in listed.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name}: missing")
        elif files.sha256_file(path) != expected:
            problems.append(f"{name}: its content is not what was released")
    present = {path.name for path in folder.iterdir()}
    added = present - listed.keys() - NOT_HASHED - {APPROVAL}
    return problems + [f"{name}: was not released here" for name in sorted(added)]


def _is_whole(folder: Path) -> bool:
    try:
        return not verify(folder)
    except InputError:  # its SHA256SUMS are gone or spoilt
        return False


def read_sums(folder: Path) -> dict[str, str]:
    """File name -> hex sha256, as ``SHA256SUMS`` lists them; errors as :func:`verify`."""
    path = folder / SUMS
    if not path.is_file():
        raise InputError(f"{path}: no such file; pass a folder that refit or gate wrote")
    found: dict[str, str] = {}
    text = path.read_text(encoding="utf-8", errors="replace")
    for row, line in enumerate(text.splitlines(), start=1):
        digest, _, name = line.partition("  ")
        is_hash = len(digest) == 64 and set(digest) <= set("0123456789abcdef")
        if not is_hash or not name or Path(name).name != name or name in found:
            raise InputError(f"{SUMS} row {row}: expected a sha256, two blanks and a file name")
        found[name] = digest
    return found


def json_bytes(value: object) -> bytes:
    """Readable JSON: same value, same bytes."""
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
