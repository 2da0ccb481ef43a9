"""Jobs: model, dataset, dump, image issues, refit, mislabels, preview, scorecard, roll-up, gate.

Belongs: which assets run together, and by which executor.
Does not: when (``label_sensor``, ``schedules``).
Concept: partitioned and unpartitioned assets never share a job; the refit runs in one process,
because a process for each of its small steps costs far more than the steps.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import dagster as dg

REFIT_JOB = "refit_job"
DUMP_JOB = "dump_job"
CHECKPOINT_DUMP_JOB = "checkpoint_dump_job"
MISLABEL_JOB = "mislabel_job"
SCORECARD_JOB = "scorecard_job"
ROLLUP_JOB = "rollup_job"
GATE_JOB = "gate_job"

REFIT = (
    "expert_reviews",
    "cleaned_labels",
    "scored_test_rows",
    "coverage_curve",
    "tier_thresholds",
    "refer_candidates",
    "possible_item_sweep",
    "tier_report",
    "threshold_release",
    "evaluation_summary",
    "review_findings",
    "cleaned_manifest",
    "label_history",
)
"""What depends on labels: never a dump; never ``review_packet``, which is frozen under review.

None of these depends on what may join them (:data:`JOINS`): a refit counts once all are made.
"""

TRAIN_SIDE = ("mislabel_candidates", "issue_kinds", "prune_list")
"""Added to the refit only while all train shards are current."""

SCORECARD = ("tta_gain", "temperature", "checkpoint_scorecard")
"""Added to the refit only where checkpoints are listed and their shards are current."""

MASKED = "masked_predictions"
ROLLUP = ("rollup_thresholds", "rolled_up_predictions", "rollup_evaluation")
"""Added to the refit only where a taxonomy is set; the masked rows before them need no label."""

JOINS = {MISLABEL_JOB: TRAIN_SIDE, SCORECARD_JOB: SCORECARD, ROLLUP_JOB: (MASKED, *ROLLUP)}
"""What may join a refit, by the job that makes it apart from one."""

AFTER_RELEASE, JOINS_FIRST, READS_THOSE, JOINS_LAST = (
    {"dagster/priority": str(-turn)} for turn in (1, 2, 3, 4)
)
"""Op tags: the turns of a refit's steps, which one process takes by priority, after the release.

