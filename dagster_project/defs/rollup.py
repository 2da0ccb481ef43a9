"""When unsure, say less: class mask, thresholds, roll-up and its evaluation against truth.

Belongs: the four assets, their run config, the check on what they promise.
Does not: any rule, statistic or picture (``lib.rollup``); tiers (``thresholds``).
Concept: no model runs. What needs no label (the mask) is apart from what does: labels enter at
``rollup_thresholds``, and where thresholds are given, new labels give nothing a new version but the
evaluation. Every state of every image is kept in a folder that only grows.
"""

import json
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.defs import jobs, show
from dagster_project.defs.probabilities import whole_dump
from dagster_project.defs.rollup_config import (
    MaskedConfig,
    RollupRuleConfig,
    configured,
    mask_of,
    masked_config,
    rule_config,
)
from dagster_project.defs.thresholds import fit_of
from dagster_project.lib.errors import InputError
from dagster_project.lib.files import canonical_json, digest
from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from dagster_project.lib.probability_table import ProbabilityTable
    from dagster_project.lib.rollup.candidates import RollUp
    from dagster_project.lib.rollup.report import RollupInputs
    from dagster_project.lib.rollup.taxonomy import Taxonomy

    Dump = Mapping[str, StoredTable]

FOLDER = "rollup"
PICTURES = ("taxonomy_tree", "accuracy_specificity")
EXAMPLE = "by_morphology"
"""Taken where no taxonomy is set and its classes are the model's."""

BASIS = ("model_tree_hash", "dataset_version", "n_shards")
"""What masked rows record of what they were made of; the label sensor compares it."""

OWNERS = ["team:data-science"]
LATE = jobs.JOINS_LAST
"""It decides nothing that serves."""


