"""The files of a roll-up: the record that only grows, and the report of the last run.

Belongs: which files there are, in which order they appear.
Does not: what is in them (``provenance``, ``words``, ``pictures``).
Concept: the record first, for nothing is told of rows that are not there; the report's JSON last,
for it names the record. Same inputs, same bytes, whatever was there before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.lib import files
from dagster_project.lib.progress import OnProgress, silent
from dagster_project.lib.rollup import pictures, words
from dagster_project.lib.rollup.provenance import FOLDER, add_record, gather_records

if TYPE_CHECKING:
    from dagster_project.lib.rollup.report import RolledUp

PREDICTIONS = "predictions.parquet"
JSON, NOTE = "rollup_report.json", "rollup_report.md"
REPORT = (*words.PICTURES, NOTE, JSON)
FILES = (FOLDER, PREDICTIONS, *REPORT)


def prepare_out(out: Path) -> Path:
    """The folder to be written, links followed; to be called before any work.

    Raises
    ------
    InputError
        It holds what a roll-up did not write (``files.replaceable``).
    """
    return files.replaceable(out, _ours, "a roll-up")


def _ours(out: Path) -> list[str]:
    """What may be there: our files, and what a killed run left or another one is writing."""
    return [*FILES, *(path.name for path in out.glob(".*.tmp"))]


def write_rollup(found: RolledUp, out: Path, *, on_progress: OnProgress = silent) -> bool:
    """Add the record, gather all records, write the report; True if the record was new.

    Records of other configurations, models and tables stay. A second run of the same adds nothing
    and leaves every file with the bytes it has.
    """
    out = prepare_out(out)
    files.make_folder(out)
    new = add_record(out / FOLDER, found.record)
    gather_records(out / FOLDER, out / PREDICTIONS)
    write_report(found.report, out, on_progress=on_progress)
    return new


def write_report(report: Mapping[str, Any], out: Path, *, on_progress: OnProgress = silent) -> None:
    """The report and its pictures into a folder; without labels there are no pictures.

    A picture shows how often an answer is right. Those of an earlier run do not stay beside a
    report that they are not of.
    """
    made = report_files(report, on_progress=on_progress)
    files.make_folder(out)
    for name in REPORT:
        if name in made:
            files.publish_bytes(out / name, made[name])
        else:
            (out / name).unlink(missing_ok=True)


def report_files(
    report: Mapping[str, Any], *, on_progress: OnProgress = silent
) -> dict[str, bytes]:
    """Every file of the report by name, in memory."""
    drawn: dict[str, Callable[[], bytes]] = {
        words.PICTURES[0]: lambda: pictures.tree_png(report),
        words.PICTURES[1]: lambda: pictures.curve_png(report),
    }
    make: dict[str, Callable[[], bytes]] = {
        **(drawn if report["evaluation"] is not None else {}),
        NOTE: lambda: words.rollup_note(report).encode(),
        JSON: lambda: report_json(report).encode(),
    }
    made = {}
    for done, (name, content) in enumerate(make.items(), start=1):
        made[name] = content()
        on_progress(done, len(make), name)
    return made


def report_json(report: Mapping[str, Any]) -> str:
    """The report as text, here and on the command line: same report, same bytes."""
    return json.dumps(report, indent=2, sort_keys=True, allow_nan=False) + "\n"
