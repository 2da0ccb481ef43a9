"""Which checkpoint is worth shipping: TTA, temperature, the scorecard and its verdicts.

Belongs: the assets over the model in service and all listed checkpoints, and the check on them.
Does not: the lineages of checkpoints (``checkpoints``), any statistic, rule or picture
(``lib.scorecard``, ``lib.calibration``).
Concept: everything here follows labels, costs no forward pass, and decides nothing that serves: a
verdict is shown and blocks no refit. In a refit it comes after the release.
"""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.defs import checkpoints, jobs, show
from dagster_project.defs.policy_config import policy_without_run_config
from dagster_project.defs.probabilities import DUMPS, whole_dump
from dagster_project.defs.release import deployed_thresholds
from dagster_project.lib import progress
from dagster_project.lib.errors import InputError
from dagster_project.lib.files import canonical_json, digest
from dagster_project.lib.scorecard.checkpoints import DEPLOYED, Checkpoints
from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from dagster_project.lib.probability_table import ProbabilityTable
    from dagster_project.lib.scorecard.answers import Answers
    from dagster_project.lib.scorecard.noise import Noise

    Tables = dict[str, ProbabilityTable]

FOLDER = "scorecard"
PICTURES = ("recall_change", "reliability", "operating_curves")
MAX_PLOTTED = 7
"""Configurations with scalars of their own: more than 15 scalars on an asset nobody reads."""

_INPUT = "probabilities_of_"
_COLUMNS = ("config", "verdict", "n", "top1", "top3", "balanced_accuracy", "macro_f1", "ece", "nll")


def build_assets(listed: Checkpoints) -> list[dg.AssetsDefinition]:
    """The three assets over the model in service and the listed checkpoints."""
    return [_tta_gain(listed), _temperature(listed), _checkpoint_scorecard(listed)]


def _asset(listed: Checkpoints, kind: str) -> Callable[..., dg.AssetsDefinition]:
    """An asset over all dumps, which come as keyword arguments (:func:`_tables`)."""
    dumps = {DEPLOYED: dg.AssetKey(DUMPS[checkpoints.SPLIT]), **checkpoints.dumps(listed)}
    return dg.asset(
        ins={f"{_INPUT}{name}": dg.AssetIn(key=key) for name, key in dumps.items()},
        group_name="checkpoints",
        kinds={kind},
        owners=["team:data-science"],
        code_version="1",
        op_tags=jobs.JOINS_LAST,  # it decides nothing that serves
    )


def _tta_gain(listed: Checkpoints) -> dg.AssetsDefinition:
    @_asset(listed, "numpy")
    def tta_gain(
        context: dg.AssetExecutionContext,
        settings: dg.ResourceParam[Settings],
        cleaned_labels: StoredTable,
        dataset_index: StoredTable,
        **dumps: dict[str, StoredTable],
    ) -> dg.MaterializeResult[StoredTable]:
        """What the mean with the mirror image gains over the plain answer, from one dump."""
        from dagster_project.lib.scorecard import tta

        tables = _tables(listed, dumps, dataset_index, settings)
        told = progress.lines("tta_gain", context.log.info, "checkpoint")
        found: dict[str, Any] = {}
        for done, (name, table) in enumerate(tables.items()):
            told(done, len(tables))
            found[name] = tta.tta_gain(table, _labels(cleaned_labels))
        rows = _gain_table(found)
        top1 = {
            name: gain["comparison"]["differences"]["top1"]["estimate"]
            for name, gain in found.items()
            if gain["comparison"]
        }
        return dg.MaterializeResult(
            value=StoredTable.of(
                rows,
                {
                    "gain": canonical_json(found),
                    "basis": canonical_json(_basis(cleaned_labels, tables)),
                },
            ),
            data_version=dg.DataVersion(digest(found)),
            metadata={
                **_plotted(listed, "tta_gain_top1", top1),
                "gain": show.table(rows),
                "not_compared": show.reasons(
                    [f"{name}: {gain['reason']}" for name, gain in found.items() if gain["reason"]]
                ),
            },
        )

    return tta_gain


def _temperature(listed: Checkpoints) -> dg.AssetsDefinition:
    @_asset(listed, "numpy")
    def temperature(
        settings: dg.ResourceParam[Settings],
        cleaned_labels: StoredTable,
        dataset_index: StoredTable,
        **dumps: dict[str, StoredTable],
    ) -> dg.MaterializeResult[StoredTable]:
        """How over-confident the top probability is, and what tempering would change."""
        from dagster_project.lib.calibration.pictures import reliability_png
        from dagster_project.lib.calibration.summary import (
            forecast_summary,
            forecasts,
            temperature_table,
        )
        from dagster_project.lib.tiers.scored_rows import score_rows

        tables = _tables(listed, dumps, dataset_index, settings)
        scored = {
            name: score_rows(table, _labels(cleaned_labels)) for name, table in tables.items()
        }
        found = {name: forecast_summary(forecasts(rows)) for name, rows in scored.items()}
        table = temperature_table(found)
        png = reliability_png(scored[listed.baseline], found[listed.baseline]["temperature"])
        fitted = {name: of["temperature"] for name, of in found.items()}
        return dg.MaterializeResult(
            value=StoredTable.of(table, {"calibration": canonical_json(found)}),
            data_version=dg.DataVersion(digest(found)),
            metadata={
                **_plotted(listed, "temperature", fitted),
                "temperature": show.table(table),
                **show.picture(png, f"reliability_{listed.baseline}", settings),
            },
        )

    return temperature


