"""Stage 3: suspicious labels, and the blind packet that asks about them.

Belongs: ``mislabel_candidates`` (both splits) and ``review_packet``.
Does not: confident learning, montage, packet layout (``lib.mislabels``).
Concept: the test split is out of sample, the train split is not, and each row says which. A packet
asks about the test split by default, because only its labels move the thresholds.
"""

from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.defs import show
from dagster_project.defs.probabilities import dumped_classes, whole_dump
from dagster_project.lib.errors import InputError
from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings

if TYPE_CHECKING:
    from dagster_project.lib.mislabels.candidates import Candidates

IN_SAMPLE = {"test": False, "train": True}
CONTROL_SHARE = 0.25


@dg.asset(
    group_name="mislabels", kinds={"cleanlab"}, owners=["team:data-science"], code_version="1"
)
def mislabel_candidates(
    settings: dg.ResourceParam[Settings],
    test_probabilities: dict[str, StoredTable],
    train_probabilities: dict[str, StoredTable],
    cleaned_labels: StoredTable,
    dataset_index: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """Rows whose label the model contradicts, worst first: candidates for review, not verdicts."""
    import polars as pl

    from dagster_project.lib.mislabels.candidates import find_candidates

    shards = {"test": test_probabilities, "train": train_probabilities}
    dumps = {split: whole_dump(s, dataset_index, split, settings) for split, s in shards.items()}
    if len({table.metadata["model_tree_hash"] for table in dumps.values()}) > 1:
        raise InputError("test and train shards are of different models: dump the older ones again")
    labels = cleaned_labels.frame.select("image_uuid", "label")
    paths = dataset_index.frame.select("image_uuid", "image_path")
    found = {
        split: find_candidates(table, labels, in_sample=IN_SAMPLE[split], paths=paths)
        for split, table in dumps.items()
    }
    # nothing is published before both splits are judged
    metadata: dict[str, Any] = {}
    for split, candidates_of_split in found.items():
        metadata |= _publish(candidates_of_split, split, settings)
    candidates = StoredTable.of(
        pl.concat([f.issues.with_columns(split=pl.lit(split)) for split, f in found.items()])
    )
    return dg.MaterializeResult(
        value=candidates,
        data_version=dg.DataVersion(candidates.version),
        metadata={"candidates": len(candidates), **metadata},
    )


def _publish(found: "Candidates", split: str, settings: Settings) -> dict[str, Any]:
    """The contract's files of one split under ``report/mislabels/``, and what the UI shows."""
    from dagster_project.lib.mislabels.candidates import write_candidates
    from dagster_project.lib.mislabels.montage import montage, thumbnail
    from dagster_project.lib.mislabels.pictures import issue_rate_picture

    folder = settings.report_dir / "mislabels" / split
    write_candidates(found, folder, montage(found.issues, settings.dataset_dir))
    rates = issue_rate_picture(found.per_class)
    shown = {}
    if settings.photos_in_ui:
        small = thumbnail(found.issues, settings.dataset_dir)
        shown = show.inline(small, f"{split}_montage")
    scalars = {f"{split}_{name}": value for name, value in found.summary.items()}
    return {
        **show.scalars(scalars),
        f"{split}_issues_per_class": show.table(found.per_class),
        f"{split}_issue_confusions": show.table(found.confusions, 20),
        **show.picture(rates, f"mislabels/{split}/{split}_issue_rates", settings),
        **shown,
        **show.link(folder / "mislabel_candidates.png", settings, f"{split}_montage"),
    }


@dg.asset(group_name="mislabels", kinds={"csv"}, owners=["team:dermatology"], code_version="2")
def review_packet(
    settings: dg.ResourceParam[Settings],
    mislabel_candidates: StoredTable,
    dataset_index: StoredTable,
    given_labels: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """A blind packet of candidates and hidden controls; frozen, and never part of a refit."""
    import polars as pl

    from dagster_project.lib.mislabels.packet import PacketDesign, build_packet

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
        metadata=show.scalars({k: v for k, v in summary.items() if isinstance(v, (int, str))}),
    )


ASSETS = [mislabel_candidates, review_packet]
