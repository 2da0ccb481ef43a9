"""The append-only record: what each image was, became, and why, in one row for each state.

Belongs: the rows, their ids and hashes, the folder that only ever grows.
Does not: placing (``place``), the report (``report``), the files of a command (``publish``).
Concept: a state is stored -> masked -> rolled up, each made from the one before it, and only the
last is terminal. Nothing is ever changed or taken back: a state is named by everything that made it
(image, raw outputs, model, configuration, thresholds, taxonomy), so equal ids are equal rows, and
what is new has a name of its own. N = images, K = classes, R = ranks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib import files, tables
from dagster_project.lib.files import canonical_json, digest
from dagster_project.lib.rollup.placed import REASONS, UNPLACED

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from dagster_project.lib.probability_table import ProbabilityTable
    from dagster_project.lib.rollup.candidates import RollUp
    from dagster_project.lib.rollup.placed import Placed
    from dagster_project.lib.rollup.prepare import Prepared

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

STAGES = ("source", "masked", "rollup")

MASK_REASONS = ("as_stored", "kept", "leaf_excluded", *REASONS[2:])
"""Why a source or masked row is what it is; of a rollup row it is one of ``placed.REASONS``."""

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "image_uuid": pl.String,
    "stage": pl.String,
    "prediction_id": pl.String,
    "applied_to": pl.String,
    "root_id": pl.String,
    "terminal": pl.Boolean,
    "node": pl.String,
    "rank": pl.String,
    "score": pl.Float64,
    "leaf_top": pl.String,
    "leaf_score": pl.Float64,
    "raw_max": pl.Float64,
    "kept_mass": pl.Float64,
    "off_lineage": pl.Boolean,
    "lineage_node": pl.String,
    "lineage_score": pl.Float64,
    "threshold": pl.Float64,
    "changed": pl.Boolean,
    "reason": pl.String,
    "config_hash": pl.String,
    "taxonomy_hash": pl.String,
    "model_tree_hash": pl.String,
}
"""Columns, in order; docs/rollup-report.md says what each is."""

FOLDER = "predictions"
_ID = 32
"""Hex digits of a prediction's id: 128 bits, so that no two of a billion states share one."""


@dataclass(frozen=True)
class Record:
    """What one configuration made of one table of probabilities.

    Attributes
    ----------
    rows : (3N,) in the columns of :data:`SCHEMA`, by image and stage.
    metadata : ``config, thresholds, taxonomy, classes`` (JSON, all that is needed to do it again),
        and the hashes.
    """

    rows: pl.DataFrame
    metadata: dict[str, str]

    @property
    def config_hash(self) -> str:
        """Names the configuration with the thresholds that were used."""
        return self.metadata["config_hash"]

    @property
    def file_name(self) -> str:
        """``<config hash>-<hash of all states>.parquet``: another table, another file."""
        return f"{self.config_hash}-{digest(self.rows['prediction_id'].to_list())}.parquet"

    def arrow(self) -> pa.Table:
        """As it is stored."""
        return tables.with_metadata(self.rows.to_arrow(), self.metadata)


def used_sha256(rollup: RollUp) -> str:
    """Names a configuration with the thresholds it came to, for column ``config_hash``.

    Fitted thresholds follow labels: one configuration, other labels, other thresholds, other hash.
    The thresholds enter by rank with all their digits; a rank that is never said enters as null.
    """
    return digest(
        {"config": rollup.config.model_dump(mode="json"), "thresholds": thresholds_of(rollup)}
    )


def thresholds_of(rollup: RollUp) -> dict[str, float | None]:
    """Rank -> threshold, finest first; null: never said, or the rule has a single parameter."""
    values = [None if np.isnan(t) else float(t) for t in rollup.thresholds]
    return dict(zip(rollup.taxonomy.ranks, values, strict=True))


