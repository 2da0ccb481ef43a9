"""Asking: the blind packet that goes to the reviewers.

Belongs: ``review_packet``.
Does not: packet layout and sampling design (``lib.review``); reading what comes back (``labels``).
Concept: a packet asks about the test split by default, because only its labels move the thresholds;
it is frozen, and never part of a refit.
"""

from pathlib import Path

import dagster as dg

from dagster_project.defs import show
from dagster_project.defs.probabilities import dumped_classes
from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings

CONTROL_SHARE = 0.25


@dg.asset(group_name="mislabels", kinds={"csv"}, owners=["team:dermatology"], code_version="2")
def review_packet(
    settings: dg.ResourceParam[Settings],
    mislabel_candidates: StoredTable,
    dataset_index: StoredTable,
    given_labels: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """A blind packet of candidates and hidden controls; frozen, and never part of a refit."""
    import polars as pl

    from dagster_project.lib.review.packet import PacketDesign, build_packet

    candidates = mislabel_candidates.frame
    if settings.packet_split is not None:
        candidates = candidates.filter(pl.col("split") == settings.packet_split)
    # the frame: candidates and controls come from the same split, every image of which may be asked
    asked = dataset_index.frame.filter(pl.col("split").is_in(candidates["split"].implode()))
    summary = build_packet(
        candidates,
        asked.join(given_labels.frame, on="image_uuid", how="left"),
        settings.dataset_dir,
        settings.packets_dir,
        PacketDesign(
            reviewers=settings.reviewers,
            classes=dumped_classes(settings),
            n=settings.packet_size,
            control_share=CONTROL_SHARE,
        ),
    )
    packet = str(summary["packet"])
    return dg.MaterializeResult(
        value=StoredTable.of(pl.DataFrame({"packet": [packet], "folder": [summary["folder"]]})),
        data_version=dg.DataVersion(packet),
        metadata={
            **show.scalars({k: v for k, v in summary.items() if isinstance(v, (int, str))}),
            **show.packet_links(Path(str(summary["folder"])), settings),
        },
    )


ASSETS = [review_packet]
