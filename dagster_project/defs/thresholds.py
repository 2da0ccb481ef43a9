"""Stage 4: scored rows, the coverage curve, the tiers and their evidence.

Belongs: the label-dependent assets between probabilities and release, and their checks.
Does not: counting, fitting, drawing (``lib.tiers``); deployable files (``release``).
Concept: every asset here is cheap and follows labels; the basis of a fit (labels, model, dataset,
shards) travels with the scored rows and is recorded on ``tier_thresholds`` for the label sensor.
"""

import json
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.defs import show
from dagster_project.defs.policy_config import PolicyConfig
from dagster_project.defs.probabilities import whole_dump
from dagster_project.defs.release import baseline_rows, deployed_thresholds
from dagster_project.lib.errors import InputError
from dagster_project.lib.files import canonical_json, digest, publish_bytes, write_json
from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from dagster_project.lib.probability_table import ProbabilityTable
    from dagster_project.lib.tiers.evaluation import Context
    from dagster_project.lib.tiers.policy import TierPolicy
    from dagster_project.lib.tiers.scored_rows import ScoreCounts
    from dagster_project.lib.tiers.selection import ThresholdFit

OWNERS = ["team:data-science"]
MIN_REVIEWED_SHARE = 0.1
"""Below this share of reviewed images among the scored ones, labels are called provisional."""

FAILURE_PICTURES = ("reliability", "per_class", "subgroups")

BASIS = ("label_version", "model_tree_hash", "dataset_version")


