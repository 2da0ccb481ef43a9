"""What a gate is made of, read from files nobody vouches for.

Belongs: which file is which; models that can be compared.
Does not: reading one file (``scores``, ``config``).
Concept: one file has no name and is the model; several have names, and the first is the one whose
threshold is chosen. Models are compared on the same cases or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project.lib.errors import InputError
from dagster_project.lib.gate.bundle import read_bundle
from dagster_project.lib.gate.config import GateConfig, parse_config, read_config
from dagster_project.lib.gate.gauge import reasons_to_rerun
from dagster_project.lib.gate.report import GateInputs
from dagster_project.lib.gate.scores import read_scores
from dagster_project.lib.progress import OnProgress, silent

if TYPE_CHECKING:
    from dagster_project.lib.gate.scores import GateScores

Name = tuple[str, int]
"""Model and seed."""

_NAMED = re.compile(
    r"(?P<model>[A-Za-z0-9_][A-Za-z0-9_.-]*)(?:@(?P<seed>[0-9]{1,9}))?=(?P<file>.+)", re.DOTALL
)


def named_scores(values: Sequence[str]) -> dict[Name, Path]:
    """``FILE``, or several ``NAME[@SEED]=FILE``, by model and seed in the order given.

    A name has no slash: ``a/b=c.parquet`` is a file.

    >>> [*named_scores(["rational@0=a.parquet", "rational@1=b.parquet", "mlp=c.parquet"])]
    [('rational', 0), ('rational', 1), ('mlp', 0)]
    >>> named_scores(["scores.parquet"])
    {('model', 0): PosixPath('scores.parquet')}
    """
    found: dict[Name, Path] = {}
    for value in values:
        named = _NAMED.fullmatch(value)
        meant = "=" in value and "/" not in value.partition("=")[0]
        if named is None and (meant or len(values) > 1):
            raise InputError(
                f"--scores {value}: expected one FILE, or for each of several NAME=FILE or "
                "NAME@SEED=FILE with a whole number, such as rational@0=r0.parquet"
            )
        name = (named["model"], int(named["seed"] or 0)) if named else ("model", 0)
        if name in found:
            raise InputError(
                f"--scores {value}: a second file of {name[0]}@{name[1]}; number the seeds, as in "
                f"{name[0]}@1=FILE"
            )
        found[name] = Path(named["file"] if named else value).expanduser()
    return found


def with_point(config: GateConfig, point: str | None) -> GateConfig:
    """The configuration with another point to freeze.

    Raises
    ------
    InputError
        There is no such point.
    """
    if point is None:
        return config
    return parse_config({**config.model_dump(mode="json"), "freeze": point}, f"--point {point}")


def read_inputs(
    scores: Sequence[str],
    config: Path,
    *,
    point: str | None = None,
    on_progress: OnProgress = silent,
) -> GateInputs:
    """Configuration first, then every file.

    Parameters
    ----------
    scores : as :func:`named_scores`. point : frozen in place of the configuration's.

    Raises
    ------
    InputError
        As the readers; or models that were not scored on the same cases.
    """
    files = named_scores(scores)
    chosen = with_point(read_config(config), point)
    read: dict[Name, GateScores] = {}
    for done, (name, path) in enumerate(files.items(), start=1):
        read[name] = read_scores(path, chosen)
        _check_same_cases(files, read, name)
        on_progress(done, len(files), path.name)
    (first, own), *others = read.items()
    return GateInputs(own, chosen, dict(others), first)


def changes_since(out: Path, scores: GateScores) -> list[str]:
    """What these scores are that those of the gate in ``out`` were not; empty if there is none."""
    try:
        before = read_bundle(out)
    except InputError:  # nothing frozen there, or nothing that could be trusted
        return []
    then, now = (before.gauge, before.identity), (scores.gauge, scores.identity)
    return reasons_to_rerun(then, now)


def _check_same_cases(files: dict[Name, Path], read: dict[Name, GateScores], name: Name) -> None:
    first = next(iter(read))
    for told, here, there in zip(_TOLD, _cases(read[name]), _cases(read[first]), strict=True):
        if here != there:
            raise InputError(
                f"{files[name]}: {here:,} {told}, and {files[first].name} has {there:,}; models "
                "are compared on the same cases: score them on one set, in one order"
            )


_TOLD = ("rows", "rows in range", "groups", "rows that evaluate", "of them in range")


def _cases(scores: GateScores) -> tuple[int, ...]:
    """Counts that differ as soon as the cases, or without groups their order, do."""
    judge = ~scores.first
    return (
        len(scores),
        int(scores.in_range.sum()),
        scores.n_groups,
        int(judge.sum()),
        int((scores.in_range & judge).sum()),
    )
