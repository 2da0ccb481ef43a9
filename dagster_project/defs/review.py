"""Asking: the blind packet that goes to the reviewers.

Belongs: ``review_packet``.
Does not: sampling design, order and packet layout (``lib.review``); reading what comes back
(``labels``).
Concept: a packet asks about the test split by default, because only its labels move the thresholds;
its strata are tiers of the thresholds in force. It is frozen, and never part of a refit.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.defs import show
from dagster_project.defs.image_issues import compared_images
from dagster_project.defs.probabilities import dumped_classes
from dagster_project.defs.thresholds import fit_of
from dagster_project.lib import progress
from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings

if TYPE_CHECKING:
    from dagster_project.lib.review.packet import PacketDesign


@dg.asset(
    group_name="mislabels",
    kinds={"csv"},
    owners=["team:dermatology"],
    code_version="3",
    deps=["image_issues"],
)
def review_packet(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    mislabel_candidates: StoredTable,
    tier_thresholds: StoredTable,
    expert_reviews: StoredTable,
    dataset_index: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """A blind packet drawn by design; frozen, and never part of a refit."""
    import polars as pl

    from dagster_project.lib.image_issues.look_alikes import similar_groups
    from dagster_project.lib.review.packet import PacketSource, build_packet

    judged = mislabel_candidates.frame
    if settings.packet_split is not None:
        judged = judged.filter(pl.col("split") == settings.packet_split)
    thresholds = fit_of(tier_thresholds).thresholds
    compared = compared_images(settings, dataset_index)
    summary = build_packet(
        PacketSource(judged, dataset_index.frame, settings.dataset_dir, thresholds),
        _design(settings),
        settings.packets_dir,
        reviews=expert_reviews.frame,
        similar=None if compared is None else similar_groups(compared),
        on_progress=progress.lines("review packet", context.log.info, "photograph"),
    )
    row = {"packet": [summary["packet"]], "folder": [summary["folder"]]}
    return dg.MaterializeResult(
        value=StoredTable.of(pl.DataFrame(row)),
        data_version=dg.DataVersion(summary["packet"]),
        metadata={
            **show.packet_links(Path(summary["folder"]), settings),
            **_shown(summary),
        },
    )


def _design(settings: Settings) -> "PacketDesign":
    from dagster_project.lib.review.design import Sampling
    from dagster_project.lib.review.packet import PacketDesign
    from dagster_project.lib.review.shown import read_descriptions

    classes = dumped_classes(settings)
    described = settings.class_descriptions
    return PacketDesign(
        reviewers=settings.reviewers,
        classes=classes,
        sampling=Sampling(settings.packet_size, settings.packet_certain),
        n_repeats=settings.packet_repeats,
        descriptions={} if described is None else read_descriptions(described, classes),
        columns=settings.review_columns,
    )


def _shown(summary: dict[str, Any]) -> dict[str, Any]:
    """Where the packet lies, what it can show, and counts; no image, no patient."""
    import polars as pl

    hand_out = Path(summary["folder"]) / "hand_out"
    counts = {name: value for name, value in summary.items() if isinstance(value, (int, str))}
    return {
        "hand_out": dg.MetadataValue.path(hand_out),
        "can_show": show.reasons(summary["can_show"]),
        "strata": show.table(pl.DataFrame(summary["strata"])),
        **show.scalars({**counts, "n_unreadable": len(summary["unreadable"])}),
        "orders": dg.MetadataValue.json(summary["orders"]),
    }


ASSETS = [review_packet]
