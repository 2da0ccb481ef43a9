"""Stage 3: suspicious labels, and what may be dropped because of them (next to nothing).

Belongs: ``mislabel_candidates`` (both splits), ``prune_list``.
Does not: confident learning, montage (``lib.mislabels``); asking anybody (``review``).
Concept: the test split is out of sample, the train split is not, and each row says which.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.defs import jobs, show
from dagster_project.defs.image_issues import compared_images
from dagster_project.defs.labels import verified_given
from dagster_project.defs.probabilities import dumped_classes, whole_dump
from dagster_project.lib.errors import InputError
from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings

if TYPE_CHECKING:
    from dagster_project.lib.mislabels.candidates import Candidates

IN_SAMPLE = {"test": False, "train": True}


@dg.asset(
    group_name="mislabels",
    kinds={"cleanlab"},
    owners=["team:data-science"],
    code_version="2",
    op_tags=jobs.JOINS_FIRST,
)
def mislabel_candidates(
    settings: dg.ResourceParam[Settings],
    test_probabilities: dict[str, StoredTable],
    train_probabilities: dict[str, StoredTable],
    cleaned_labels: StoredTable,
    dataset_index: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """Every label against the model, worst first; flagged ones are candidates, not verdicts."""
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
    metadata |= _publish_weak_classes(found["test"], dumps["test"].classes, settings)
    candidates = StoredTable.of(
        pl.concat([f.rows.with_columns(split=pl.lit(split)) for split, f in found.items()])
    )
    return dg.MaterializeResult(
        value=candidates,
        data_version=dg.DataVersion(candidates.version),
        metadata={
            "judged": len(candidates),
            "candidates": sum(found_in.issues.height for found_in in found.values()),
            **metadata,
        },
    )


def _publish(found: "Candidates", split: str, settings: Settings) -> dict[str, Any]:
    """The contract's files of one split under ``report/mislabels/``, and what the UI shows."""
    from dagster_project.lib.mislabels.candidates import write_candidates
    from dagster_project.lib.mislabels.montage import montage, thumbnail
    from dagster_project.lib.mislabels.pictures import issue_rate_picture

    folder = settings.report_dir / "mislabels" / split
    known = IN_SAMPLE[split]
    write_candidates(found, folder, montage(found.issues, settings.dataset_dir, in_sample=known))
    rates = issue_rate_picture(found.per_class, in_sample=known)
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


def _publish_weak_classes(
    test: "Candidates", classes: Sequence[str], settings: Settings
) -> dict[str, Any]:
    """Issue rate beside F1 of the test split, which is out of sample."""
    from dagster_project.lib.mislabels.candidates import IN_SAMPLE_WORD
    from dagster_project.lib.mislabels.weak_classes import LIMITS, weak_classes, write_weak_classes

    folder = settings.report_dir / "mislabels"
    table = weak_classes(test.rows, test.rows, classes)
    picture = write_weak_classes(table, folder, words=f"test, {IN_SAMPLE_WORD[test.in_sample]}")
    readings = ("labels first", "model first")
    counts = {f"{r.replace(' ', '_')}_classes": table.filter(reading=r).height for r in readings}
    return {
        **counts,
        "weak_classes": show.table(table.sort("f1", "class", nulls_last=True)),
        "weak_classes_limits": LIMITS,
        **show.picture(picture, "mislabels/weak_classes", settings),
    }


@dg.asset(
    group_name="mislabels",
    kinds={"csv"},
    owners=["team:data-science"],
    code_version="1",
    op_tags=jobs.JOINS_FIRST,
    deps=["image_issues"],
)
def prune_list(
    settings: dg.ResourceParam[Settings],
    mislabel_candidates: StoredTable,
    cleaned_labels: StoredTable,
    dataset_index: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """Rows that may be dropped, each with its reason and source; never because they are flagged."""
    from dagster_project.lib.mislabels import prune

    rows, cleaned = mislabel_candidates.frame, cleaned_labels.frame
    compared = compared_images(settings, dataset_index)
    garbage = None if compared is None else prune.clear_garbage(compared)
    proposed = StoredTable.of(prune.prune_list(cleaned, rows, garbage))
    verified = verified_given(settings, dataset_index)
    naive = prune.naive_prune(rows, cleaned, dumped_classes(settings), verified=verified)
    folder = settings.report_dir / "mislabels"
    picture = prune.write_prune(proposed.frame, naive, folder)
    return dg.MaterializeResult(
        value=proposed,
        data_version=dg.DataVersion(proposed.version),
        metadata={
            "proposed": len(proposed),
            "not_looked_for": show.reasons(
                ["garbage: run image_issues_job first"] if garbage is None else []
            ),
            **show.scalars({f"naive_{name}": v for name, v in naive.summary.items()}),
            "naive_prune_by_class": show.table(naive.per_class),
            "naive_prune_by_verification": show.table(naive.groups),
            **show.picture(picture, "mislabels/naive_prune", settings),
            **show.link(folder / "prune_report.md", settings),
        },
    )


ASSETS = [mislabel_candidates, prune_list]
