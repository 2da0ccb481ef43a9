"""Labels: the reviews as they were read, the one label each image ends up with, what to ask next.

Belongs: ``expert_reviews`` (a snapshot of the drop), ``cleaned_labels``, ``next_reviews``, their
checks.
Does not: reading a review file, consensus, ranking (``lib.labels``); starting a refit
(``label_sensor``).
Concept: nothing downstream reads the live drop; a snapshot cannot change under a running fit.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.defs import show
from dagster_project.defs.parquet_io import read_stored, table_path
from dagster_project.defs.probabilities import dumped_classes, whole_dump
from dagster_project.lib.errors import InputError
from dagster_project.lib.files import canonical_json, write_json
from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from dagster_project.lib.labels.consensus import ConsensusPolicy
    from dagster_project.lib.labels.drop import Drop

INDEX = {"dataset_index": dg.AssetIn("dataset_index")}


def read_drop(settings: Settings, index: StoredTable) -> "Drop":
    """What the drop says now: the same call for the sensor and for the snapshot.

    The repeats of a packet come back under ids of their own, which are known too. A warning about
    what the snapshot in force replaced stays until there is another snapshot.
    """
    import polars as pl

    from dagster_project.lib.labels import drop
    from dagster_project.lib.review.sample import read_repeats

    stored = _snapshot(settings)
    repeats = read_repeats(settings.packets_dir)["presented_uuid"]
    found = drop.read_drop(
        settings.labels_uri,
        classes=dumped_classes(settings),
        image_uuids=pl.concat([index.frame["image_uuid"], repeats]),
        in_force=None if stored is None else stored.frame,
    )
    if stored is None or found.version != stored.metadata.get("version"):
        return found
    told = json.loads(stored.metadata.get("warnings", "[]"))
    return replace(found, warnings=tuple(drop.Refusal(**one) for one in told))


def _snapshot(settings: Settings) -> StoredTable | None:
    from dagster_project.lib.labels.drop import COLUMNS
    from dagster_project.lib.tables import require_columns

    path = table_path(settings, "expert_reviews")
    if not path.is_file():
        return None
    try:
        stored = read_stored(settings, "expert_reviews")
        require_columns(path.name, stored.frame.columns, COLUMNS)
    except InputError as error:
        raise InputError(f"{error} Delete {path} to start again from the drop.") from None
    return stored


def refusals_path(settings: Settings) -> Path:
    """What is refused and why, in the report folder."""
    return settings.report_dir / "label_drop_refusals.csv"


def report_drop(settings: Settings, drop: "Drop") -> list[str]:
    """Renew the reports, beside the drop and in ours; what to log, without what stands in a cell.

    Sensor and snapshot both call it: a refused file alone starts no run, and a run may be the only
    thing that reads. It changes nothing where the report is the same.
    """
    from dagster_project.lib.labels.drop import write_refusals
    from dagster_project.lib.labels.drop_report import publish_report

    write_refusals(refusals_path(settings), drop.refusals, drop.warnings)
    failed = publish_report(settings.labels_uri, drop)
    return [
        *(f"left out of the labels: {refusal.place}" for refusal in drop.refusals),
        *(f"look at: {warning.place}" for warning in drop.warnings),
        *([f"no report beside the drop: {failed}"] if failed else []),
    ]


def consensus_policy(settings: Settings) -> "ConsensusPolicy":
    """The rules of consensus that are set."""
    from dagster_project.lib.labels.consensus import ConsensusPolicy

    return ConsensusPolicy(
        min_agreeing=settings.consensus_min_agreeing,
        single=settings.consensus_single,
        conflict=settings.consensus_conflict,
        references=settings.references,
    )


def labels_version(settings: Settings, given_version: str, reviews_version: str) -> str:
    """The version of the labels that the rules in force make of given labels and reviews."""
    from dagster_project.lib.labels.drop import label_version

    rules: dict[str, object] = dict(consensus_policy(settings).changed())
    if settings.verified_labels is not None:
        rules["verified_labels"] = settings.verified_labels
    return label_version(given_version, reviews_version, rules)


def verified_given(settings: Settings, index: StoredTable) -> "pl.Series | None":
    """Images whose given label the dataset says is proven; None where no rule is set."""
    from dagster_project.lib.labels.given import verified_images

    rule = settings.verified_labels
    return None if rule is None else verified_images(index.frame, rule)


@dg.asset(group_name="labels", kinds={"csv"}, owners=["team:dermatology"], code_version="2")
def expert_reviews(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    dataset_index: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """Snapshot of the accepted reviews; its version is the hash of what was accepted."""
    from dagster_project.lib.labels.agreement import agreement_report

    drop = read_drop(settings, dataset_index)
    for line in report_drop(settings, drop):
        context.log.warning(line)
    n_refused = len({refusal.file for refusal in drop.refusals})
    index = dataset_index.frame
    agreement = agreement_report(
        drop.reviews,
        index,
        dumped_classes(settings),
        policy=consensus_policy(settings),
        patients=index,
    )
    carried = {
        "version": drop.version,
        "files_refused": str(n_refused),
        "warnings": json.dumps([asdict(warning) for warning in drop.warnings]),
        "agreement": canonical_json(agreement),
    }
    return dg.MaterializeResult(
        value=StoredTable.of(drop.reviews, carried),
        data_version=dg.DataVersion(drop.version),
        metadata={
            "reviews": drop.reviews.height,
            "images_reviewed": drop.reviews["image_uuid"].n_unique(),
            "reviewers": drop.reviews["reviewer"].n_unique(),
            "files_refused": n_refused,
            **_agreement(settings, agreement),
            **show.link(refusals_path(settings), settings),
        },
    )


def _agreement(settings: Settings, report: dict[str, Any]) -> dict[str, Any]:
    """``report/agreement.json``, its picture, and what the UI shows of it: reviewers, no images."""
    from dagster_project.lib.labels.agreement import reviewer_table
    from dagster_project.lib.labels.pictures import agreement_picture

    path = settings.report_dir / "agreement.json"
    write_json(path, report)
    return {
        "images_with_two_readers": report["n_images_two_readers"],
        **show.scalars({"alpha": report["alpha"]}),
        "agreement_of_reviewers": show.table(reviewer_table(report)),
        **show.picture(agreement_picture(report), "agreement", settings),
        **show.link(path, settings),
    }


@dg.asset_check(asset=expert_reviews, additional_ins=INDEX)
def label_drop_status(
    settings: dg.ResourceParam[Settings], dataset_index: StoredTable
) -> dg.AssetCheckResult:
    """Whether any file in the drop is refused, and why; the other files count all the same."""
    drop = read_drop(settings, dataset_index)
    return dg.AssetCheckResult(
        passed=not drop.refusals,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "files": drop.n_files,
            "refused": show.reasons([r.place for r in drop.refusals]),
            "warnings": show.reasons([w.place for w in drop.warnings]),
        },
    )


@dg.asset(group_name="labels", kinds={"parquet"}, owners=["team:data-science"], code_version="2")
def cleaned_labels(
    settings: dg.ResourceParam[Settings],
    given_labels: StoredTable,
    expert_reviews: StoredTable,
    dataset_index: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """One label an image: what enough readers or a reference say, else the given label."""
    from dagster_project.lib.labels import consensus
    from dagster_project.lib.labels.given import given_version

    given, reviews = given_labels.frame, expert_reviews.frame
    policy = consensus_policy(settings)
    proven = verified_given(settings, dataset_index)
    cleaned = consensus.clean_labels(given, reviews, policy, verified=proven)
    reviews_version = expert_reviews.metadata["version"]
    version = labels_version(settings, given_version(given), reviews_version)
    rules = {
        "min_agreeing": policy.min_agreeing,
        "references": [name for group in policy.references for name in group],
    }
    carried = {
        "label_version": version,
        "reviews_version": reviews_version,
        "agreement": expert_reviews.metadata["agreement"],
        "consensus_policy": canonical_json(rules),
    }
    table = StoredTable.of(cleaned, carried)
    counts = {
        **consensus.label_summary(cleaned),
        "n_verified": 0 if proven is None else proven.len(),
        "n_overruled_by_reference": consensus.overruled(given, reviews, cleaned, policy).len(),
        "label_version": version,
    }
    return dg.MaterializeResult(
        value=table,
        data_version=dg.DataVersion(table.version),
        metadata={
            **show.scalars(counts),
            "sources": show.table(cleaned.group_by("source").len("n").sort("source")),
            "status_by_class": show.table(consensus.status_by_class(cleaned)),
        },
    )


@dg.asset_check(asset=cleaned_labels, blocking=True, additional_ins=INDEX)
def labels_known_and_joined(
    settings: dg.ResourceParam[Settings], cleaned_labels: StoredTable, dataset_index: StoredTable
) -> dg.AssetCheckResult:
    """Every label is a class of the model, and every image of the dataset has its one row."""
    from dagster_project.lib.labels.consensus import label_problems

    problems = label_problems(
        cleaned_labels.frame, dataset_index.frame["image_uuid"], dumped_classes(settings)
    )
    return dg.AssetCheckResult(
        passed=not problems,
        description="; ".join(problems) or None,
        metadata={"problems": show.reasons(problems)},
    )


@dg.asset(group_name="labels", kinds={"cleanlab"}, owners=["team:data-science"], code_version="1")
def next_reviews(
    settings: dg.ResourceParam[Settings],
    test_probabilities: dict[str, StoredTable],
    cleaned_labels: StoredTable,
    expert_reviews: StoredTable,
    dataset_index: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """Test images that another reader should look at, ranked with the model; labels they are not.

    Not part of a refit: it is wanted when a packet is made, and no fit depends on it.
    """
    from dagster_project.lib.labels.next_reviews import next_reviews as rank

    table = whole_dump(test_probabilities, dataset_index, "test", settings)
    ranked = StoredTable.of(rank(cleaned_labels.frame, expert_reviews.frame, table))
    reasons = ranked.frame.group_by("why", maintain_order=True).len("n")
    return dg.MaterializeResult(
        value=ranked,
        data_version=dg.DataVersion(ranked.version),
        metadata={"images": len(ranked), "why": show.table(reasons)},
    )


ASSETS = [expert_reviews, cleaned_labels, next_reviews]
CHECKS = [label_drop_status, labels_known_and_joined]
