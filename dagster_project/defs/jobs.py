"""Jobs: model sync, dataset, dump, image issues, refit, mislabels, preview, scorecard, roll-up.

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
"""What depends on labels: never a dump; never ``review_packet``, which is frozen under review."""

TRAIN_SIDE = ("mislabel_candidates", "issue_kinds", "prune_list")
"""Added to the refit only while all train shards are current."""

SCORECARD = ("tta_gain", "temperature", "checkpoint_scorecard")
"""Added to the refit only where checkpoints are listed and their shards are current."""

MASKED = "masked_predictions"
ROLLUP = ("rollup_thresholds", "rolled_up_predictions", "rollup_evaluation")
"""Added to the refit only where a taxonomy is set; the masked rows before them need no label."""

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
    listed = _checkpoint_jobs(artifacts, dumps) if artifacts else []
    rollup = (MASKED, *ROLLUP)
    refit = (
        *REFIT,
        *TRAIN_SIDE,
        *(SCORECARD if artifacts else ()),
        *(rollup if with_rollup else ()),
    )
    assets = dg.AssetSelection.assets
    checks = dg.AssetSelection.checks
    in_process = dg.in_process_executor
    return [
        dg.define_asset_job(
            "model_sync_job",
            assets("model_artifact"),
            description="Fetch and verify the model artifact, and publish it by its content.",
            executor_def=in_process,
        ),
        dg.define_asset_job(
            "dataset_job",
            assets("dataset_index", "given_labels"),
            description="Read the manifest, the splits and the given labels again.",
            executor_def=in_process,
        ),
        dg.define_asset_job(
            DUMP_JOB,
            assets("test_probabilities", "train_probabilities"),
            description="GPU work, one run a shard; equal shards are recognised and not run again.",
            executor_def=in_process,
        ),
        dg.define_asset_job(
            REFIT_JOB,
            assets(*refit) | checks(*REFIT_CHECKS),
            description="Everything that depends on labels, and nothing else.",
            executor_def=in_process,
        ),
        dg.define_asset_job(
            "mislabel_job",
            assets(*TRAIN_SIDE, "next_reviews", "review_packet"),
            description="Find suspicious labels, list what may be dropped, freeze a blind packet.",
            executor_def=in_process,
        ),
        dg.define_asset_job(
            "image_issues_job",
            assets("image_fingerprints", "image_issues"),
            description="After a dump: garbage, outliers, copies and leaks; no label is read.",
            executor_def=in_process,
        ),
        dg.define_asset_job(
            "policy_preview_job",
            assets("policy_preview"),
            description="Try another tier policy; the thresholds in force stay what they are.",
            executor_def=in_process,
        ),
        dg.define_asset_job(
            "scorecard_job",
            assets(*SCORECARD),
            description="Compare the checkpoints with the baseline, on the labels in force.",
            executor_def=in_process,
        ),
        dg.define_asset_job(
            "rollup_job",
            assets(*rollup),
            description="When unsure, say less: mask, thresholds, roll-up, and what it is worth.",
            executor_def=in_process,
        ),
        *listed,
    ]


def _checkpoint_jobs(artifacts: Sequence[dg.AssetKey], dumps: Iterable[dg.AssetKey]) -> list[Any]:
    return [
        dg.define_asset_job(
            "checkpoint_sync_job",
            dg.AssetSelection.assets(*artifacts),
            description="Fetch and verify the listed checkpoints; the model in service stays.",
            executor_def=dg.in_process_executor,
        ),
        dg.define_asset_job(
            CHECKPOINT_DUMP_JOB,
            dg.AssetSelection.assets(*dumps),
            description="GPU work, one run a shard of all checkpoints; equal bytes are not run.",
            executor_def=dg.in_process_executor,
        ),
    ]