def make_record(
    table: ProbabilityTable, prepared: Prepared, placed: Placed, rollup: RollUp
) -> Record:
    """Three rows an image: as stored, masked and normalised, rolled up.

    Parameters
    ----------
    table : (N, K) probabilities. prepared, placed : of its rows, in its order.

    Returns
    -------
    Sorted by ``image_uuid``, then stage. An image without probabilities has its three rows too:
    without a node, and with the reason.
    """
    order = np.argsort(table.frame["image_uuid"].to_numpy(), kind="stable")
    model = table.metadata.get("model_tree_hash")
    hashes = {
        "config_hash": used_sha256(rollup),
        "taxonomy_hash": rollup.taxonomy.sha256,
        "model_tree_hash": model,
    }
    ids = _ids(table, canonical_json(hashes))
    stages = (
        _source(table.probs, rollup),
        _masked(table.probs, prepared, placed, rollup),
        _rolled_up(prepared, placed, rollup),
    )
    uuid = table.frame["image_uuid"].cast(pl.String)
    frames = []
    for number, (stage, columns) in enumerate(zip(STAGES, stages, strict=True)):
        frame = pl.DataFrame(
            {
                "image_uuid": uuid,
                "stage": pl.repeat(stage, uuid.len(), eager=True),
                "prediction_id": ids[number],
                "applied_to": ids[number - 1] if number else None,
                "root_id": ids[0],
                "terminal": stage == STAGES[-1],
                **columns,
            }
        ).with_columns(**{name: pl.lit(value, pl.String) for name, value in hashes.items()})
        frames.append(frame.select(*SCHEMA).cast(pl.Schema(SCHEMA)))
    n = len(order)
    rows = pl.concat(frames)[(order[:, None] + n * np.arange(len(STAGES))).ravel()]
    return Record(rows, _metadata(rollup, hashes))


def source_version(table: ProbabilityTable) -> str:
    """Digest of a table's model, ids and deployed view, in any order of its rows."""
    model = canonical_json(table.metadata.get("model_tree_hash"))
    return digest(sorted(_ids(table, model)[0]))


def masked_rows(table: ProbabilityTable, prepared: Prepared) -> pl.DataFrame:
    """What a mask and a normalisation leave of each answer, before any roll-up.

    Returns
    -------
    (N,) sorted by ``image_uuid``: ``image_uuid``, ``source_top`` (first class of the largest raw
    output), ``leaf_top``, ``leaf_score`` (of the largest share, the first), ``raw_max``,
    ``kept_mass``, ``decided``, ``changed`` (the leaf is another class than before, or none).
    """
    before, _ = _raw_top(table.probs)
    shared = ~np.isnan(prepared.values[:, 0])
    filled = np.where(shared[:, None], prepared.values, 0.0)
    top = np.where(shared, filled.argmax(axis=1), UNPLACED)
    return pl.DataFrame(
        {
            "image_uuid": table.frame["image_uuid"].cast(pl.String),
            "source_top": _named(table.classes, before),
            "leaf_top": _named(table.classes, top),
            "leaf_score": _number(np.where(shared, filled.max(axis=1), np.nan)),
            "raw_max": _number(prepared.raw_max),
            "kept_mass": _number(prepared.kept_mass),
            "decided": prepared.decided,
            "changed": top != before,
        }
    ).sort("image_uuid")


def _metadata(rollup: RollUp, hashes: dict[str, str | None]) -> dict[str, str]:
    taxonomy = rollup.taxonomy
    told = {
        "config": rollup.config.model_dump(mode="json"),
        "thresholds": thresholds_of(rollup),
        "taxonomy": {"ranks": list(taxonomy.ranks), "lineages": [*map(list, taxonomy.lineages)]},
        "classes": list(taxonomy.classes),
    }
    known = {name: value for name, value in hashes.items() if value is not None}
    return {name: canonical_json(value) for name, value in told.items()} | known


def _ids(table: ProbabilityTable, made_by: str) -> list[list[str]]:
    """Ids of every image's states, a list a stage.

    sha512 of what made them (hashes of configuration, taxonomy and model), the image, and its raw
    outputs as float64 (so that a table stored as float32 or float64 is the same); its first 32 hex
    digits name the source, the next 32 the masked row, the next 32 the rolled-up one.
    """
    begun = hashlib.sha512(made_by.encode())
    raw = table.probs.astype("<f8")
    raw[np.isnan(raw)] = np.nan  # one NaN, whatever bits the file had
    digests = []
    for uuid, row in zip(table.frame["image_uuid"].to_list(), raw, strict=True):
        image = begun.copy()
        name = str(uuid).encode()
        image.update(b"\n%d:%b" % (len(name), name) + row.tobytes())
        digests.append(image.hexdigest())
    return [[digest[_ID * k : _ID * (k + 1)] for digest in digests] for k in range(len(STAGES))]


def _source(raw: npt.NDArray[np.floating[Any]], rollup: RollUp) -> dict[str, Any]:
    """What was stored: the largest raw output, of any class."""
    top, largest = _raw_top(raw)
    return {
        **_node(top, np.where(top == UNPLACED, UNPLACED, 0), largest, rollup),
        "leaf_top": _named(rollup.taxonomy.nodes, top),
        "leaf_score": _number(largest),
        "raw_max": _number(largest),
        "kept_mass": None,
        **_nothing_of_lineage(),
        "changed": None,
        "reason": np.where(top == UNPLACED, "no_probabilities", "as_stored"),
    }


