"""Small programs that publish something, and what must hold after any crash of theirs.

Belongs: the work, the state before it, what a reader may find.
Does not: faults planted on purpose (``planted``), running one as a program (``play``).
Concept: what is published is whole; what was acknowledged is there; the old stays in force until
the new is; and the same work done again ends in the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project.lib import files
from dagster_project.lib.release import ledger

if TYPE_CHECKING:
    import pyarrow as pa

Ack = Callable[[str], None]
BLOCK = 4096


@dataclass(frozen=True)
class Scenario:
    """Work in a folder: ``prepare`` is the state before, ``faults`` what is wrong after a crash.

    ``work`` calls ``ack`` with the name of each thing that it holds safe. ``packages`` says that it
    needs more than the standard library, which takes longer to start.
    """

    prepare: Callable[[Path], None]
    work: Callable[[Path, Ack], None]
    faults: Callable[[Path, Sequence[str]], list[str]]
    packages: bool = False


def sealed(name: str, size: int = 3 * BLOCK) -> bytes:
    """Bytes that show whether they are whole: their sha256, then as many as asked for."""
    seed = hashlib.sha256(name.encode()).digest()
    body = name.encode() + b"\n" + seed * (size // len(seed))
    return hashlib.sha256(body).hexdigest().encode() + body


def is_sealed(data: bytes) -> bool:
    """Whether nothing of :func:`sealed` bytes is missing or changed."""
    return len(data) > 64 and hashlib.sha256(data[64:]).hexdigest().encode() == data[:64]


def publish(path: Path, data: bytes) -> None:
    """Publish ``data`` in several writes, as writers of tables do."""
    with files.publish(path) as temp, temp.open("wb", buffering=0) as sink:
        for at in range(0, len(data), BLOCK):
            sink.write(data[at : at + BLOCK])


# one file, twice over an old one


REPORTS = [sealed(name) for name in ("old", "first", "second")]


def _file_prepare(root: Path) -> None:
    (root / "report").write_bytes(REPORTS[0])


def _file_work(root: Path, ack: Ack) -> None:
    at = REPORTS.index((root / "report").read_bytes())
    for number in range(max(1, at), len(REPORTS)):  # never back; what is found is made safe again
        publish(root / "report", REPORTS[number])
        ack(str(number))


def _file_faults(root: Path, acked: Sequence[str]) -> list[str]:
    path = root / "report"
    if not path.is_file():
        return ["report: lost"]
    if path.read_bytes() not in REPORTS:
        return ["report: published but not whole"]
    if REPORTS.index(path.read_bytes()) < max(map(int, acked), default=0):
        return ["report: acknowledged but an older one is in force"]
    return []


# files in folders that are not there yet


_DEEP = ("a/b/one", "a/b/two", "a/c/three")


def _deep_work(root: Path, ack: Ack) -> None:
    for name in _DEEP:
        publish(root / name, sealed(name))
        ack(name)


def _deep_faults(root: Path, acked: Sequence[str]) -> list[str]:
    found = [root / name for name in _DEEP if (root / name).is_file()]
    broken = [f"{path.name}: published but not whole" for path in found
              if not is_sealed(path.read_bytes())]  # fmt: skip
    return broken + [f"{n}: acknowledged but lost" for n in acked if not (root / n).is_file()]


# content-addressed folders and a link to the current one, as model_store and releases have them


def _fill(folder: Path, version: str) -> None:
    (folder / "weights").write_bytes(sealed(version))
    (folder / "sub").mkdir()
    (folder / "sub" / "config").write_bytes(sealed(f"config {version}", 100))
    (folder / "newest").symlink_to("weights")


def _folder_faults(folder: Path, version: str) -> list[str]:
    want = {"weights": sealed(version), "sub/config": sealed(f"config {version}", 100)}
    broken = [name for name, data in want.items()
              if not (folder / name).is_file() or (folder / name).read_bytes() != data]  # fmt: skip
    return [f"{folder.name}: published but not whole ({', '.join(broken)})"] if broken else []


def _store_prepare(root: Path) -> None:
    (root / "store" / "v1").mkdir(parents=True)
    _fill(root / "store" / "v1", "v1")
    (root / "store" / "current").symlink_to("v1")


def _store_work(root: Path, ack: Ack) -> None:
    store = root / "store"
    with files.publish_folder(store / "v2") as temp:
        _fill(temp, "v2")
    ack("v2")
    files.point(store / "current", "v2")
    ack("current")


def _store_faults(root: Path, acked: Sequence[str]) -> list[str]:
    store = root / "store"
    faults = [fault for path in store.glob("v*") for fault in _folder_faults(path, path.name)]
    if "v2" in acked and not (store / "v2").is_dir():
        faults.append("v2: acknowledged but lost")
    if not (store / "current").is_dir():
        return [*faults, "current: dangles or is gone"]
    if "current" in acked and (store / "current").readlink() != Path("v2"):
        faults.append("current: acknowledged but it is the old one")
    return faults


# the same, after another process has published v2 and was killed before it could sync the store


def _rival_work(root: Path, ack: Ack) -> None:
    theirs = root / "store" / "theirs"
    shutil.rmtree(theirs, ignore_errors=True)
    if not (root / "store" / "v2").exists():
        theirs.mkdir()
        _fill(theirs, "v2")
        for path in ("weights", "sub/config", "sub", "."):
            files.fsync(theirs / path)
        theirs.rename(root / "store" / "v2")
    _store_work(root, ack)


# a folder that replaces another


def _replace_prepare(root: Path) -> None:
    (root / "out").mkdir()
    _fill(root / "out", "v0")


def _replace_work(root: Path, ack: Ack) -> None:
    files.restore_folder(root / "out")
    for number in range(max(1, _version(root / "out") or 0), 3):
        with files.replace_folder(root / "out") as temp:
            _fill(temp, f"v{number}")
        ack(str(number))


def _version(folder: Path) -> int | None:
    """Which of the versions is whole in ``folder``; None if none is."""
    return next((n for n in range(3) if not _folder_faults(folder, f"v{n}")), None)


def _replace_faults(root: Path, acked: Sequence[str]) -> list[str]:
    files.restore_folder(root / "out")  # as every reader and writer of it does first
    if not (root / "out").is_dir():
        return ["out: lost"]
    version = _version(root / "out")
    if version is None:
        return ["out: published but not whole"]
    if version < max(map(int, acked), default=0):
        return [f"out: acknowledged but an older one is in force (v{version})"]
    return []


# a download: parts written where they belong, each noted in a journal once it is safe

_PARTS = tuple(sealed(f"part {number}", BLOCK + 500) for number in range(4))
_SIZE = len(_PARTS[0])


def _noted(root: Path) -> dict[int, str]:
    """Part -> sha256 of each whole line of the journal; a torn last line is no line."""
    path = root / "incoming.journal"
    found = {}
    for line in path.read_bytes().split(b"\n")[:-1] if path.is_file() else []:
        number, _, digest = line.decode(errors="replace").partition(" ")
        if number.isdigit() and len(digest) == 64:
            found[int(number)] = digest
    return found


def journal_work(root: Path, ack: Ack, *, note_first: bool = False) -> None:
    target, data, journal = root / "model", root / "incoming", root / "incoming.journal"
    if not target.is_file():
        if not data.is_file():  # notes of other data must not speak for new data
            journal.unlink(missing_ok=True)
            files.fsync(root)
        with data.open("r+b" if data.is_file() else "w+b", buffering=0) as parts:
            _fetch(root, parts.fileno(), ack, note_first=note_first)
        data.rename(target)
    files.fsync(root)
    journal.unlink(missing_ok=True)
    ack("model")


def _fetch(root: Path, parts: int, ack: Ack, *, note_first: bool) -> None:
    """Write and note what is not noted yet; a torn last line of the journal goes."""
    noted, journal = _noted(root), root / "incoming.journal"
    os.ftruncate(parts, _SIZE * len(_PARTS))
    files.write_text(journal, "".join(f"{number} {digest}\n" for number, digest in noted.items()))
    with journal.open("ab", buffering=0) as lines:
        for number in sorted(set(range(len(_PARTS))) - set(noted)):
            line = f"{number} {hashlib.sha256(_PARTS[number]).hexdigest()}\n".encode()
            if note_first:
                lines.write(line)
            os.pwrite(parts, _PARTS[number], number * _SIZE)
            os.fsync(parts)
            if not note_first:
                lines.write(line)
            os.fsync(lines.fileno())
            ack(f"part {number}")


def _journal_faults(root: Path, acked: Sequence[str]) -> list[str]:
    target, data = root / "model", root / "incoming"
    if target.is_file():
        return [] if target.read_bytes() == b"".join(_PARTS) else ["model: published but not whole"]
    if "model" in acked:
        return ["model: acknowledged but lost"]
    content = data.read_bytes() if data.is_file() else b""
    noted = _noted(root) if data.is_file() else {}
    faults = []
    for number, digest in noted.items():
        part = content[number * _SIZE : (number + 1) * _SIZE]
        if hashlib.sha256(part).hexdigest() != digest:
            faults.append(f"part {number}: noted but not on the disk")
    lost = [name for name in acked if int(name.removeprefix("part ")) not in noted]
    return faults + [f"{name}: acknowledged but not noted" for name in lost]


# releases put in service: first a line of the ledger, then the link, as an approval does it

_RELEASES = ("r0", "r1", "r2")


def _line(number: int) -> ledger.Entry:
    before = _RELEASES[number - 1] if number else None
    return ledger.Entry("t", _RELEASES[number], before, "approve", "B", "b", "0" * 64)


def _ledger_prepare(root: Path) -> None:
    (root / "releases").mkdir()
    for name in _RELEASES:
        (root / "releases" / name).mkdir()
    ledger.append_entry(root / "releases", _line(0))
    (root / "releases" / "current").symlink_to(_RELEASES[0])


def ledger_work(
    root: Path, ack: Ack, *, link_first: bool = False, trust_what_is_read: bool = False
) -> None:
    releases = root / "releases"
    for number in (1, 2):
        if link_first:
            files.point(releases / "current", _RELEASES[number])
        if number >= len(ledger.read_ledger(releases)):
            ledger.append_entry(releases, _line(number))
        elif not trust_what_is_read:
            ledger.keep(releases)
        if ledger.read_ledger(releases)[-1] == _line(number):
            files.point(releases / "current", _RELEASES[number])
        ack(str(number))


def _ledger_faults(root: Path, acked: Sequence[str]) -> list[str]:
    releases = root / "releases"
    entries = ledger.read_ledger(releases)
    if entries != [_line(number) for number in range(len(entries))] or not entries:
        return [f"ledger: lost or torn, {len(entries)} entries"]
    faults = [f"{n}: acknowledged but not in the ledger" for n in acked if int(n) >= len(entries)]
    if not (releases / "current").is_symlink():
        return [*faults, "current: is gone"]
    at = _RELEASES.index((releases / "current").readlink().name)
    if at >= len(entries):
        faults.append("current: in service and not on record")
    if at < max(map(int, acked), default=0):
        faults.append("current: acknowledged but it is the old one")
    return faults


# a shard of a dump: segments, then one parquet file, then the segments go

_SEGMENTS = 3
_LAYOUT = "4 rows"


def _table(number: int) -> pa.Table:
    import pyarrow as pa

    ids = [f"{number}-{row}" for row in range(4)]
    return pa.table({"image_uuid": ids, "probs": [[0.25, float(number)] for _ in ids]})


def _segment(root: Path, number: int) -> pa.Table | None:
    from dagster_project.lib.inference import segments

    table = _table(number)
    ids = table.column("image_uuid").to_pylist()
    folder = root / "segments" / "identity"
    return segments.read_segment(folder, number, ids, layout=_LAYOUT, schema=table.schema)


def _segments_work(root: Path, ack: Ack) -> None:
    import pyarrow as pa

    from dagster_project.lib import tables
    from dagster_project.lib.inference import segments

    found = []
    for number in range(_SEGMENTS):
        if _segment(root, number) is None:
            folder = root / "segments" / "identity"
            segments.write_segment(folder, number, _table(number), layout=_LAYOUT)
            ack(f"segment {number}")
        found.append(_segment(root, number))
    tables.write_arrow(root / "shards" / "shard.parquet", pa.concat_tables(found))
    ack("shard")
    segments.discard_segments(root / "segments", "identity")


def _segments_faults(root: Path, acked: Sequence[str]) -> list[str]:
    import pyarrow as pa

    from dagster_project.lib import tables
    from dagster_project.lib.errors import InputError

    shard = root / "shards" / "shard.parquet"
    if shard.is_file():
        want = pa.concat_tables([_table(number) for number in range(_SEGMENTS)])
        try:
            return [] if tables.read_arrow(shard).equals(want) else ["shard: other rows"]
        except InputError as error:
            return [f"shard: published but not whole ({error})"]
    if "shard" in acked:
        return ["shard: acknowledged but lost"]
    numbers = [int(name.removeprefix("segment ")) for name in acked]
    return [f"segment {n}: acknowledged but lost" for n in numbers if _segment(root, n) is None]


def _nothing(root: Path) -> None:
    """The work begins in an empty folder."""


SCENARIOS = {
    "file": Scenario(_file_prepare, _file_work, _file_faults),
    "new_folders": Scenario(_nothing, _deep_work, _deep_faults),
    "store": Scenario(_store_prepare, _store_work, _store_faults),
    "rival": Scenario(_store_prepare, _rival_work, _store_faults),
    "replace": Scenario(_replace_prepare, _replace_work, _replace_faults),
    "journal": Scenario(_nothing, journal_work, _journal_faults),
    "ledger": Scenario(_ledger_prepare, ledger_work, _ledger_faults),
    "segments": Scenario(_nothing, _segments_work, _segments_faults, packages=True),
}