def _checkpoint_scorecard(listed: Checkpoints) -> dg.AssetsDefinition:
    @_asset(listed, "markdown")
    def checkpoint_scorecard(
        context: dg.AssetExecutionContext,
        settings: dg.ResourceParam[Settings],
        cleaned_labels: StoredTable,
        given_labels: StoredTable,
        dataset_index: StoredTable,
        tta_gain: StoredTable,
        **dumps: dict[str, StoredTable],
    ) -> dg.MaterializeResult[StoredTable]:
        """All configurations on the same rows: measures, paired differences, declared verdicts."""
        from dagster_project.lib.scorecard import publish, scorecard
        from dagster_project.lib.scorecard.answers import same_rows

        tables = _tables(listed, dumps, dataset_index, settings)
        basis = _basis(cleaned_labels, tables)
        if json.loads(tta_gain.metadata["basis"]) != basis:
            raise InputError(
                "tta_gain is of other labels or models than the scorecard: run scorecard_job"
            )
        answers = same_rows(tables, _labels(cleaned_labels))
        cleaned = _with_design(answers, cleaned_labels, settings)
        card = scorecard.make_scorecard(
            scorecard.ScorecardInputs(
                answers,
                listed,
                given=given_labels.frame.select("image_uuid", "label"),
                thresholds=deployed_thresholds(settings),
                policy=policy_without_run_config(settings),
                tta=json.loads(tta_gain.metadata["gain"])[listed.baseline],
                noise=_noise(answers, given_labels, cleaned, listed),
                reviews=_reviews(cleaned),
            ),
            on_progress=progress.lines("scorecard", context.log.info, "step"),
        )
        publish.write_scorecard(card, answers, settings.report_dir / FOLDER)
        # the whole table is in scorecard.csv: sixty columns would hide the verdicts in the UI
        table = publish.scorecard_table(card).select(_COLUMNS)
        return dg.MaterializeResult(
            value=StoredTable.of(table, {"card": canonical_json(card)}),
            data_version=dg.DataVersion(digest(card)),
            metadata={
                **_headline(listed, card),
                "label_version": basis["label_version"],
                "models": dg.MetadataValue.json(basis["models"]),
                **_shown(card, table, settings),
            },
        )

    return checkpoint_scorecard


def build_checks(assets: list[dg.AssetsDefinition]) -> list[dg.AssetChecksDefinition]:
    """The verdicts, as a check on the last of :func:`build_assets`."""

    @dg.asset_check(
        asset=assets[-1],
        description="No checkpoint is rejected by the declared rule; a verdict blocks nothing.",
    )
    def checkpoint_verdicts(checkpoint_scorecard: StoredTable) -> dg.AssetCheckResult:
        card = json.loads(checkpoint_scorecard.metadata["card"])
        judged = [row for row in card["configs"] if row["verdict"] is not None]
        rejected = [row["config"] for row in judged if row["verdict"] == "REJECT"]
        return dg.AssetCheckResult(
            passed=not rejected,
            severity=dg.AssetCheckSeverity.WARN,
            description=_summary(card, judged, rejected),
            metadata={row["config"]: f"{row['verdict']}: {row['sentence']}" for row in judged},
        )

    return [checkpoint_verdicts]


def _summary(card: Mapping[str, Any], judged: list[Any], rejected: list[str]) -> str:
    from dagster_project.lib.scorecard.words import copy_notes

    if not judged:
        return "no checkpoint beside the model in service is listed: nothing is compared"
    words = [f"{row['config']} {row['verdict']}" for row in judged]
    said = f"against {card['baseline']}: {', '.join(words)}"
    told = f"rejected: {', '.join(rejected)}; {said}" if rejected else said
    return ". ".join([told, *copy_notes(card)])


def _tables(
    listed: Checkpoints,
    dumps: Mapping[str, dict[str, StoredTable]],
    index: StoredTable,
    settings: Settings,
) -> "Tables":
    """Configuration -> its whole dump; the model in service first, then in the list's order."""
    entries = {DEPLOYED: None, **{entry.name: entry for entry in listed.entries}}
    return {
        name: whole_dump(dumps[f"{_INPUT}{name}"], index, checkpoints.SPLIT, settings, entry)
        for name, entry in entries.items()
    }


