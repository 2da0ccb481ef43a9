"""What a model artifact is: its files, their hashes, and one hash of them all.

Belongs: names, manifest, tree hash, finding a published artifact.
Does not: transfer (``parts``, ``folder``), publication (``store``), what the files say
(``inference``).
Concept: trust is sha256 by file. Without a manifest the files are the four required ones and
``golden.json`` if there; with one they are those it lists. ``manifest.json`` and ``model.sig`` are
no part of the hash: they say what the files are and who vouches for them, and change none of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from dagster_project.lib import files
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.signature import SIGNATURE

REQUIRED = ("best_model.pt", "config.json", "feature_schema.json", "labels.txt")
"""Files without which a folder is no artifact."""
GOLDEN = "golden.json"
MANIFEST = "manifest.json"
CURRENT = "current"
"""The relative link beside the published folders."""
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Artifact:
    """A model artifact on this machine, all of whose bytes have just been hashed.

    Attributes
    ----------
    path : its folder.
    tree_hash : 64 hex digits: sha256 of the canonical JSON of ``{file: sha256}``.
    files : ``file, sha256, bytes``, sorted by file, without the manifest.
    """

    path: Path
    tree_hash: str
    files: pl.DataFrame


def read_artifact(folder: Path) -> Artifact:
    """Hash the artifact in ``folder`` and check it against its manifest, if it has one.

    Raises
    ------
    InputError
        No such folder, a file that is missing, or whose bytes are not those of the manifest.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a model artifact")
    manifest = read_manifest(folder / MANIFEST) if (folder / MANIFEST).exists() else None
    present = [p.name for p in folder.iterdir() if p.is_file()]
    names = artifact_files(str(folder), present, manifest)
    found = {name: files.sha256_file(folder / name) for name in names}
    check_hashes(str(folder), found, manifest or {})
    table = file_table(found, {name: (folder / name).stat().st_size for name in names})
    return Artifact(folder, tree_hash(table), table)


def file_table(hashes: Mapping[str, str], sizes: Mapping[str, int]) -> pl.DataFrame:
    """The table of an artifact's files from ``{file: sha256}`` and ``{file: bytes}``."""
    rows = [(name, hashes[name], sizes[name]) for name in sorted(hashes)]
    schema = {"file": pl.String, "sha256": pl.String, "bytes": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def tree_hash(table: pl.DataFrame) -> str:
    """The hash of an artifact from its table of files (columns ``file`` and ``sha256``)."""
    return hash_of(dict(zip(table["file"], table["sha256"], strict=True)))


def hash_of(hashes: Mapping[str, str]) -> str:
    """The hash of an artifact from ``{file: sha256}``."""
    return files.sha256_bytes(files.canonical_json(dict(hashes)).encode())


def published(dest: Path, wanted: str) -> Path:
    """The folder in which :func:`sync` published the artifact with this tree hash."""
    folder = dest / wanted
    if not (_HASH.fullmatch(wanted) and folder.is_dir()):
        raise InputError(f"{dest}: no model with tree hash {wanted}; sync it first")
    return folder


def current(dest: Path) -> Path:
    """The folder of the artifact that was synced last."""
    link = dest / CURRENT
    if not link.is_dir():
        raise InputError(f"{dest}: no model has been synced there yet; sync one first")
    return link.resolve()


def artifact_files(
    where: str, present: Collection[str], manifest: Mapping[str, str] | None
) -> list[str]:
    """The artifact's file names, sorted; a missing one is an error."""
    names = sorted(manifest) if manifest is not None else [*REQUIRED]
    if manifest is None and GOLDEN in present:
        names = sorted([*names, GOLDEN])
    missing = [name for name in names if name not in present]
    if missing:
        raise InputError(f"{where}: {some(missing, 5)} is missing from the model artifact")
    return names


def read_manifest(path: Path) -> dict[str, str]:
    """``{file: sha256}`` of a ``manifest.json``; it must list the required files."""
    return parse_manifest(files.read_json(path))


def manifest_in(where: str, text: bytes) -> dict[str, str]:
    """``{file: sha256}`` of a manifest's text, which comes from ``where``."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"{where}, {MANIFEST}: not JSON; write it again") from None
    if not isinstance(raw, dict):
        raise InputError(f"{where}, {MANIFEST}: expected a JSON object, got {type(raw).__name__}")
    try:
        return parse_manifest(raw)
    except InputError as error:
        raise InputError(f"{where}, {error}") from None


def parse_manifest(raw: Mapping[str, Any]) -> dict[str, str]:
    """``{file: sha256}`` of a parsed manifest ``{"files": {name: {"sha256", "bytes"}}}``."""
    listed = raw.get("files")
    if not isinstance(listed, dict):
        raise InputError(f"{MANIFEST}: expected an object 'files'")
    hashes = {}
    for name, entry in listed.items():
        digest = str(entry.get("sha256", "")).lower() if isinstance(entry, dict) else ""
        if not _HASH.fullmatch(digest):
            raise InputError(f"{MANIFEST}, {name}: sha256 must be 64 hex digits")
        if not _is_plain(name):
            raise InputError(f"{MANIFEST}: {name!r} is not a plain file name of this folder")
        hashes[name] = digest
    missing = [name for name in REQUIRED if name not in hashes]
    if missing:
        raise InputError(f"{MANIFEST}: lists no {some(missing, 4)}; write it over all files")
    return hashes


def _is_plain(name: str) -> bool:
    """Whether a file of this name can only be one in the artifact's own folder."""
    taken = name.startswith(".") or name in (MANIFEST, SIGNATURE, CURRENT)
    return bool(name) and "/" not in name and name.isprintable() and not taken and len(name) <= 200


def write_manifest(folder: Path) -> None:
    """Write ``manifest.json`` over the artifact in ``folder`` as it is now."""
    (folder / MANIFEST).unlink(missing_ok=True)
    rows = read_artifact(folder).files.iter_rows(named=True)
    listed = {row["file"]: {"sha256": row["sha256"], "bytes": row["bytes"]} for row in rows}
    files.write_json(folder / MANIFEST, {"files": listed})


def check_hashes(where: str, found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Raise if a file's sha256 is not the expected one, naming both."""
    wrong = [name for name, digest in expected.items() if found[name] != digest]
    if wrong:
        name = wrong[0]
        more = f" ({len(wrong)} files differ)" if len(wrong) > 1 else ""
        raise InputError(
            f"{where}, {name}: sha256 is {found[name]}, expected {expected[name]}{more}; "
            "the file was altered, cut or replaced: fetch or write the artifact again"
        )
