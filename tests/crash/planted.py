"""Faults planted on purpose: the test of the crash tests.

Belongs: ways to publish that are wrong, each in a scenario where it matters.
Does not: the right way (``dagster_project.lib.files``), what finds them (``modes``).
Concept: a harness is worth what it finds. Each of these is a fault that people write.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from crash import scenarios
from crash.scenarios import Ack

from dagster_project.lib import files

_fsync, _replace_folder, _make_folder = files.fsync, files.replace_folder, files.make_folder


@dataclass(frozen=True)
class Planted:
    """A scenario's work with a fault in it; for a process of its own, which it spoils."""

    scenario: str
    work: Callable[[Path, Ack], None]


def _in_files(scenario: str, function: str, wrong: object) -> Planted:
    """The scenario with one function of ``files`` put wrong."""

    def work(root: Path, ack: Ack) -> None:
        setattr(files, function, wrong)
        scenarios.SCENARIOS[scenario].work(root, ack)

    return Planted(scenario, work)


def _fsync_folders_only(path: Path) -> None:
    if path.is_dir():
        _fsync(path)


def _fsync_files_only(path: Path) -> None:
    if not path.is_dir():
        _fsync(path)


@contextmanager
def _write_in_place(path: Path) -> Iterator[Path]:
    yield path
    _fsync(path)
    _fsync(path.parent)


@contextmanager
def _remove_then_rename(path: Path) -> Iterator[Path]:
    temp = path.with_name(f".{path.name}.tmp")
    temp.mkdir()
    yield temp
    for item in (*temp.rglob("*"), temp):
        _fsync(item)
    shutil.rmtree(path)
    temp.rename(path)
    _fsync(path.parent)


def _unlink_then_link(link: Path, target: str) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    _fsync(link.parent)


def _make_folder_only(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


def _make_folder_but_trust_what_is_there(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder)


def _remove_old_first(path: Path) -> AbstractContextManager[Path]:
    if path.exists():
        shutil.rmtree(path.with_name(f".{path.name}.replaced"), ignore_errors=True)
    return _replace_folder(path)


def _acknowledge_early(root: Path, ack: Ack) -> None:
    with files.publish(root / "report") as temp:
        temp.write_bytes(scenarios.REPORTS[1])
        ack("1")


def _note_first(root: Path, ack: Ack) -> None:
    scenarios.journal_work(root, ack, note_first=True)


def _link_first(root: Path, ack: Ack) -> None:
    scenarios.ledger_work(root, ack, link_first=True)


def _trust_what_is_read(root: Path, ack: Ack) -> None:
    scenarios.ledger_work(root, ack, trust_what_is_read=True)


PLANTED = {
    "no_fsync": _in_files("file", "fsync", _fsync_folders_only),
    "no_fsync_in_folder": _in_files("store", "fsync", _fsync_folders_only),
    "no_fsync_of_folder": _in_files("file", "fsync", _fsync_files_only),
    "no_fsync_of_link": _in_files("store", "fsync", _fsync_files_only),
    "no_fsync_of_new_folders": _in_files("new_folders", "make_folder", _make_folder_only),
    "no_fsync_of_found_folders": _in_files(
        "new_folders", "make_folder", _make_folder_but_trust_what_is_there
    ),
    "old_removed_unsynced": _in_files("replace", "replace_folder", _remove_old_first),
    "in_place": _in_files("file", "publish", _write_in_place),
    "acknowledged_early": Planted("file", _acknowledge_early),
    "remove_then_rename": _in_files("replace", "replace_folder", _remove_then_rename),
    "unlink_then_link": _in_files("store", "point", _unlink_then_link),
    "noted_before_written": Planted("journal", _note_first),
    "in_service_before_recorded": Planted("ledger", _link_first),
    "record_found_unsynced": Planted("ledger", _trust_what_is_read),
}