def _basis(cleaned_labels: StoredTable, tables: "Tables") -> dict[str, Any]:
    """What a comparison stands on."""
    return {
        "label_version": cleaned_labels.metadata["label_version"],
        "models": {name: table.metadata["model_tree_hash"] for name, table in tables.items()},
    }


def _labels(cleaned_labels: StoredTable) -> "pl.DataFrame":
    return cleaned_labels.frame.select("image_uuid", "label")


def _with_design(
    answers: "Answers", cleaned_labels: StoredTable, settings: Settings
) -> "pl.DataFrame":
    """Cleaned labels of the compared images, and how each was drawn for the packet that is used."""
    from dagster_project.lib.review.sample import DESIGN_SCHEMA, choose_packet, read_packets

    cleaned = cleaned_labels.frame.join(
        answers.image_uuid.to_frame(), on="image_uuid", how="semi", maintain_order="left"
    )
    packet = choose_packet(read_packets(settings.packets_dir), cleaned)
    if packet is None:
        return cleaned
    design = packet.design.select(*DESIGN_SCHEMA)
    return cleaned.join(design, on="image_uuid", how="left", maintain_order="left")


def _reviews(cleaned: "pl.DataFrame") -> "pl.DataFrame | None":
    """The sample of reviews, as ``sampled_differences`` takes it; None without a packet."""
    import polars as pl

    from dagster_project.lib.labels.consensus import DECIDED

    if "asked" not in cleaned.columns:
        return None
    decided = pl.col("asked") & pl.col("status").is_in(DECIDED)
    return cleaned.select("image_uuid", "inclusion_probability", "stratum", decided=decided)


def _noise(
    answers: "Answers", given_labels: StoredTable, cleaned: "pl.DataFrame", listed: Checkpoints
) -> "Noise":
    """From reviews where enough of the compared images were decided, else from the baseline."""
    from dagster_project.lib.labels.consensus import DECIDED
    from dagster_project.lib.scorecard.noise import from_joint, from_reviews

    found = from_reviews(given_labels.frame, cleaned, answers.classes)
    if found is not None:
        return found
    decided = cleaned.filter(cleaned["status"].is_in(DECIDED))["image_uuid"]
    return from_joint(answers, listed.baseline, decided=decided)


def _headline(listed: Checkpoints, card: Mapping[str, Any]) -> dict[str, Any]:
    """Two scalars a configuration, under names that never change; the rest is in the table."""
    rows = {row["config"]: row for row in card["configs"]}
    return {
        key: value
        for measure in ("balanced_accuracy", "top1")
        for key, value in _plotted(
            listed, measure, {name: row[measure] for name, row in rows.items()}
        ).items()
    }


def _plotted(
    listed: Checkpoints, measure: str, values: Mapping[str, float | None]
) -> dict[str, Any]:
    """``<measure>_<configuration>`` of the first ones: in the list's order, so none moves."""
    kept = [DEPLOYED, *(entry.name for entry in listed.entries)][:MAX_PLOTTED]
    return show.scalars({f"{measure}_{name}": values.get(name) for name in kept})


def _gain_table(found: Mapping[str, Any]) -> "pl.DataFrame":
    """A row a configuration and measure: plain, TTA, and the paired difference."""
    import polars as pl

    from dagster_project.lib.scorecard.comparison import MEASURES

    rows = [
        (name, measure, gain["plain"][measure], gain["tta"][measure], change["estimate"],
         change["low"], change["high"])
        for name, gain in found.items()
        if gain["comparison"]
        for measure, change in ((m, gain["comparison"]["differences"][m]) for m in MEASURES)
    ]  # fmt: skip
    numbers = dict.fromkeys(("plain", "tta", "difference", "low", "high"), pl.Float64)
    schema = {"config": pl.String, "measure": pl.String, **numbers}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _shown(card: Mapping[str, Any], table: "pl.DataFrame", settings: Settings) -> dict[str, Any]:
    """What the UI shows of a card: aggregates, sentences, pictures, links."""
    folder = settings.report_dir / FOLDER
    sentences = [
        f"{row['config']}: {row['verdict']}. {row['sentence']}"
        for row in card["configs"]
        if row["verdict"] is not None
    ]
    return {
        "baseline": card["baseline"],
        "rule_sha256": card["rule_sha256"],
        "scorecard": show.table(table),
        "verdicts": show.reasons(sentences or [_summary(card, [], [])]),
        "report": _note(card),
        **show.link(folder / "scorecard.md", settings),
        **show.link(folder / "scorecard.csv", settings),
        **{
            key: value
            for name in PICTURES
            for key, value in show.published_picture(f"{FOLDER}/{name}", settings).items()
        },
    }


def _note(card: Mapping[str, Any]) -> dg.MetadataValue[Any]:
    """``scorecard.md`` without its pictures, which metadata have beside it."""
    from dagster_project.lib.scorecard.words import scorecard_note

    lines = scorecard_note(card).splitlines()
    return dg.MetadataValue.md("\n".join(line for line in lines if not line.startswith("![")))
