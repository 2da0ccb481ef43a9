"""Which images a review asked about, and with what probability: the design behind the answers.

Belongs: reading the frozen keys of packets, choosing the packet that counts, the repeats that were
shown, a file of reviewed labels with probabilities, the review columns of scored rows.
Does not: building a packet (``packet``), estimating (``evidence``), consensus.
Concept: a review can speak for rows that nobody looked at only if each row's probability of being
asked is known; it is known for the rows of a packet's frame and for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from dagster_project.lib import files, tables
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.evidence.strata import CERTAIN
from dagster_project.lib.labels.consensus import DECIDED
from dagster_project.lib.labels.drop import NOT_USABLE, UNSURE
from dagster_project.lib.labels.given import check_known, text_ids

T = TypeVar("T")

REPEAT = "repeat"
DESIGN_SCHEMA = {
    "image_uuid": pl.String,
    "asked": pl.Boolean,
    "inclusion_probability": pl.Float64,
    "stratum": pl.String,
}
FRAME_COLUMNS = (
    "image_uuid",
    "patient_id",
    "stratum",
    "inclusion_probability",
    "tier",
    "flagged",
    "agrees",
    "given_label",
    "predicted_label",
    "score",
    "split",
)
"""``frame.parquet``: one row an image of the frame, sorted by ``image_uuid``."""
_KEY_COLUMNS = ("presented_uuid", "image_uuid", "role")
_REPEATS = {"presented_uuid": pl.String, "image_uuid": pl.String, "packet": pl.String}


@dataclass(frozen=True)
class Packet:
    """One frozen packet, as far as estimating needs it.

    Attributes
    ----------
    name : the packet's hash.
    design : every image of its frame: ``asked`` (with certainty or drawn; a repeat does not count)
        and the columns of :data:`FRAME_COLUMNS`.
    summary : its ``summary.json``.
    """

    name: str
    design: pl.DataFrame
    summary: Mapping[str, object] = field(default_factory=dict)


def read_packets(folder: Path) -> list[Packet]:
    """The packets under ``folder`` in name order; none if it is not there.

    Packets of an older layout recorded no strata: they are passed over. What their reviews say of
    an image counts as a label, and nothing else can be estimated from them.

    Raises
    ------
    InputError
        A key or frame that cannot be read, or lacks a column.
    """
    return [_packet(key) for key in _keys(folder)]


def _keys(folder: Path) -> list[Path]:
    """Keys of the packets whose frame has strata."""
    keys = sorted(folder.glob("[0-9a-f]*/key.parquet"))
    frames = {key: key.parent / "frame.parquet" for key in keys}
    return [
        key
        for key, frame in frames.items()
        if frame.is_file() and "stratum" in _named(frame, tables.read_schema, frame).names
    ]


def _named(path: Path, read: Callable[..., T], *args: Any) -> T:
    """What ``read`` returns; its error names the packet, because all have files of one name."""
    try:
        return read(*args)
    except InputError as error:
        raise InputError(f"packet {path.parent.name}, {error}") from None


def _packet(key: Path) -> Packet:
    folder = key.parent
    frame = _named(key, tables.read_table, folder / "frame.parquet", FRAME_COLUMNS)
    frame = frame.select(FRAME_COLUMNS)
    rows = _named(key, tables.read_table, key, _KEY_COLUMNS)
    asked = rows.filter(pl.col("role") != REPEAT)["image_uuid"]
    found = frame.with_columns(asked=pl.col("image_uuid").is_in(asked.implode()))
    summary = folder / "summary.json"
    known = _named(key, files.read_json, summary) if summary.is_file() else {}
    return Packet(folder.name, found, known)


def expected(
    packets: Sequence[Packet], name: str, figure: str = "confident_wrong"
) -> Mapping[str, float] | None:
    """What the packet ``name`` made one expect of a figure; None where it does not say.

    ``expected`` and ``half_width``, from ``power`` of its summary (``power.expected_precision``).
    """
    for packet in packets:
        power = packet.summary.get("power")
        if packet.name == name and isinstance(power, Mapping):
            found = power.get(figure)
            return found if isinstance(found, Mapping) else None
    return None


def read_repeats(packets_dir: Path) -> pl.DataFrame:
    """Every presentation that shows an image again, over all packets.

    Its reviews come back under ``presented_uuid``: the drop must know these ids, consensus does not
    count them, and self-agreement compares them with the review of ``image_uuid``.

    Returns
    -------
    ``presented_uuid, image_uuid, packet``, sorted; no rows without packets or repeats.

    Raises
    ------
    InputError
        A key that cannot be read.
    """
    found = []
    for key in _keys(packets_dir):
        rows = _named(key, tables.read_table, key, _KEY_COLUMNS)
        rows = rows.filter(pl.col("role") == REPEAT)
        found.append(rows.select(*_KEY_COLUMNS[:2], packet=pl.lit(key.parent.name)))
    table = pl.concat([pl.DataFrame(schema=_REPEATS), *found], how="vertical_relaxed")
    return table.sort("presented_uuid", "packet")


def choose_packet(packets: Sequence[Packet], cleaned: pl.DataFrame) -> Packet | None:
    """The one packet whose reviews are used as a sample: the most completely returned one.

    Several are not combined: packets of one seed are not drawn independently of each other, so the
    probability of being in either is not known. Returned share = images with at least one review /
    images asked about, both among ``cleaned``; of equal ones the larger packet, then the first by
    name. A review counts whichever packet it was written for, because it is about the image.

    Parameters
    ----------
    packets : as :func:`read_packets` gives them.
    cleaned : rows of ``consensus.clean_labels``, of the images that are evaluated.

    Returns
    -------
    None where no packet asks about any of these images, or none has been returned at all.
    """
    back = cleaned.select("image_uuid", returned=pl.col("status") != "given")
    ranked: list[tuple[float, int, Packet]] = []
    for packet in packets:
        asked = packet.design.filter("asked").join(back, on="image_uuid")
        n_returned = int(asked["returned"].sum())
        if n_returned:
            ranked.append((n_returned / asked.height, asked.height, packet))
    ranked.sort(key=lambda item: (-item[0], -item[1], item[2].name))
    return ranked[0][2] if ranked else None


def with_reviews(
    scored: pl.DataFrame, cleaned: pl.DataFrame, design: pl.DataFrame | None
) -> pl.DataFrame:
    """Scored rows with what was asked about them.

    Parameters
    ----------
    scored : (N,) rows of ``score_rows``.
    cleaned : rows of ``clean_labels``, every scored image among them.
    design : ``image_uuid, asked, inclusion_probability, stratum``; None where no sample is known.

    Returns
    -------
    ``scored``, same rows and order, with ``given_label`` (null: none), ``reviewed`` (reviewers
    decided), ``returned`` (somebody answered), ``asked`` (in the sample),
    ``inclusion_probability`` (of being asked, whether or not it was; null outside the frame) and
    ``stratum`` (null outside).
    """
    known = design if design is not None else pl.DataFrame(schema=DESIGN_SCHEMA)
    about = cleaned.select(
        "image_uuid",
        "given_label",
        reviewed=pl.col("status").is_in(DECIDED),
        returned=pl.col("status") != "given",
    ).join(known.select(*DESIGN_SCHEMA), on="image_uuid", how="left")
    joined = scored.join(about, on="image_uuid", how="left", maintain_order="left")
    return joined.with_columns(pl.col("reviewed", "returned", "asked").fill_null(False))


def read_reviewed(path: Path, classes: Sequence[str]) -> pl.DataFrame:
    """Read the file of ``--reviewed-labels``: labels in place of given ones, and how drawn.

    Parameters
    ----------
    path : CSV or parquet ``image_uuid, label, inclusion_probability`` and, for a stratified sample,
        ``stratum``. ``label`` is a class, ``unsure`` or ``not_usable``; the probability is in
        (0, 1], empty where unknown, one for each stratum. With strata, rows that could have been
        asked and were not are listed too, with an empty label: only they tell how large a stratum
        is.
    classes : (K,) known class names.

    Returns
    -------
    (R,) ``image_uuid, label, inclusion_probability, stratum`` (null where the file has none), in
    file order.

    Raises
    ------
    InputError
        A missing column, an empty id or label, an image on two rows, an unknown class, a
        probability that is no number in (0, 1], a stratum without one or with two.
    """
    columns = ["image_uuid", "label", "inclusion_probability"]
    frame = tables.read_table(path, columns, row_numbers=True)
    with_strata = "stratum" in frame.columns
    probability = pl.col("inclusion_probability")
    stratum = pl.col("stratum") if with_strata else pl.lit(None)
    rows = frame.select(
        tables.ROW,
        text_ids(path.name, frame["image_uuid"]),
        pl.col("label").cast(pl.String),
        probability.cast(pl.Float64, strict=False).alias("number"),
        probability.cast(pl.String).alias("text"),
        stratum.cast(pl.String).alias("stratum"),
    )
    for column, wrong, mend in _faults(with_strata):
        bad = rows.filter(wrong)[tables.ROW]
        if bad.len():
            more = f" ({bad.len()} such rows)" if bad.len() > 1 else ""
            raise InputError(f"{path.name} row {bad[0]}, column {column}: {mend}{more}")
    check_known(
        rows.filter(pl.col("label").is_not_null()),
        [*classes, UNSURE, NOT_USABLE],
        source=path.name,
    )
    return rows.select("image_uuid", "label", "stratum", inclusion_probability="number").select(
        *columns, "stratum"
    )


def _faults(with_strata: bool) -> list[tuple[str, pl.Expr, str]]:
    """What each row of a file of reviewed labels is checked for: column, fault, mend."""
    number, stratum = pl.col("number"), pl.col("stratum")
    # NaN and infinity are not between 0 and 1 either
    outside = pl.col("text").is_not_null() & ~((number > 0) & (number <= 1)).fill_null(False)
    empty = "empty; fill it in or remove the row"
    found = [
        ("image_uuid", pl.col("image_uuid").is_null(), empty),
        ("image_uuid", ~pl.col("image_uuid").is_first_distinct(), "a second row; keep one"),
        (
            "inclusion_probability",
            outside,
            "expected a number in (0, 1], or an empty cell where it is unknown",
        ),
    ]
    unlabelled = pl.col("label").is_null()
    if not with_strata:
        return [*found, ("label", unlabelled, empty)]
    return [
        *found,
        (
            "stratum",
            stratum.is_null() != number.is_null(),
            "a stratum and an inclusion probability go together; give both or neither",
        ),
        (
            "inclusion_probability",
            number.is_not_null() & (number != number.first().over("stratum")),
            "another one than the first of its stratum; rows of one stratum have the same",
        ),
        ("label", unlabelled & stratum.is_null(), "empty; only a row of a stratum may be open"),
    ]


def apply_reviewed(labels: pl.DataFrame, reviewed: pl.DataFrame) -> pl.DataFrame:
    """Given labels with the reviewed ones in their place.

    Whoever wrote the file has decided: no consensus is formed and no second reader is asked for.

    Parameters
    ----------
    labels : (N,) ``image_uuid, label``, as given.
    reviewed : as :func:`read_reviewed` gives it.

    Returns
    -------
    (N,) in the order of ``labels``: ``image_uuid, label, given_label, status`` as ``clean_labels``
    has them.

    Raises
    ------
    InputError
        A reviewed image has no row in ``labels``.
    """
    unknown = reviewed.join(labels, on="image_uuid", how="anti")["image_uuid"]
    if unknown.len():
        raise InputError(
            f"reviewed labels, column image_uuid: {unknown.len()} unknown images: "
            f"{some(unknown)}; remove them or pass the labels that they replace"
        )
    said, given = pl.col("said"), pl.col("given_label")
    status = (
        pl.when(said.is_null())
        .then(pl.lit("given"))
        .when(said.is_in([UNSURE, NOT_USABLE]))
        .then(said)
        .when(said.eq_missing(given))
        .then(pl.lit("confirmed"))
        .otherwise(pl.lit("corrected"))
    )
    kept = pl.when(said == NOT_USABLE).then(None).when(said == UNSURE).then(given)
    return (
        labels.select("image_uuid", given_label="label")
        .join(
            reviewed.select("image_uuid", said="label"),
            on="image_uuid",
            how="left",
            maintain_order="left",
        )
        .select(
            "image_uuid",
            kept.otherwise(pl.coalesce(said, given)).alias("label"),
            "given_label",
            status.alias("status"),
        )
    )


def design_of(reviewed: pl.DataFrame, image_uuids: pl.Series) -> pl.DataFrame:
    """The design that a file of reviewed labels declares, for all of ``image_uuids``.

    Rows with a probability and a label were asked. Where the file names strata they are the design,
    and rows that it does not list could not have been asked. Where it names none, equal
    probabilities form a stratum (1: ``certain``); if those below 1 are all the same, that is also
    the probability of every row that is not in the file (a simple random sample of the rest), and
    if they differ, the probability of those rows is unknown.
    """
    listed = reviewed.filter(pl.col("inclusion_probability").is_not_null())
    number = pl.col("inclusion_probability")
    rows = pl.DataFrame({"image_uuid": image_uuids})
    joined = rows.join(listed, on="image_uuid", how="left", maintain_order="left").with_columns(
        asked=number.is_not_null() & pl.col("label").is_not_null()
    )
    if listed["stratum"].null_count() == listed.height:
        below = listed["inclusion_probability"].unique().sort()
        below = below.filter(below < 1)
        rest = below[0] if below.len() == 1 else None
        joined = joined.with_columns(number.fill_null(pl.lit(rest, pl.Float64))).with_columns(
            stratum=pl.when(number == 1).then(pl.lit(CERTAIN)).otherwise(number.cast(pl.String))
        )
    return joined.select(*DESIGN_SCHEMA)