def _masked(
    raw: npt.NDArray[np.floating[Any]], prepared: Prepared, placed: Placed, rollup: RollUp
) -> dict[str, Any]:
    """The largest share of an allowed class; no node where the row is not decided."""
    before, _ = _raw_top(raw)
    node = np.where(prepared.decided, placed.leaf_top, UNPLACED)
    reason = np.where(prepared.allowed[before], "kept", "leaf_excluded")
    reason = np.where(prepared.decided, reason, "kept_mass_too_small")
    return {
        **_node(node, np.where(node == UNPLACED, UNPLACED, 0), placed.leaf_score, rollup),
        **_leaf(prepared, placed, rollup),
        **_nothing_of_lineage(),
        "changed": node != before,
        "reason": np.where(np.isnan(prepared.kept_mass), "no_probabilities", reason),
    }


def _rolled_up(prepared: Prepared, placed: Placed, rollup: RollUp) -> dict[str, Any]:
    before = np.where(prepared.decided, placed.leaf_top, UNPLACED)
    return {
        **_node(placed.node, placed.rank, placed.score, rollup),
        **_leaf(prepared, placed, rollup),
        "off_lineage": placed.off_lineage,
        "lineage_node": _named(rollup.taxonomy.nodes, placed.lineage_node),
        "lineage_score": _number(placed.lineage_score),
        "threshold": _number(placed.threshold),
        "changed": placed.node != before,
        "reason": np.asarray(REASONS)[placed.reason],
    }


def _node(node: Ints, rank: Ints, score: Floats, rollup: RollUp) -> dict[str, Any]:
    taxonomy = rollup.taxonomy
    return {
        "node": _named(taxonomy.nodes, node),
        "rank": _named(taxonomy.ranks, rank),
        "score": _number(np.where(node == UNPLACED, np.nan, score)),
    }


def _leaf(prepared: Prepared, placed: Placed, rollup: RollUp) -> dict[str, Any]:
    return {
        "leaf_top": _named(rollup.taxonomy.nodes, placed.leaf_top),
        "leaf_score": _number(placed.leaf_score),
        "raw_max": _number(prepared.raw_max),
        "kept_mass": _number(prepared.kept_mass),
    }


def _nothing_of_lineage() -> dict[str, None]:
    return dict.fromkeys(("off_lineage", "lineage_node", "lineage_score", "threshold"))


def _raw_top(raw: npt.NDArray[np.floating[Any]]) -> tuple[Ints, Floats]:
    """(N,) first class of the largest raw output, UNPLACED without; (N,) that output."""
    has = ~np.isnan(raw).any(axis=1)
    filled = np.where(has[:, None], raw, 0.0).astype(np.float64)
    top = np.where(has, filled.argmax(axis=1), UNPLACED)
    return top, np.where(has, filled.max(axis=1), np.nan)


def _named(names: tuple[str, ...], number: Ints) -> pl.Series:
    known = pl.Series(list(names), dtype=pl.String)
    at = pl.Series(np.where(number == UNPLACED, 0, number))
    return pl.select(
        pl.when(pl.Series(number != UNPLACED)).then(known.gather(at)).otherwise(None)
    ).to_series()


def _number(values: Floats) -> pl.Series:
    return pl.Series(values, nan_to_null=True, dtype=pl.Float64)


def add_record(folder: Path, record: Record) -> bool:
    """Publish a record as a file of its own; True if it was new.

    A file is named by what is in it: one that is there is left as it is, and whoever comes second
    with the same record finds it. Nothing in ``folder`` is ever changed or removed.
    """
    path = folder / record.file_name
    if path.is_file():
        return False
    files.make_folder(folder)
    tables.write_arrow(path, record.arrow())
    return True


def records_in(folder: Path) -> list[str]:
    """Names of the records in a folder, sorted."""
    return sorted(path.name for path in folder.glob("*.parquet"))


def gather_records(folder: Path, out: Path) -> list[str]:
    """Publish all records of a folder as one file, in the order of their names; these names.

    Whoever adds a record gathers afterwards, and looks once more after writing: of several at once
    the last to write has seen them all. The same records, the same bytes.
    """
    gathered: list[str] = []
    while gathered != (found := records_in(folder)):
        schema = pl.DataFrame(schema=SCHEMA).to_arrow().schema
        told = {b"records": canonical_json(found).encode()}
        tables.write_arrow_parts(out, schema.with_metadata(told), _parts(folder, found, schema))
        gathered = found
    return gathered


def _parts(folder: Path, names: list[str], schema: pa.Schema) -> Iterator[pa.Table]:
    for name in names:
        for part in tables.read_arrow_parts(folder / name):
            yield part.cast(schema)
