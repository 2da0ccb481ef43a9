"""Listening, the last step: what the reviews taught about flags, labels and thresholds.

Belongs: ``review_findings``.
Does not: any statistic or word of it (``lib.review``); asking (``review``); labels (``labels``).
Concept: it depends on labels only, so a refit makes it again; keys and frames of packets are
frozen, so reading them here is sound. Nothing returned is a finding too.
"""

from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.defs import jobs, show
from dagster_project.defs.parquet_io import read_stored, table_path
from dagster_project.defs.thresholds import fit_of, policy_of
from dagster_project.lib.files import canonical_json, digest
from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings

if TYPE_CHECKING:
    import polars as pl

KINDS = ("image_issues", "issue_kinds")
"""Image issues are judged too where they were looked for; they are not looked for in a refit."""


@dg.asset(
    group_name="labels",
    kinds={"json"},
    owners=["team:data-science"],
    code_version="2",
    op_tags=jobs.READS_THOSE,  # the kinds of issues, where they are found
)
def review_findings(
    settings: dg.ResourceParam[Settings],
    expert_reviews: StoredTable,
    cleaned_labels: StoredTable,
    scored_test_rows: StoredTable,
    tier_thresholds: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """Precision and recall of the flags, noise rates, confusions, effect on the thresholds."""
    from dagster_project.lib.review import effect, findings, findings_page, sample

    packets = sample.read_packets(settings.packets_dir)
    returned = findings.Returned(
        packets,
        cleaned_labels.frame,
        expert_reviews.frame,
        sample.read_repeats(settings.packets_dir),
        _kinds(settings),
    )
    moved = effect.threshold_effect(
        scored_test_rows.frame,
        policy_of(tier_thresholds),
        fit_of(tier_thresholds),
        expected=sample.expected(packets, scored_test_rows.metadata["review_packet"]),
    )
    found = findings.review_findings(returned, thresholds=moved)
    said = findings_page.sentences(found)
    table = findings_page.findings_table(found)
    findings_page.write_findings(found, settings.report_dir)
    path = settings.report_dir / f"{findings_page.NAME}.json"
    return dg.MaterializeResult(
        value=StoredTable.of(table, {"findings": canonical_json(found)}),
        data_version=dg.DataVersion(digest(found)),
        metadata={
            **_headline(found),
            "what_it_taught": show.reasons(said),
            "findings": show.table(table),
            **show.link(path, settings),
            **show.link(path.with_suffix(".csv"), settings),
            **show.published_picture(findings_page.NAME, settings),
        },
    )


def _kinds(settings: Settings) -> "pl.DataFrame | None":
    """``image_uuid, kind`` of the stored image issues, both images of a pair; None without."""
    import polars as pl

    known = [read_stored(settings, name).frame for name in KINDS
             if table_path(settings, name).is_file()]  # fmt: skip
    sides = [
        frame.select(pl.col(column).alias("image_uuid"), "kind")
        for frame in known
        for column in ("image_uuid", "other_uuid")
        if column in frame.columns  # a cluster is a finding about a class, not about images
    ]
    return pl.concat(sides).drop_nulls().unique().sort("kind", "image_uuid") if sides else None


def _headline(found: dict[str, Any]) -> dict[str, Any]:
    """The scalars that plot over time, under names that never change."""
    values: dict[str, Any] = {"self_agreement": found["self_agreement"]["agreement"]}
    for split, item in found["splits"].items():
        values[f"{split}_packet"] = item["packet"] or "none"
        if item.get("noise") is not None:
            values[f"{split}_noise_rate"] = item["noise"]["estimate"]
            values[f"{split}_recall"] = item["recall"]["estimate"]
            flagged = next(row for row in item["precision"] if row["kind"] == "flagged")
            values[f"{split}_precision"] = flagged["estimate"]
    return show.scalars(values)


ASSETS = [review_findings]