@dg.asset(group_name="tiers", kinds={"polars"}, owners=OWNERS, code_version="3")
def scored_test_rows(
    settings: dg.ResourceParam[Settings],
    test_probabilities: dict[str, StoredTable],
    cleaned_labels: StoredTable,
    dataset_index: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """Probabilities and labels joined by image: score, rank of the truth, three best classes.

    With what reviewers were asked; the keys of packets are frozen, so reading them here is sound.
    """
    from dagster_project.lib import tables
    from dagster_project.lib.labels.consensus import n_decided
    from dagster_project.lib.release.reviewers import reviews_of
    from dagster_project.lib.review.sample import choose_packet, read_packets, with_reviews
    from dagster_project.lib.tiers.scored_rows import score_counts, score_rows

    table = whole_dump(test_probabilities, dataset_index, "test", settings)
    labels = cleaned_labels.frame.select("image_uuid", "label")
    scored_counts = score_counts(table, labels)
    counts = scored_counts.as_dict()
    evaluated = cleaned_labels.frame.join(table.frame.select("image_uuid"), on="image_uuid")
    packet = choose_packet(read_packets(settings.packets_dir), evaluated)
    design = None if packet is None else packet.design
    rows = with_reviews(score_rows(table, labels), evaluated, design)
    rows = rows.join(_metadata(dataset_index), on="image_uuid", how="left", maintain_order="left")
    told = cleaned_labels.metadata
    reviews = reviews_of(
        evaluated, json.loads(told["agreement"]), json.loads(told["consensus_policy"]), packet
    )
    carried = {
        "label_version": told["label_version"],
        "reviews_version": told["reviews_version"],
        "reviews": canonical_json(reviews),
        "review_packet": "none" if packet is None else packet.name,
        "n_reviewed": str(n_decided(cleaned_labels.frame, rows["image_uuid"])),
        "model_tree_hash": table.metadata["model_tree_hash"],
        "dataset_version": dataset_index.version,
        "n_shards": str(settings.num_shards),
        "tta": table.metadata["tta"],
        "classes": canonical_json(table.classes),
        "counts": canonical_json(counts),
        "rows_version": tables.digest_frame(rows),
        "provenance": canonical_json(_provenance(table, scored_counts, dataset_index)),
    }
    scored = StoredTable.of(rows, carried)
    return dg.MaterializeResult(
        value=scored,
        data_version=dg.DataVersion(digest([scored.version, carried])),
        metadata={**counts, **{key: carried[key] for key in (*BASIS, "review_packet")}},
    )


def _metadata(dataset_index: StoredTable) -> "pl.DataFrame":
    """The questionnaire of each image, under names that no scored column has."""
    from dagster_project.lib.tiers.evaluation import GROUP_PREFIX

    index = dataset_index.frame
    taken = ("image_uuid", "image_path", "patient_id", "split")
    columns = {name: f"{GROUP_PREFIX}{name}" for name in index.columns if name not in taken}
    return index.select("image_uuid", *columns).rename(columns)


def _provenance(
    table: "ProbabilityTable", counts: "ScoreCounts", dataset_index: StoredTable
) -> dict[str, Any]:
    """What a release will say of these rows: the dump's own words, and the split's."""
    from dagster_project.lib.release.bundle import provenance_of

    found = provenance_of(table, counts)
    return {
        **found.as_json(),
        "dataset_version": dataset_index.version,
        "split": "test",
        "splits_sha256": dataset_index.metadata.get("splits_sha256"),
        "split_recipe": dataset_index.metadata.get("split_recipe"),
    }


@dg.asset(group_name="tiers", kinds={"polars"}, owners=OWNERS, code_version="1")
def coverage_curve(
    settings: dg.ResourceParam[Settings], scored_test_rows: StoredTable
) -> dg.MaterializeResult[StoredTable]:
    """Coverage, accuracy and confident-wrong share at every distinct score."""
    from dagster_project.lib.tiers import curve, pictures

    table = curve.coverage_curve(scored_test_rows.frame)
    png = pictures.curve_png(table, scored=scored_test_rows.frame)
    return _published(table, "coverage_curve", png, settings)


@dg.asset(group_name="tiers", kinds={"numpy"}, owners=OWNERS, code_version="3")
def tier_thresholds(
    config: PolicyConfig,
    settings: dg.ResourceParam[Settings],
    scored_test_rows: StoredTable,
    expert_reviews: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """The two thresholds by the policy's rules, with what the other rules would have chosen.

    Depends on ``expert_reviews`` directly, so that the event log ties each fit to its reviews.
    """
    from dagster_project.lib.tiers import curve, pictures, reports
    from dagster_project.lib.tiers.policy import policy_sha256

    if scored_test_rows.metadata["reviews_version"] != expert_reviews.metadata["version"]:
        raise InputError(
            "scored_test_rows are of other reviews than expert_reviews: "
            "materialize cleaned_labels and scored_test_rows too"
        )
    scored = scored_test_rows.frame
    policy = config.over(settings)
    fit = _fit(scored_test_rows, policy, settings)
    carried = {
        **scored_test_rows.metadata,
        "fit": fit.model_dump_json(),
        "policy": canonical_json(policy.model_dump(mode="json")),
    }
    rules = show.rule_table(fit)
    marked = pictures.curve_png(
        curve.coverage_curve(scored), fit, deployed=deployed_thresholds(settings), scored=scored
    )
    return dg.MaterializeResult(
        value=StoredTable.of(rules, carried),
        data_version=dg.DataVersion(digest(carried)),
        metadata={
            **{key: carried[key] for key in BASIS},
            "n_shards": settings.num_shards,
            "policy_sha256": policy_sha256(policy),
            **headline(reports.tier_report(scored, fit.thresholds)),
            "rules": show.table(rules),
            **show.scalars(_certified(fit)),
            **show.picture(marked, "tier_thresholds", settings),
        },
    )


@dg.asset(group_name="tiers", kinds={"polars"}, owners=OWNERS, code_version="1")
def refer_candidates(
    settings: dg.ResourceParam[Settings],
    scored_test_rows: StoredTable,
    tier_thresholds: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """What half, once and one and a half times the refer share would mean."""
    from dagster_project.lib.tiers import pictures, reports

    share = reports.refer_share_of(policy_of(tier_thresholds))
    table = reports.refer_candidates(scored_test_rows.frame, share)
    return _published(table, "refer_candidates", pictures.refer_png(table), settings)


@dg.asset(group_name="tiers", kinds={"polars"}, owners=OWNERS, code_version="1")
def possible_item_sweep(
    settings: dg.ResourceParam[Settings],
    scored_test_rows: StoredTable,
    tier_thresholds: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """How many items the possible tier would highlight at each cut, and how often rightly."""
    from dagster_project.lib.tiers import pictures, reports

    item = policy_of(tier_thresholds).possible_item
    table = reports.possible_item_sweep(
        scored_test_rows.frame, fit_of(tier_thresholds).thresholds, item
    )
    return _published(table, "possible_item_sweep", pictures.sweep_png(table, item.cut), settings)


@dg.asset(group_name="tiers", kinds={"json"}, owners=OWNERS, code_version="3")
def tier_report(
    settings: dg.ResourceParam[Settings],
    scored_test_rows: StoredTable,
    tier_thresholds: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """``tier_reports.json``, the page, and what fails, by class and subgroup, as pictures."""
    from dagster_project.lib.release.html import report_html
    from dagster_project.lib.release.refit import crossed_files, failure_files
    from dagster_project.lib.tiers import pictures
    from dagster_project.lib.tiers.curve import coverage_curve as curve_of
    from dagster_project.lib.tiers.evaluation import full_report

    scored = scored_test_rows.frame
    fit = fit_of(tier_thresholds)
    policy = policy_of(tier_thresholds)
    context = _context(scored_test_rows, tier_thresholds, settings)
    report = full_report(scored, fit, policy, context)
    path = settings.report_dir / "tier_reports.json"
    write_json(path, report)
    page = settings.report_dir / "report.html"
    made = {
        **failure_files(scored, report),
        **crossed_files(scored, fit.thresholds, context),
        page.name: report_html(report, curve_of(scored), policy),
    }
    for name, data in made.items():
        publish_bytes(settings.report_dir / name, data)
    tiers = show.tier_table(report)
    histogram = pictures.histogram_png(scored, fit.thresholds)
    return dg.MaterializeResult(
        value=StoredTable.of(tiers, {"report": canonical_json(report)}),
        data_version=dg.DataVersion(digest(report)),
        metadata={
            "tiers": show.table(tiers),
            **show.certificate(report),
            "moved": show.table(show.moved_table(report)),
            "subgroups_worst_first": show.table(show.subgroup_table(report), limit=15),
            **show.link(page, settings),
            **show.link(path, settings),
            **show.picture(histogram, "confidence_by_tier", settings),
            **{
                key: value
                for name in FAILURE_PICTURES
                for key, value in show.published_picture(name, settings).items()
            },
        },
    )


@dg.asset(group_name="tiers", kinds={"markdown"}, owners=OWNERS, code_version="3")
def evaluation_summary(
    settings: dg.ResourceParam[Settings],
    scored_test_rows: StoredTable,
    tier_thresholds: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """The page to open first: headline numbers that plot over time, the tiers, the pictures.

    Not behind ``tier_report``, whose checks block: a blocked change is what one wants to see.
    """
    from dagster_project.lib.release.in_service import release_state
    from dagster_project.lib.tiers import pictures

    report = report_of(scored_test_rows, tier_thresholds, settings)
    tiers = show.tier_table(report)
    histogram = pictures.histogram_png(scored_test_rows.frame, fit_of(tier_thresholds).thresholds)
    return dg.MaterializeResult(
        value=StoredTable.of(tiers),
        data_version=dg.DataVersion(digest(report)),
        metadata={
            **headline(report),
            "n": report["n"],
            "n_reviewed": report["labels"]["n_reviewed"],
            "provisional": report["labels"]["provisional"],
            **show.release_state(
                release_state(
                    settings.releases_dir, report["thresholds"], report["labels"]["version"]
                )
            ),
            "tiers": show.table(tiers),
            **show.certificate(report),
            "moved": show.table(show.moved_table(report)),
            **({"verdict": report["moved"]["sentence"]} if report["moved"] else {}),
            **show.link(settings.report_dir / "report.html", settings),
            **show.published_picture("tier_thresholds", settings),
            **show.inline(histogram, "confidence_by_tier"),
        },
    )


@dg.asset(group_name="preview", kinds={"numpy"}, owners=OWNERS, code_version="1")
def policy_preview(
    config: PolicyConfig, settings: dg.ResourceParam[Settings], scored_test_rows: StoredTable
) -> dg.MaterializeResult[StoredTable]:
    """Another tier policy on the same rows; nothing in force changes and nothing is released."""
    from dagster_project.lib.tiers import reports

    scored = scored_test_rows.frame
    fit = _fit(scored_test_rows, config.over(settings), settings)
    report = reports.tier_report(scored, fit.thresholds)
    tiers = show.tier_table(report)
    return dg.MaterializeResult(
        value=StoredTable.of(tiers),
        data_version=dg.DataVersion(digest(report)),
        metadata={
            **headline(report),
            "rules": show.table(show.rule_table(fit)),
            "tiers": show.table(tiers),
        },
    )


def _fit(scored_test_rows: StoredTable, policy: "TierPolicy", settings: Settings) -> "ThresholdFit":
    """The fit, after this look at the rows is written down."""
    from dagster_project.lib.evidence.looks import count_look
    from dagster_project.lib.tiers.evaluation import groups_in
    from dagster_project.lib.tiers.policy import policy_sha256
    from dagster_project.lib.tiers.selection import fit_thresholds

    scored = scored_test_rows.frame
    what = {
        "rows_version": scored_test_rows.metadata["rows_version"],
        "policy_sha256": policy_sha256(policy),
    }
    looks = count_look(settings.looks, scored["image_uuid"], what)
    return fit_thresholds(scored, policy, groups=groups_in(scored), looks=looks)


def _certified(fit: "ThresholdFit") -> dict[str, Any]:
    """The certificate as scalars that plot over time."""
    found = fit.certificate
    if found is None:
        return {"certificate": "not asked for"}
    return {
        "certificate": found.status,
        "certified_threshold": found.threshold,
        "certified_coverage": found.coverage,
        "released_is_certified": found.released_is_certified,
        "looks": found.looks,
    }


def headline(report: dict[str, Any]) -> dict[str, Any]:
    """The scalars that are plotted over time, under names that never change."""
    confident = report["tiers"]["confident"]
    return show.scalars(
        {
            "confident_threshold": report["thresholds"]["confident"],
            "refer_threshold": report["thresholds"]["refer"],
            "possible_item_threshold": report["thresholds"]["possible_item"],
            "coverage": confident["share"],
            "covered_top1": confident["top1"],
            "confident_wrong": report["outcomes"]["confident_wrong"],
            "refer_share": report["tiers"]["refer"]["share"],
            "top1": report["full_coverage"]["top1"],
            "top3": report["full_coverage"]["top3"],
        }
    )


def fit_of(tier_thresholds: StoredTable) -> "ThresholdFit":
    """The fit that ``tier_thresholds`` carries."""
    from dagster_project.lib.tiers.selection import ThresholdFit

    return ThresholdFit.model_validate_json(tier_thresholds.metadata["fit"])


def policy_of(tier_thresholds: StoredTable) -> "TierPolicy":
    """The policy that the fit was made by."""
    from dagster_project.lib.tiers.policy import TierPolicy

    return TierPolicy.model_validate_json(tier_thresholds.metadata["policy"])


def report_of(
    scored_test_rows: StoredTable, tier_thresholds: StoredTable, settings: Settings
) -> dict[str, Any]:
    """``tier_reports.json`` of a fit; provisional while few of the scored images are reviewed."""
    from dagster_project.lib.tiers.evaluation import full_report

    return full_report(
        scored_test_rows.frame,
        fit_of(tier_thresholds),
        policy_of(tier_thresholds),
        _context(scored_test_rows, tier_thresholds, settings),
    )


def _context(
    scored_test_rows: StoredTable, tier_thresholds: StoredTable, settings: Settings
) -> "Context":
    from dagster_project.lib.tiers.evaluation import Context, LabelsInfo, groups_in

    version = tier_thresholds.metadata["label_version"]
    n_reviewed = int(tier_thresholds.metadata["n_reviewed"])
    provisional = n_reviewed < MIN_REVIEWED_SHARE * len(scored_test_rows)
    return Context(
        LabelsInfo(version, provisional, n_reviewed),
        json.loads(tier_thresholds.metadata["reviews"]),
        deployed=deployed_thresholds(settings),
        baseline=baseline_rows(settings),
        groups=groups_in(scored_test_rows.frame),
        subgroups=settings.subgroups,
        classes=tuple(json.loads(tier_thresholds.metadata["classes"])),
    )


def _published(
    frame: "pl.DataFrame", name: str, png: bytes, settings: Settings
) -> dg.MaterializeResult[StoredTable]:
    """A table as value, as CSV in the report folder, and inline with its picture."""
    from dagster_project.lib import tables

    path = settings.report_dir / f"{name}.csv"
    tables.write_csv(path, frame)
    table = StoredTable.of(frame)
    # the curve has as many rows as there are scores: a file, not a table in the UI
    small = {name: show.table(frame)} if frame.height <= show.MAX_INLINE_ROWS else {}
    return dg.MaterializeResult(
        value=table,
        data_version=dg.DataVersion(table.version),
        metadata={
            **small,
            **show.link(path, settings),
            **show.picture(png, f"{name}", settings),
        },
    )


@dg.asset_check(asset=tier_thresholds, blocking=True)
def thresholds_ordered(tier_thresholds: StoredTable) -> dg.AssetCheckResult:
    """0 <= refer <= confident <= 1."""
    from dagster_project.lib.release import conditions

    passed, facts = conditions.thresholds_ordered(fit_of(tier_thresholds).thresholds)
    return dg.AssetCheckResult(passed=passed, metadata=facts)


@dg.asset_check(asset=tier_report, blocking=True)
def change_within_bound(
    settings: dg.ResourceParam[Settings], tier_report: StoredTable
) -> dg.AssetCheckResult:
    """No threshold moved further from the deployed one than is allowed."""
    from dagster_project.lib.release import conditions
    from dagster_project.lib.tiers.thresholds import Thresholds

    report = json.loads(tier_report.metadata["report"])
    passed, facts = conditions.change_bounded(
        Thresholds(**report["thresholds"]),
        deployed_thresholds(settings),
        settings.max_threshold_change,
    )
    return dg.AssetCheckResult(passed=passed, metadata=facts)


@dg.asset_check(asset=tier_report, blocking=True)
def tiers_sum_to_n(tier_report: StoredTable) -> dg.AssetCheckResult:
    """Every row is in exactly one tier."""
    from dagster_project.lib.release import conditions

    passed, facts = conditions.tiers_sum(json.loads(tier_report.metadata["report"]))
    return dg.AssetCheckResult(passed=passed, metadata=facts)


@dg.asset_check(
    asset=scored_test_rows,
    blocking=True,
    additional_ins={"dataset_index": dg.AssetIn("dataset_index")},
)
def every_image_accounted_for(
    scored_test_rows: StoredTable, dataset_index: StoredTable
) -> dg.AssetCheckResult:
    """Each image of the test split is scored, or counted where it was left out."""
    from dagster_project.lib import dataset
    from dagster_project.lib.release import conditions

    counts = json.loads(scored_test_rows.metadata["counts"])
    n_split = dataset.split_rows(dataset_index.frame, "test").height
    passed, facts = conditions.rows_accounted(len(scored_test_rows), counts, n_split)
    return dg.AssetCheckResult(passed=passed, metadata=facts)


@dg.asset_check(asset=tier_report)
def rounding_kept(tier_report: StoredTable) -> dg.AssetCheckResult:
    """Rounding to three decimals left each rule's own figure near what was fitted."""
    from dagster_project.lib.release import conditions

    passed, facts = conditions.rounding_kept(json.loads(tier_report.metadata["report"]))
    severity = dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(passed=passed, severity=severity, metadata=facts)


ASSETS = [
    scored_test_rows,
    coverage_curve,
    tier_thresholds,
    refer_candidates,
    possible_item_sweep,
    tier_report,
    evaluation_summary,
    policy_preview,
]
CHECKS = [
    every_image_accounted_for,
    thresholds_ordered,
    change_within_bound,
    tiers_sum_to_n,
    rounding_kept,
]
