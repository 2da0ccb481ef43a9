"""What a release was made from, so that it can be made again and compared.

Belongs: the record of inputs and options in ``run.json``, the refit from such a record, the copy of
scored rows that a Dagster run leaves, the comparison byte by byte.
Does not: any statistic (``tiers``), the refit itself (``refit``), hashes and names of a release
(``bundle``).
Concept: one function makes a release the first time and again, from paths and a plain JSON value.
``metadata.json`` is hashed and holds the content of the rows, so that how they were cut into files
changes no byte; ``run.json`` is not, and holds the files with their paths. N = scored rows.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.lib import files, sums, tables
from dagster_project.lib.environment import environment, environment_changes
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.labels.given import given_version, labels_on
from dagster_project.lib.mislabels.out_of_fold import check_folds
from dagster_project.lib.probability_table import open_probabilities
from dagster_project.lib.release import bundle
from dagster_project.lib.release.refit import RefitResult, refit
from dagster_project.lib.review import sample
from dagster_project.lib.tiers.evaluation import Context, LabelsInfo, groups_in
from dagster_project.lib.tiers.policy import parse_policy, policy_sha256, read_policy
from dagster_project.lib.tiers.scored_rows import as_text, labels_in, score_counts, score_rows
from dagster_project.lib.tiers.thresholds import Thresholds, read_deployed

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from dagster_project.lib.probability_table import Probabilities
    from dagster_project.lib.tiers.policy import TierPolicy

Paths = Mapping[str, Path]
"""Role -> file: ``probs_00``, ``baseline_00``, ``labels``, ``baseline_labels``,
``reviewed_labels``, ``metadata``, ``classes``, ``row_ids``, ``folds``, ``policy``, ``deployed``; or
``scored_rows`` and ``baseline_rows``."""

Look = Callable[["pl.Series", Mapping[str, str | None]], int]
"""(image ids, what else makes the look) -> how many looks at these rows there have been."""

SCORED = "scored_rows"
BASELINE = "baseline_rows"
RECORD = "recompute"
_SLICE = 100_000


def named_files(
    probs: Sequence[Path], baseline: Sequence[Path] = (), **single: Path | None
) -> dict[str, Path]:
    """The files of a refit by role; a role whose path is None is left out."""
    many = {"probs": probs, "baseline": baseline}
    numbered = {f"{role}_{i:02d}": path for role, paths in many.items()
                for i, path in enumerate(paths)}  # fmt: skip
    return {**numbered, **{role: path for role, path in single.items() if path is not None}}


def refit_files(
    paths: Paths,
    options: Mapping[str, Any],
    *,
    made_by: Mapping[str, Any] | None = None,
    look: Look | None = None,
) -> RefitResult:
    """Refit from files, as ``tier-refit refit`` does.

    Parameters
    ----------
    paths : of :func:`named_files`.
    options : plain JSON. ``policy`` and ``deployed`` (used where no such file is given; deployed
        may be null), ``reviewed`` (these labels are reviewed), ``max_change``, ``subgroups``
        (columns of ``metadata`` to show; null: those with few groups), ``looks`` (null: not
        counted).
    made_by : code and libraries that ``metadata.json`` names; None: those of this process.
    look : counts this look; ``options["looks"]`` then does not matter.

    Raises
    ------
    InputError, RefusedError
        As the readers of the files and ``refit`` raise them.
    """
    policy = _policy(paths, options)
    classes = paths.get("classes")
    probs = _many(paths, "probs")
    table = open_probabilities(probs, classes, row_ids=paths.get("row_ids"))
    check_folds(table.frame, probs, assignment=paths.get("folds"))
    given = labels_of(paths.get("labels"), table)
    labels, reviews = labels_in_force(paths.get("reviewed_labels"), table, given)
    version = given_version(labels)  # before the rows are scored: it takes as much memory
    scored = score_rows(table, labels, compact=True)
    if reviews is not None:
        scored = sample.with_reviews(scored, *reviews)
    baseline = _baseline(paths, table, labels)
    n_reviewed = None
    if "reviewed" in scored.columns:
        n_reviewed = int(scored["reviewed"].sum())
    provenance = replace(
        bundle.provenance_of(table, score_counts(table, labels)),
        inputs=contents_of(scored, baseline),
        environment=made_by,
    )
    looks = options.get("looks")
    if look is not None:
        what = {
            "rows_sha256": contents_of(scored)[SCORED]["sha256"],
            "policy_sha256": policy_sha256(policy),
        }
        looks = look(scored["image_uuid"], what)
    metadata = paths.get("metadata")
    context = Context(
        LabelsInfo(version, not options["reviewed"], n_reviewed),
        deployed=_deployed(paths, options),
        baseline=baseline,
        groups=None if metadata is None else _metadata(metadata, options.get("subgroups") or ()),
        subgroups=options.get("subgroups"),
        looks=looks,
        classes=provenance.classes,
    )
    del table, given, labels, reviews  # the fit needs none of them, and may need the memory
    return refit(scored, policy, context, provenance, max_change=options["max_change"])


def refit_rows(
    paths: Paths, options: Mapping[str, Any], *, made_by: Mapping[str, Any] | None = None
) -> RefitResult:
    """Refit from a copy of scored rows, as a Dagster run releases them.

    Parameters
    ----------
    paths : ``scored_rows`` and, where it was compared with one, ``baseline_rows``; of
        :func:`keep_rows`.
    options : plain JSON: ``policy``, ``deployed`` (may be null), ``labels`` (a ``LabelsInfo``),
        ``reviews`` (may be null), ``provenance`` (of ``Provenance.as_json``), ``max_change``,
        ``subgroups``, ``looks``.
    made_by : as in :func:`refit_files`.
    """
    columns = ["image_uuid", "score"]
    scored = tables.read_table(paths[SCORED], columns)
    baseline = tables.read_table(paths[BASELINE], columns) if BASELINE in paths else None
    provenance = bundle.Provenance.of_json(options["provenance"])
    context = Context(
        LabelsInfo(**options["labels"]),
        options.get("reviews"),
        deployed=_deployed(paths, options),
        baseline=baseline,
        groups=groups_in(scored),
        subgroups=options.get("subgroups"),
        looks=options.get("looks"),
        classes=provenance.classes,
    )
    return refit(
        scored,
        _policy(paths, options),
        context,
        replace(provenance, inputs=contents_of(scored, baseline), environment=made_by),
        max_change=options["max_change"],
    )


def labels_in_force(
    path: Path | None, table: Probabilities, given: pl.DataFrame
) -> tuple[pl.DataFrame, tuple[pl.DataFrame, pl.DataFrame] | None]:
    """Labels as given, or with reviewed ones in their place; and what says which are reviewed.

    Parameters
    ----------
    path : of ``--reviewed-labels`` (``sample.read_reviewed``), or None.

    Returns
    -------
    Labels; and the second and third argument of ``sample.with_reviews``, None without a file.
    """
    if path is None:
        return given, None
    reviewed = sample.read_reviewed(path, table.classes)
    cleaned = sample.apply_reviewed(given, reviewed)
    labels = cleaned.select("image_uuid", "label")
    if "patient_id" in given.columns:
        labels = labels.join(given.select("image_uuid", "patient_id"), on="image_uuid", how="left")
    return labels, (cleaned, sample.design_of(reviewed, table.frame["image_uuid"]))


def _metadata(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Metadata columns by image; faults are named by file."""
    groups = tables.read_table(path, ["image_uuid", *columns])
    twice = tables.duplicates(groups, "image_uuid")
    if twice:
        raise InputError(
            f"{path.name}, column image_uuid: {some(twice)} on more than one row; keep one"
        )
    return groups


