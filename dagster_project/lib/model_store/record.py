"""What one source held when it was last synced: the lock that trust without a manifest rests on.

Belongs: the file ``DEST/.sync/sources/<digest of the source>.json``.
Does not: asking the source (``prefix``), deciding (``store``).
Concept: trust on first use. Each object's sha256 is recorded with its ETag, VersionId and size;
as long as these are the same, the bytes must be too. ``stats`` remembers what the published files
looked like when they were last hashed, for those who would rather not hash them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import polars as pl

from dagster_project.lib import files
from dagster_project.lib.errors import InputError
from dagster_project.lib.model_store.artifact import MANIFEST, file_table
from dagster_project.lib.model_store.prefix import Head
from dagster_project.lib.signature import SIGNATURE

Stats = dict[str, list[int]]
"""File -> size, mtime and ctime in nanoseconds, inode."""


@dataclass(frozen=True)
class Seen:
    """One object: which version it was, and the sha256 of its bytes."""

    etag: str
    version_id: str | None
    bytes: int
    sha256: str

    @property
    def head(self) -> Head:
        """The version alone, to compare with what a HEAD says now."""
        return Head(self.etag, self.version_id, self.bytes)


@dataclass(frozen=True)
class Record:
    """All objects of one source, manifest and signature too, and the artifact they make."""

    source: str
    tree_hash: str
    files: Mapping[str, Seen]
    stats: Stats

    @property
    def heads(self) -> dict[str, Head]:
        """Name -> version."""
        return {name: seen.head for name, seen in self.files.items()}

    @property
    def table(self) -> pl.DataFrame:
        """The artifact's table of files."""
        aside = (MANIFEST, SIGNATURE)
        own = {name: seen for name, seen in self.files.items() if name not in aside}
        hashes = {name: seen.sha256 for name, seen in own.items()}
        return file_table(hashes, {name: seen.bytes for name, seen in own.items()})


def make_record(
    source: str, tree_hash: str, heads: Mapping[str, Head], hashes: Mapping[str, str]
) -> Record:
    """The record of objects that were fetched in the version of ``heads``."""
    seen = {n: Seen(h.etag, h.version_id, h.bytes, hashes[n]) for n, h in heads.items()}
    return Record(source, tree_hash, seen, {})


def read_record(path: Path) -> Record | None:
    """The record in ``path``, None if there is none; one that cannot be read is refused."""
    if not path.exists():
        return None
    raw = files.read_json(path)
    try:
        seen = {name: Seen(**entry) for name, entry in raw["files"].items()}
        return Record(raw["source"], raw["tree_hash"], seen, raw["stats"])
    except (KeyError, TypeError, AttributeError):
        raise InputError(
            f"{path}: not the record of a sync; remove it to trust the source anew"
        ) from None


def write_record(path: Path, record: Record) -> None:
    """Publish ``record`` in ``path``."""
    files.write_json(path, asdict(record))


def stats_of(folder: Path) -> Stats:
    """What the files in ``folder`` look like from outside."""
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        at = path.lstat()
        found[path.name] = [at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_ino]
    return found


def with_stats(record: Record, stats: Stats) -> Record:
    """``record`` with what the published files look like now."""
    return replace(record, stats=stats)