@dg.asset(group_name="rollup", kinds={"numpy"}, owners=OWNERS, code_version="1", op_tags=LATE)
def masked_predictions(
    config: MaskedConfig,
    settings: dg.ResourceParam[Settings],
    test_probabilities: dict[str, StoredTable],
    dataset_index: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """What is left of each test image's answer after mask and normalisation. No labels."""
    from dagster_project.lib.rollup.prepare import prepare
    from dagster_project.lib.rollup.provenance import masked_rows

    table = whole_dump(test_probabilities, dataset_index, "test", settings)
    chosen = masked_config(config, settings)
    prepared = prepare(table.probs, table.classes, chosen)
    rows = masked_rows(table, prepared)
    basis = _basis(table, dataset_index, settings)
    carried = {**basis, "config": canonical_json(chosen.model_dump(mode="json"))}
    return dg.MaterializeResult(
        value=StoredTable.of(rows, carried),
        data_version=dg.DataVersion(digest([_source(table), mask_of(chosen)])),
        metadata={
            **basis,
            "mask_sha256": digest(mask_of(chosen)),
            "normalisation": chosen.normalisation,
            "classes_allowed": int(prepared.allowed.sum()),
            "not_decided": int((~prepared.decided).sum()),
            "leaf_changed": int(rows["changed"].sum()),
        },
    )


@dg.asset(group_name="rollup", kinds={"numpy"}, owners=OWNERS, code_version="1", op_tags=LATE)
def rollup_thresholds(
    config: RollupRuleConfig,
    settings: dg.ResourceParam[Settings],
    test_probabilities: dict[str, StoredTable],
    dataset_index: StoredTable,
    masked_predictions: StoredTable,
    scored_test_rows: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """Thresholds by rank, given, or fitted on the labels in force: where labels enter."""
    from dagster_project.lib.evidence.looks import count_look
    from dagster_project.lib.rollup import summary
    from dagster_project.lib.rollup.prepare import prepare
    from dagster_project.lib.rollup.provenance import thresholds_of, used_sha256
    from dagster_project.lib.rollup.report import labelled_rows, look_of, rollup_of
    from dagster_project.lib.rollup.words import certificate_words

    table = _same_dump(test_probabilities, dataset_index, masked_predictions, settings)
    chosen = rule_config(config, masked_predictions, settings)
    name, taxonomy = taxonomy_of(settings, table.classes)
    prepared = prepare(table.probs, table.classes, chosen)
    labelled = labelled_rows(table, scored_test_rows.frame)
    look = look_of(table, taxonomy, chosen, labelled)
    rollup, fit = rollup_of(
        prepared,
        taxonomy,
        chosen,
        labelled,
        look=lambda: count_look(settings.rollup_looks, *look),
    )
    told = None if fit is None else fit.as_dict()
    carried = {
        "config": canonical_json(chosen.model_dump(mode="json")),
        "taxonomy": canonical_json(_plain(name, taxonomy)),
        "thresholds": canonical_json(thresholds_of(rollup)),
        "fit": canonical_json(told),
    }
    rows = summary.threshold_table(rollup, told)
    said = "given, nothing is certified" if told is None else certificate_words(told["certificate"])
    return dg.MaterializeResult(
        value=StoredTable.of(rows, carried | _labels_of(scored_test_rows)),
        data_version=dg.DataVersion(digest(carried)),
        metadata={
            "config_hash": used_sha256(rollup),
            **_labels_of(scored_test_rows),
            "taxonomy": f"{name}: {_validated(taxonomy.validated)}",
            "taxonomy_sha256": taxonomy.sha256,
            "certificate": dg.MetadataValue.md(said),
            **_certified(told),
            "by_rank": show.table(rows),
        },
    )


@dg.asset(group_name="rollup", kinds={"parquet"}, owners=OWNERS, code_version="1", op_tags=LATE)
def rolled_up_predictions(
    settings: dg.ResourceParam[Settings],
    test_probabilities: dict[str, StoredTable],
    dataset_index: StoredTable,
    masked_predictions: StoredTable,
    rollup_thresholds: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """Every state of every test image; its file stands beside those of other configurations."""
    from dagster_project.lib.rollup.prepare import prepare
    from dagster_project.lib.rollup.provenance import add_record, make_record, records_in
    from dagster_project.lib.rollup.summary import ends_table

    table = _same_dump(test_probabilities, dataset_index, masked_predictions, settings)
    rollup = _rollup(rollup_thresholds, table.classes)
    prepared = prepare(table.probs, table.classes, rollup.config)
    record = make_record(table, prepared, rollup.applied(prepared), rollup)
    new = add_record(settings.predictions_dir, record)
    return dg.MaterializeResult(
        value=StoredTable(record.arrow()),
        data_version=dg.DataVersion(digest(record.file_name)),
        metadata={
            "config_hash": record.config_hash,
            "record_is_new": new,
            "records": len(records_in(settings.predictions_dir)),
            "record (file)": dg.MetadataValue.path(settings.predictions_dir / record.file_name),
            "ends": show.table(ends_table(record.rows)),
        },
    )


@dg.asset(group_name="rollup", kinds={"markdown"}, owners=OWNERS, code_version="1", op_tags=LATE)
def rollup_evaluation(
    settings: dg.ResourceParam[Settings],
    test_probabilities: dict[str, StoredTable],
    dataset_index: StoredTable,
    rollup_thresholds: StoredTable,
    rolled_up_predictions: StoredTable,
    scored_test_rows: StoredTable,
    tier_thresholds: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """What rolling up gains and costs, on the labels in force, which no mask or roll-up touched."""
    from dagster_project.lib.rollup import publish
    from dagster_project.lib.rollup.prepare import prepare
    from dagster_project.lib.rollup.report import judge, make_report
    from dagster_project.lib.rollup.summary import transition_table

    table = whole_dump(test_probabilities, dataset_index, "test", settings)
    rollup = _rollup(rollup_thresholds, table.classes)
    _check_same(rollup, rollup_thresholds, rolled_up_predictions, scored_test_rows, tier_thresholds)
    inputs = _inputs(table, rollup, rollup_thresholds, scored_test_rows, tier_thresholds)
    prepared = prepare(table.probs, table.classes, rollup.config)
    fit = json.loads(rollup_thresholds.metadata["fit"])
    judged = judge(inputs, prepared, rollup)
    report = make_report(inputs, rollup, rollup.applied(prepared), fit, judged)
    publish.write_report(report, settings.report_dir / FOLDER)
    changes = transition_table(report)
    return dg.MaterializeResult(
        value=StoredTable.of(changes, {"report": canonical_json(report)}),
        data_version=dg.DataVersion(digest(report)),
        metadata={
            **_headline(report),
            **_labels_of(scored_test_rows),
            **_reviewed(report),
            "config_hash": report["config_hash"],
            **_shown(report, changes, settings),
        },
    )


@dg.asset_check(asset=rollup_evaluation)
def rollup_certified(rollup_evaluation: StoredTable) -> dg.AssetCheckResult:
    """The bound on placed-and-wrong is certified, where thresholds are fitted; blocks nothing."""
    from dagster_project.lib.rollup.words import certificate_words

    report = json.loads(rollup_evaluation.metadata["report"])
    fit, taxonomy = report["fit"], report["taxonomy"]
    said = "thresholds are given: nothing is certified"
    return dg.AssetCheckResult(
        passed=fit is None or fit["certificate"]["status"] == "certified",
        severity=dg.AssetCheckSeverity.WARN,
        description=said if fit is None else certificate_words(fit["certificate"]),
        metadata={"taxonomy": f"{taxonomy['name']}: {_validated(taxonomy['validated'])}"},
    )


ASSETS = [masked_predictions, rollup_thresholds, rolled_up_predictions, rollup_evaluation]
CHECKS = [rollup_certified]


def taxonomy_of(settings: Settings, classes: "Sequence[str]") -> "tuple[str, Taxonomy]":
    """The taxonomy of the settings, or the example over the same classes, and what it is called.

    Raises
    ------
    InputError
        A fault in the file; none is set, and the example is of other classes.
    """
    from dagster_project.lib.rollup.taxonomy import EXAMPLES, read_taxonomy

    if settings.taxonomy is not None:
        return settings.taxonomy.stem, read_taxonomy(settings.taxonomy, classes)
    try:
        return EXAMPLE, read_taxonomy(EXAMPLES[EXAMPLE], classes)
    except InputError:
        raise InputError(
            "no taxonomy for the model's classes: set TIER_REFIT_TAXONOMY to a CSV class,family,"
            "group with one row a class (docs/rollup.md)"
        ) from None


def check_settings(settings: Settings, classes: "Sequence[str]") -> None:
    """Raise unless taxonomy and configuration can be read and fit together, as a run would."""
    from dagster_project.lib.rollup.report import check_config

    _, taxonomy = taxonomy_of(settings, classes)
    check_config(configured(settings), taxonomy, labels=True)


def _basis(table: "ProbabilityTable", index: StoredTable, settings: Settings) -> dict[str, str]:
    """What the masked rows stand on; the label sensor compares it."""
    return {
        "model_tree_hash": table.metadata["model_tree_hash"],
        "dataset_version": index.version,
        "n_shards": str(settings.num_shards),
        "source": _source(table),
    }


def _source(table: "ProbabilityTable") -> str:
    """Names the dump by its model, images and deployed view."""
    from dagster_project.lib.rollup.provenance import source_version

    return source_version(table)


def _same_dump(
    shards: "Dump", index: StoredTable, masked: StoredTable, settings: Settings
) -> "ProbabilityTable":
    """The whole dump, if it is the one that was masked."""
    table = whole_dump(dict(shards), index, "test", settings)
    if masked.metadata["source"] != _source(table):
        raise InputError("masked_predictions are of another dump: run rollup_job")
    return table


def _plain(name: str, taxonomy: "Taxonomy") -> dict[str, Any]:
    return {
        "name": name,
        "validated": taxonomy.validated,
        "ranks": list(taxonomy.ranks),
        "lineages": [list(line) for line in taxonomy.lineages],
    }


def _rollup(thresholds: StoredTable, classes: "Sequence[str]") -> "RollUp":
    """The roll-up that ``rollup_thresholds`` carries."""
    import numpy as np

    from dagster_project.lib.rollup.candidates import RollUp
    from dagster_project.lib.rollup.config import RollupConfig
    from dagster_project.lib.rollup.taxonomy import Taxonomy

    told = json.loads(thresholds.metadata["taxonomy"])
    lineages = tuple(tuple(line) for line in told["lineages"])
    if tuple(line[0] for line in lineages) != tuple(classes):
        raise InputError("rollup_thresholds are of other classes than the dump: run rollup_job")
    at = json.loads(thresholds.metadata["thresholds"])
    return RollUp(
        Taxonomy(tuple(told["ranks"]), lineages, told["validated"]),
        RollupConfig.model_validate_json(thresholds.metadata["config"]),
        np.array([np.nan if at[rank] is None else at[rank] for rank in told["ranks"]]),
    )


def _inputs(
    table: "ProbabilityTable",
    rollup: "RollUp",
    thresholds: StoredTable,
    scored: StoredTable,
    tiers: StoredTable,
) -> "RollupInputs":
    from dagster_project.lib.rollup.report import RollupInputs, labelled_rows

    name = json.loads(thresholds.metadata["taxonomy"])["name"]
    return RollupInputs(
        table=table,
        taxonomy=rollup.taxonomy,
        name=name,
        config=rollup.config,
        labelled=labelled_rows(table, scored.frame, fit_of(tiers).thresholds, source="cleaned"),
        beside=_examples(table.classes, name),
    )


def _examples(classes: "Sequence[str]", name: str) -> "dict[str, Taxonomy]":
    """The shipped taxonomies over these classes, but for the one in use."""
    from dagster_project.lib.rollup.taxonomy import EXAMPLES, read_taxonomy

    found = {}
    for other, path in EXAMPLES.items():
        try:
            taxonomy = read_taxonomy(path, classes)
        except InputError:
            continue
        if other != name:
            found[other] = taxonomy
    return found


def _check_same(
    rollup: "RollUp",
    thresholds: StoredTable,
    rolled_up: StoredTable,
    scored: StoredTable,
    tiers: StoredTable,
) -> None:
    """Raise unless all are of one state of labels, thresholds and rows."""
    from dagster_project.lib.rollup.provenance import used_sha256

    labels = _labels_of(scored)
    if _labels_of(tiers) != labels:
        raise InputError("tier_thresholds are of other labels than scored_test_rows: run refit_job")
    fitted = thresholds.metadata["fit"] != "null"
    if fitted and {key: thresholds.metadata[key] for key in labels} != labels:
        raise InputError("rollup_thresholds are of other labels: run rollup_job")
    if rolled_up.metadata["config_hash"] != used_sha256(rollup):
        raise InputError("rolled_up_predictions are of other thresholds: run rollup_job")


def _labels_of(stored: StoredTable) -> dict[str, str]:
    return {"label_version": stored.metadata["label_version"]}


def _certified(fit: "Mapping[str, Any] | None") -> dict[str, Any]:
    """The certificate as scalars that plot over time; nothing where thresholds are given."""
    if fit is None:
        return {}
    found = fit["certificate"]
    names = ("shift", "observed", "placed", "n_reviewed", "reviewed_in_part", "looks")
    return {"status": found["status"], **show.scalars({name: found[name] for name in names})}


def _validated(said: bool | None) -> str:
    return "clinically validated, as it says itself" if said else "NOT CLINICALLY VALIDATED"


def _headline(report: "Mapping[str, Any]") -> dict[str, Any]:
    """Scalars under names that never change."""
    after = report["evaluation"]["after"]
    kinds = {row["kind"]: row["share"] for row in report["evaluation"]["transitions"]["kinds"]}
    return show.scalars(
        {
            "placed": after["placed"]["rate"],
            "placed_and_wrong": after["wrong"]["rate"],
            "accuracy": after["accuracy"]["rate"],
            "specificity": after["specificity"]["mean"],
            "fixed": kinds["fixed"]["rate"],
            "specificity_lost": kinds["specificity_lost"]["rate"],
            "introduced": kinds["introduced"]["rate"],
        }
    )


def _reviewed(report: "Mapping[str, Any]") -> dict[str, Any]:
    """How many labels were reviewed: with some of them the figures flatter the roll-up."""
    found = report["reviewed"] or {}
    names = {"n_reviewed": "n_reviewed", "reviewed_in_part": "in_part"}
    return show.scalars({shown: found.get(name) for shown, name in names.items()})


def _shown(
    report: "Mapping[str, Any]", changes: "pl.DataFrame", settings: Settings
) -> dict[str, Any]:
    """What the UI shows of a report: aggregates, sentences, pictures, links."""
    from dagster_project.lib.rollup import publish, summary, words

    lines = words.rollup_note(report).splitlines()
    note = "\n".join(line for line in lines if not line.startswith("!["))
    folder, taxonomy = settings.report_dir / FOLDER, report["taxonomy"]
    return {
        "taxonomy": f"{taxonomy['name']}: {_validated(taxonomy['validated'])}",
        "gained": words.gained(report["evaluation"]),
        "by_rank": show.table(summary.rank_table(report)),
        "transitions": show.table(changes),
        "rules": show.table(summary.rule_table(report)),
        "report": dg.MetadataValue.md(note),
        **show.link(folder / publish.NOTE, settings),
        **show.link(folder / publish.JSON, settings),
        **{
            key: value
            for name in PICTURES
            for key, value in show.published_picture(f"{FOLDER}/{name}", settings).items()
        },
    }