def _baseline(paths: Paths, table: Probabilities, labels: pl.DataFrame) -> pl.DataFrame | None:
    """What is compared with: other probabilities, other labels, or both; None: neither."""
    old, path = _many(paths, "baseline"), paths.get("baseline_labels")
    if not old and path is None:
        return None
    before = open_probabilities(old, paths.get("classes")) if old else table
    return score_rows(before, labels if path is None else labels_of(path, before), compact=True)


def labels_of(path: Path | None, table: Probabilities) -> pl.DataFrame:
    """Labels from a file (``labels.given.labels_on``), or those that travel with the table."""
    if path is None:
        return labels_in(table)
    return labels_on(path, table.frame["image_uuid"], table.classes)


def contents_of(scored: pl.DataFrame, baseline: pl.DataFrame | None = None) -> dict[str, Any]:
    """For ``metadata.json``: name -> ``{rows, sha256}`` of the rows that every number comes from.

    The hash is of columns, types and values in order, taken slice by slice (memory stays small);
    it says nothing about a row that is not known already.
    """
    given = {SCORED: scored, BASELINE: baseline}
    return {
        name: {"rows": frame.height, "sha256": _digest(frame)}
        for name, frame in given.items()
        if frame is not None
    }


def keep_rows(folder: Path, rows: pa.Table) -> Path:
    """Publish a copy of scored rows as ``folder/<sha256>.parquet``; an equal one is left.

    These are rows of patients: the folder lies beside the releases, never in one.
    """
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd", write_page_checksum=True)
    data = sink.getvalue()
    path = folder / f"{files.sha256_bytes(data)}.parquet"
    if not (path.is_file() and files.sha256_file(path) == path.stem):
        with files.publish(path) as temp:
            temp.write_bytes(data)
    return path


