"""The roll-up of one table, from probabilities to everything that is known of it.

Belongs: calling this room in order: mask, fit, place, record, evaluate; one plain value of it all.
Does not: any statistic, wording (``words``), drawing (``pictures``), files (``publish``).
Concept: every image is placed; only images that have a label, too, are judged. The report holds
aggregates only and is JSON through and through, so that a notebook, the command line and an asset
read the same one. N = images, K = classes, R = ranks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib import tables
from dagster_project.lib.config_file import config_sha256
from dagster_project.lib.errors import InputError
from dagster_project.lib.progress import OnProgress, silent
from dagster_project.lib.rollup.candidates import BY_RANK, RollUp, check_by_rank
from dagster_project.lib.rollup.config import FitThresholds
from dagster_project.lib.rollup.evaluation import evaluate
from dagster_project.lib.rollup.fit import aims_of, fit_thresholds
from dagster_project.lib.rollup.place import given_thresholds, place
from dagster_project.lib.rollup.placed import REASONS, UNPLACED
from dagster_project.lib.rollup.prepare import prepare
from dagster_project.lib.rollup.provenance import (
    Record,
    make_record,
    source_version,
    thresholds_of,
    used_sha256,
)
from dagster_project.lib.rollup.rules import compared_rules
from dagster_project.lib.rollup.specificity import PARAMETERS
from dagster_project.lib.rollup.transitions import leaf_of
from dagster_project.lib.rollup.truth import REVIEW_COLUMNS, REVIEW_MORE, Truth, truth_of
from dagster_project.lib.tiers.assign import tier_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt
    import polars as pl

    from dagster_project.lib.probability_table import ProbabilityTable
    from dagster_project.lib.rollup.config import RollupConfig
    from dagster_project.lib.rollup.fit import RankThresholds
    from dagster_project.lib.rollup.placed import Placed
    from dagster_project.lib.rollup.prepare import Prepared
    from dagster_project.lib.rollup.taxonomy import Taxonomy
    from dagster_project.lib.tiers.thresholds import Thresholds

    Ints = npt.NDArray[np.int64]
    Look = Callable[[Iterable[str], Mapping[str, str | None]], int]

STEPS = ("mask and normalise", "thresholds", "place", "record", "evaluate", "other rules")

NO_LABELS = (
    "thresholds are to be fitted, and there are no labels; pass labels (--labels), or give "
    'thresholds by rank in the configuration, as in {"class": 0.8, "family": 0.7}'
)


@dataclass(frozen=True)
class Labelled:
    """The images of a table that can be judged, sorted by ``image_uuid``.

    Attributes
    ----------
    at : (M,) their rows in the table.
    truth : of them, in that order; with tiers where thresholds are known.
    source : what is said of the labels, for the report.
    """

    at: Ints
    truth: Truth
    source: str = "unstated"


@dataclass(frozen=True)
class RollupInputs:
    """What a roll-up is made of.

    Attributes
    ----------
    table : N rows, with or without probabilities.
    taxonomy : over its classes in their order. name : what it is called.
    labelled : None: nothing is fitted and nothing judged.
    beside : further taxonomies by name: only how much confusion they capture is told.
    """

    table: ProbabilityTable
    taxonomy: Taxonomy
    name: str
    config: RollupConfig
    labelled: Labelled | None = None
    beside: Mapping[str, Taxonomy] = field(default_factory=dict)


@dataclass(frozen=True)
class RolledUp:
    """All that comes of it. ``report`` as :func:`make_report` says."""

    record: Record
    report: dict[str, Any]


def labelled_rows(
    table: ProbabilityTable,
    scored: pl.DataFrame,
    thresholds: Thresholds | None = None,
    *,
    source: str = "unstated",
) -> Labelled:
    """Find the rows of ``scored_rows.score_rows`` in the table they were scored from.

    Parameters
    ----------
    scored : with the columns of a review (``review.sample.with_reviews``), where there was one.
    thresholds : of the tiers; None: images have no tier.
    """
    import polars as pl

    columns = ["image_uuid", "label", "patient_id"]
    columns += [name for name in (*REVIEW_COLUMNS, *REVIEW_MORE) if name in scored.columns]
    if thresholds is not None:
        scored = scored.with_columns(tier=tier_of(scored, thresholds))
        columns += ["tier", "top1", "top3"]
    numbered = table.frame.select("image_uuid").with_row_index("at")
    rows = scored.select(columns).join(numbered, on="image_uuid", how="left").sort("image_uuid")
    if rows["at"].null_count():
        raise InputError(
            "scored rows of images that the probabilities do not have: score them anew"
        )
    return Labelled(
        rows["at"].cast(pl.Int64).to_numpy(),
        truth_of(rows.select(columns), table.classes),
        source,
    )


def check_config(config: RollupConfig, taxonomy: Taxonomy, *, labels: bool) -> None:
    """Raise unless configuration and taxonomy fit together, before any work.

    Raises
    ------
    InputError
        A rank that the taxonomy has not, thresholds to fit without labels, thresholds under a rule
        that has none for each rank, a parameter under one that has; as :func:`place.place` on
        a parameter.
    """
    thresholds = _given(config, taxonomy)
    if thresholds is None:
        if not labels:
            raise InputError(NO_LABELS)
        thresholds = np.full(len(taxonomy.ranks), np.nan)
    nothing = np.empty((0, len(taxonomy.classes)))
    place(prepare(nothing, taxonomy.classes, config), taxonomy, config, thresholds)


def rollup_of(
    prepared: Prepared,
    taxonomy: Taxonomy,
    config: RollupConfig,
    labelled: Labelled | None,
    *,
    look: Callable[[], int] | None = None,
) -> tuple[RollUp, RankThresholds | None]:
    """The roll-up with its thresholds, given or fitted, and what is known of a fit.

    Parameters
    ----------
    prepared : N rows of the table. labelled : needed to fit, else not looked at.
    look : counts this look at the labels, before a fit; None: not counted.
    """
    thresholds = _given(config, taxonomy)
    if thresholds is not None:
        return RollUp(taxonomy, config, thresholds), None
    if labelled is None:
        raise InputError(NO_LABELS)
    looks = None if look is None else look()
    rows = taken(prepared, labelled.at)
    fit = fit_thresholds(rows, labelled.truth, taxonomy, config, looks=looks)
    return RollUp(taxonomy, config, fit.thresholds), fit


def look_of(
    table: ProbabilityTable, taxonomy: Taxonomy, config: RollupConfig, labelled: Labelled
) -> tuple[list[str], dict[str, str | None]]:
    """What ``evidence.looks.count_look`` needs: ids of the judged images, and what else it is.

    The same labels, reviews, outputs, taxonomy and configuration again are no further look.
    """
    truth, review = labelled.truth, labelled.truth.review
    rows = truth.keys.with_columns(true=truth.true)
    if review is not None:
        rows = rows.with_columns(
            given=review.given,
            reviewed=review.reviewed,
            asked=review.asked,
            probability=review.probability,
        )
    what = {
        "labels": tables.digest_frame(rows),
        "source": source_version(table),
        "taxonomy_sha256": taxonomy.sha256,
        "config_sha256": config_sha256(config),
    }
    return truth.keys["image_uuid"].to_list(), dict(what)


def _given(config: RollupConfig, taxonomy: Taxonomy) -> npt.NDArray[np.float64] | None:
    """(R,) thresholds that need no label; None: they are fitted."""
    if config.rule not in BY_RANK:  # a parameter in their place
        if config.thresholds != FitThresholds():
            raise InputError(
                f"thresholds: rule {config.rule} has one number (parameter) in their place; remove "
                f"them, or choose {', '.join(BY_RANK)}"
            )
        return np.full(len(taxonomy.ranks), np.nan)
    if config.parameter is not None:
        raise InputError(
            f"parameter: got {config.parameter:g}, and rule {config.rule} has none; remove it, or "
            f"choose {', '.join(PARAMETERS)}"
        )
    if isinstance(config.thresholds, FitThresholds):
        aims_of(config.thresholds, taxonomy.ranks)
        check_by_rank(config)
        return None
    return given_thresholds(config.thresholds, taxonomy)


def taken(prepared: Prepared, at: Ints) -> Prepared:
    """These rows only."""
    return replace(
        prepared,
        values=prepared.values[at],
        raw_max=prepared.raw_max[at],
        kept_mass=prepared.kept_mass[at],
        decided=prepared.decided[at],
    )


def roll_up(
    inputs: RollupInputs, *, look: Look | None = None, on_progress: OnProgress = silent
) -> RolledUp:
    """Everything, in order.

    Parameters
    ----------
    look : counts a look at labels that thresholds are fitted on; None: not counted.

    Raises
    ------
    InputError
        As :func:`check_config`, :func:`prepare.prepare`, :func:`fit.fit_thresholds`.
    """
    steps = _Steps(on_progress)
    check_config(inputs.config, inputs.taxonomy, labels=inputs.labelled is not None)
    prepared = prepare(inputs.table.probs, inputs.table.classes, inputs.config)
    steps.next()
    rollup, fit = rollup_of(
        prepared,
        inputs.taxonomy,
        inputs.config,
        inputs.labelled,
        look=None if look is None else lambda: look(*_look_of(inputs)),
    )
    steps.next()
    placed = rollup.applied(prepared)
    steps.next()
    record = make_record(inputs.table, prepared, placed, rollup)
    steps.next()
    judged = judge(inputs, prepared, rollup, steps=steps)
    told = None if fit is None else fit.as_dict()
    return RolledUp(record, make_report(inputs, rollup, placed, told, judged))


def _look_of(inputs: RollupInputs) -> tuple[list[str], dict[str, str | None]]:
    if inputs.labelled is None:
        raise InputError(NO_LABELS)
    return look_of(inputs.table, inputs.taxonomy, inputs.config, inputs.labelled)


def judge(
    inputs: RollupInputs, prepared: Prepared, rollup: RollUp, *, steps: _Steps | None = None
) -> dict[str, Any]:
    """``evaluation`` and ``rules`` of a report; null without labels.

    Parameters
    ----------
    prepared : N rows of the table.
    """
    if inputs.labelled is None:
        return {"evaluation": None, "rules": None}
    at, truth = inputs.labelled.at, inputs.labelled.truth
    rows = taken(prepared, at)
    placed = rollup.applied(rows)
    found = evaluate(
        rows,
        placed,
        truth,
        rollup,
        before=_unmasked_leaf(inputs, rollup, at) if not prepared.allowed.all() else None,
        taxonomies={inputs.name: inputs.taxonomy, **inputs.beside},
    )
    if steps is not None:
        steps.next()
    compared = compared_rules(rows, rollup, truth)
    if steps is not None:
        steps.next()
    return {"evaluation": found, "rules": compared}


def _unmasked_leaf(inputs: RollupInputs, rollup: RollUp, at: Ints) -> Placed:
    """What the whole model says: before any mask."""
    whole = inputs.config.model_copy(update={"mask": None})
    prepared = prepare(inputs.table.probs[at], inputs.table.classes, whole)
    return leaf_of(replace(rollup, config=whole).applied(prepared))


def make_report(
    inputs: RollupInputs,
    rollup: RollUp,
    placed: Placed,
    fit: Mapping[str, Any] | None,
    judged: Mapping[str, Any],
) -> dict[str, Any]:
    """All that is known, as plain JSON.

    Parameters
    ----------
    placed : of all N rows. fit : ``RankThresholds.as_dict``. judged : of :func:`judge`.

    Returns
    -------
    ``config, config_hash`` (with the thresholds used), ``taxonomy`` (``name, sha256, validated,
    ranks, lineages``), ``model_tree_hash`` (null unless the table says), ``classes``; ``n`` images,
    ``n_judged`` (with probabilities and a label; null without labels), ``labels`` (what is said of
    them), ``reviewed`` (``n_reviewed`` of ``n`` judged, ``n_drawn`` of these by chance with a known
    probability, ``in_part``; null: not known); ``thresholds`` (rank -> threshold), ``fit`` (as
    given, or null);
    ``placed`` : of all N images ``reasons`` and, by ``rank``, ``n`` and ``share``;
    ``evaluation`` (``evaluation.evaluate`` or null), ``rules`` (``rules.compared_rules`` or null).
    """
    taxonomy, labelled = inputs.taxonomy, inputs.labelled
    n = len(placed.node)
    counts = [int((placed.rank == rank).sum()) for rank in range(len(taxonomy.ranks))]
    by_rank = [
        {"rank": rank, "n": k, "share": k / n if n else None}
        for rank, k in zip(taxonomy.ranks, counts, strict=True)
    ]
    report = {
        "config": rollup.config.model_dump(mode="json"),
        "config_hash": used_sha256(rollup),
        "taxonomy": {
            "name": inputs.name,
            "sha256": taxonomy.sha256,
            "validated": taxonomy.validated,
            "ranks": list(taxonomy.ranks),
            "lineages": [list(lineage) for lineage in taxonomy.lineages],
        },
        "model_tree_hash": inputs.table.metadata.get("model_tree_hash"),
        "classes": list(taxonomy.classes),
        "n": n,
        "n_judged": None if labelled is None else len(labelled.truth),
        "labels": None if labelled is None else labelled.source,
        "reviewed": None if labelled is None else _reviewed(labelled.truth),
        "thresholds": thresholds_of(rollup),
        "fit": fit,
        "placed": {
            "reasons": {name: int((placed.reason == at).sum()) for at, name in enumerate(REASONS)},
            "by_rank": by_rank,
            "unplaced": int((placed.node == UNPLACED).sum()),
        },
        **judged,
    }
    plain: dict[str, Any] = json.loads(json.dumps(report, allow_nan=False))
    return plain


def _reviewed(truth: Truth) -> dict[str, Any] | None:
    review = truth.review
    if review is None:
        return None
    return {
        "n_reviewed": review.n_reviewed,
        "n": len(truth),
        "n_drawn": review.n_drawn,
        "in_part": review.in_part,
    }


class _Steps:
    """Counts finished steps for a progress callback."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._show, self._done = on_progress, 0

    def next(self) -> None:
        self._done += 1
        self._show(self._done, len(STEPS), STEPS[self._done - 1])