The history; the train side; what looks up in the store what that left, without a dependency, which
would skip it where the train side fails; the scorecard and the roll-up. So a failure in what joins
skips nothing of :data:`REFIT`, and a process that dies in the last turn has made all of it.
"""

GATE = ("gate_sweep", "gate_operating_points", "gate_bundle")
"""Made of scores that somebody brings, not of the dataset: none of them joins a refit."""

ROLLUP_CHECKS = [dg.AssetCheckKey(dg.AssetKey("rollup_evaluation"), "rollup_certified")]

SCORECARD_CHECKS = [dg.AssetCheckKey(dg.AssetKey("checkpoint_scorecard"), "checkpoint_verdicts")]

REFIT_CHECKS = [
    dg.AssetCheckKey(dg.AssetKey(asset), name)
    for asset, name in (
        ("test_probabilities", "test_dump_complete"),
        ("expert_reviews", "label_drop_status"),
        ("cleaned_labels", "labels_known_and_joined"),
        ("scored_test_rows", "every_image_accounted_for"),
        ("tier_thresholds", "thresholds_ordered"),
        ("tier_report", "change_within_bound"),
        ("tier_report", "tiers_sum_to_n"),
        ("tier_report", "rounding_kept"),
    )
]


def refit_assets(
    with_train_side: bool, with_scorecard: bool = False, rollup: Sequence[str] = ()
) -> list[dg.AssetKey]:
    """The explicit selection of one refit. ``rollup``: which assets of the roll-up join."""
    names = (
        *REFIT,
        *(TRAIN_SIDE if with_train_side else ()),
        *(SCORECARD if with_scorecard else ()),
        *rollup,
    )
    return [dg.AssetKey(name) for name in names]


def refit_checks(with_scorecard: bool, with_rollup: bool = False) -> list[dg.AssetCheckKey]:
    """The checks of that selection."""
    return [
        *REFIT_CHECKS,
        *(SCORECARD_CHECKS if with_scorecard else ()),
        *(ROLLUP_CHECKS if with_rollup else ()),
    ]


Row = tuple[str, dg.AssetSelection, str]
"""A job: its name, what it makes, and what for."""


def build_jobs(
    artifacts: Sequence[dg.AssetKey] = (),
    dumps: Iterable[dg.AssetKey] = (),
    *,
    with_rollup: bool = False,
) -> list[Any]:
    """All jobs, by what people call them; two more where checkpoints are listed (their keys).

    Without a checkpoint there is nothing to compare: a refit has no scorecard then.
    ``with_rollup``: a taxonomy is set, and the roll-up may join a refit.
    """
    rollup = (MASKED, *ROLLUP) if with_rollup else ()
    refit = dg.AssetSelection.assets(*refit_assets(True, bool(artifacts), rollup))
    rows: list[Row] = [
        *((name, dg.AssetSelection.assets(*assets), why) for name, assets, why in _ALWAYS),
        (
            REFIT_JOB,
            refit | dg.AssetSelection.checks(*REFIT_CHECKS),
            "Everything that depends on labels, and nothing else.",
        ),
        *(_checkpoint_rows(artifacts, dumps) if artifacts else ()),
    ]
    return [
        dg.define_asset_job(name, made, description=why, executor_def=dg.in_process_executor)
        for name, made, why in rows
    ]


_ALWAYS = (
    (
        "model_sync_job",
        ("model_artifact",),
        "Fetch and verify the model artifact, and publish it by its content.",
    ),
    (
        "dataset_job",
        ("dataset_index", "given_labels"),
        "Read the manifest, the splits and the given labels again.",
    ),
    (
        DUMP_JOB,
        ("test_probabilities", "train_probabilities"),
        "GPU work, one run a shard; equal shards are recognised and not run again.",
    ),
    (
        MISLABEL_JOB,
        (*TRAIN_SIDE, "next_reviews", "review_packet"),
        "Find suspicious labels, list what may be dropped, freeze a blind packet.",
    ),
    (
        "image_issues_job",
        ("image_fingerprints", "image_issues"),
        "After a dump: garbage, outliers, copies and leaks; no label is read.",
    ),
    (
        "policy_preview_job",
        ("policy_preview",),
        "Try another tier policy; the thresholds in force stay what they are.",
    ),
    (
        SCORECARD_JOB,
        SCORECARD,
        "Compare the checkpoints with the baseline, on the labels in force.",
    ),
    (
        ROLLUP_JOB,
        (MASKED, *ROLLUP),
        "When unsure, say less: mask, thresholds, roll-up, and what it is worth.",
    ),
    (
        GATE_JOB,
        GATE,
        "Sweep a gate's threshold over the scores, choose its operating points, freeze one.",
    ),
    (
        "gate_monitoring_job",
        ("gate_monitoring",),
        "How often the gate in service answers, marks and declines the newest scores.",
    ),
)
"""The jobs that are the same whatever is configured: name, assets, what for."""


def _checkpoint_rows(
    artifacts: Sequence[dg.AssetKey], dumps: Iterable[dg.AssetKey]
) -> tuple[Row, Row]:
    return (
        (
            "checkpoint_sync_job",
            dg.AssetSelection.assets(*artifacts),
            "Fetch and verify the listed checkpoints; the model in service stays.",
        ),
        (
            CHECKPOINT_DUMP_JOB,
            dg.AssetSelection.assets(*dumps),
            "GPU work, one run a shard of all checkpoints; equal bytes are not run.",
        ),
    )