def record(paths: Paths, options: Mapping[str, Any]) -> dict[str, Any]:
    """For ``run.json``: each file with path, sha256 and size, and the options of the refit."""
    found = {}
    for role, path in {**paths, **_beside(paths)}.items():
        whole = path.resolve()
        found[role] = {
            "path": str(whole), "sha256": files.sha256_file(whole), "bytes": whole.stat().st_size
        }  # fmt: skip
    return {"files": found, "options": dict(options)}


def recompute(folder: Path) -> list[str]:
    """Refit from the inputs that ``run.json`` records and compare with what was released.

    Returns
    -------
    One sentence for each input that has changed since (then nothing is computed), or for each
    hashed file that comes out otherwise; then one with the versions that differ, the likely reason.
    Empty when every byte is the same. ``metadata.json`` is made with the recorded code and library
    versions: that those changed is no difference as long as the results are the same.

    Raises
    ------
    InputError
        No record of inputs, or one of them is not there any more.
    RefusedError
        The refit finds no threshold that meets the policy.
    """
    recorded = _recorded(folder)
    paths = {role: Path(entry["path"]) for role, entry in recorded["files"].items()}
    gone = [f"{role} ({path})" for role, path in paths.items() if not path.is_file()]
    if gone:
        raise InputError(
            f"{folder / sums.RUN}: inputs are not there any more: {', '.join(gone)}; "
            "put them back to recompute"
        )
    changed = [
        f"{role}: {path} is not what the release was made from"
        for role, path in paths.items()
        if files.sha256_file(path) != recorded["files"][role]["sha256"]
    ]
    if changed:
        return changed
    then = _made_by(folder)
    again = refit_rows if SCORED in paths else refit_files
    made = again(paths, recorded["options"], made_by=then).contents
    differing = []
    for name, digest in sums.read_sums(folder).items():
        if name not in made:
            differing.append(f"{name}: the refit does not write it")
        elif files.sha256_bytes(made[name]) != digest:
            differing.append(f"{name}: comes out otherwise")
    versions = environment_changes(then, environment()) if differing and then else []
    return differing + ([f"likely reason: {', '.join(versions)}"] if versions else [])


def _recorded(folder: Path) -> Mapping[str, Any]:
    path = folder / sums.RUN
    found = files.read_json(path).get(RECORD)
    try:
        for entry in found["files"].values():  # type: ignore[index]
            Path(entry["path"]), entry["sha256"]
        if isinstance(found["options"], dict) and found["files"]:  # type: ignore[index]
            return found  # type: ignore[return-value]
    except (KeyError, TypeError, AttributeError):
        pass
    raise InputError(
        f"{path}: does not say what the release was made from; only a release made with that "
        "record can be recomputed"
    )


def _made_by(folder: Path) -> dict[str, Any] | None:
    """Code and libraries as ``metadata.json`` names them; None where it is not written."""
    if not (folder / "metadata.json").is_file():  # a blocked refit
        return None
    found = files.read_json(folder / "metadata.json")
    return {key: found[key] for key in ("code", "packages") if key in found}


def _beside(paths: Paths) -> dict[str, Path]:
    """``labels.txt`` beside probabilities that do not name their classes themselves."""
    if "classes" in paths:
        return {}
    found = {}
    for role, path in paths.items():
        beside = path.parent / "labels.txt"
        is_table = role.startswith(("probs", "baseline"))
        if is_table and beside.is_file() and "classes" not in tables.read_metadata(path):
            found[f"{role}_classes"] = beside
    return found


def _many(paths: Paths, role: str) -> list[Path]:
    numbered = [name for name in paths if name.removeprefix(f"{role}_").isdecimal()]
    return [paths[name] for name in sorted(numbered, key=lambda name: int(name.split("_")[1]))]


def _policy(paths: Paths, options: Mapping[str, Any]) -> TierPolicy:
    return read_policy(paths["policy"]) if "policy" in paths else parse_policy(options["policy"])


def _deployed(paths: Paths, options: Mapping[str, Any]) -> Thresholds | None:
    if "deployed" in paths:
        return read_deployed(paths["deployed"])
    return None if options["deployed"] is None else Thresholds(**options["deployed"])


def _digest(frame: pl.DataFrame) -> str:
    whole = hashlib.sha256()
    for part in frame.iter_slices(_SLICE):
        whole.update(tables.digest_frame(as_text(part)).encode())
    return whole.hexdigest()
