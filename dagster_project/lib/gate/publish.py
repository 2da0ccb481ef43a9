"""The files of a gate: sweep, operating points, pictures, and the bundle where one is frozen.

Belongs: which files there are; the sealed folder.
Does not: what is in them (``words``, ``pictures``, ``bundle``).
Concept: the folder appears whole, with ``SHA256SUMS`` over all of it; same inputs, same bytes.
``metadata.json`` is there only if a threshold may be used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.lib import files, sums
from dagster_project.lib.gate import bundle, pictures, words
from dagster_project.lib.progress import OnProgress, silent

if TYPE_CHECKING:
    from dagster_project.lib.gate.report import GateReport

SWEEP, SWEEP_NOTE = "tau_sweep.json", "tau_sweep.md"
POINTS, POINTS_NOTE = "operating_points.json", "operating_points.md"
BUNDLE = bundle.NAME
FILES = (SWEEP, SWEEP_NOTE, POINTS, POINTS_NOTE, *words.PICTURES, BUNDLE)


def is_gate(folder: Path) -> bool:
    """Whether a folder is sealed, and a gate's; errors of a damaged one as ``sums.read_sums``."""
    return (folder / sums.SUMS).is_file() and SWEEP in sums.read_sums(folder)


def prepare_out(out: Path) -> Path:
    """The folder to be written, links followed; to be called before any work.

    Raises
    ------
    InputError
        It holds what a gate did not write (``files.replaceable``).
    """
    return files.replaceable(out, _ours, "a gate")


def _ours(out: Path) -> set[str]:
    """A folder of releases or of anything else is sealed, too: that alone does not make it ours."""
    return {*sums.NOT_HASHED, *FILES} if is_gate(out) else set()


def write(
    report: GateReport,
    out: Path,
    *,
    run: Mapping[str, Any] | None = None,
    on_progress: OnProgress = silent,
) -> Path:
    """Write the folder; an earlier gate in its place is replaced whole.

    Parameters
    ----------
    run : who made it and when, for ``run.json``, which is not sealed.

    Returns
    -------
    The folder, as :func:`prepare_out` gives it; errors likewise.
    """
    out = prepare_out(out)
    made = contents(report, on_progress=on_progress)
    with files.replace_folder(out) as folder:
        sums.fill(folder, sums.with_sums(made), run)
    return out


def contents(report: GateReport, *, on_progress: OnProgress = silent) -> dict[str, bytes]:
    """Every file by name, without ``SHA256SUMS``; a bundle has the hashes of the others."""
    sweep, points, frozen = report.sweep, report.points, report.bundle
    drawn = (pictures.sweep_png, pictures.tradeoff_png, pictures.distribution_png)
    make: dict[str, Callable[[], bytes]] = {
        SWEEP: lambda: sums.json_bytes(sweep),
        SWEEP_NOTE: lambda: words.sweep_note(sweep, points).encode(),
        POINTS: lambda: sums.json_bytes(points),
        POINTS_NOTE: lambda: words.points_note(points).encode(),
        **{
            name: lambda draw=draw: draw(sweep, points)  # type: ignore[misc]
            for name, draw in zip(words.PICTURES, drawn, strict=True)
        },
    }
    made = {}
    for done, (name, content) in enumerate(make.items(), start=1):
        made[name] = content()
        on_progress(done, len(make), name)
    return made if frozen is None else bundle.files_of(frozen, made)
