"""Which images a review asked about, and with what probability: the design behind the answers.

Belongs: reading the frozen keys of packets, choosing the packet that counts, a file of reviewed
labels with probabilities, the review columns of scored rows.
Does not: building a packet (``mislabels.packet``), estimating (``evidence``), consensus.
Concept: a review can speak for rows that nobody looked at only if each row's probability of being
asked is known; it is known for the rows of a packet's frame and for nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.labels.consensus import PLURALITY, clean_labels
from dagster_project.lib.labels.drop import NOT_USABLE, UNSURE
from dagster_project.lib.labels.given import check_known, text_ids

DECIDED = ("confirmed", "corrected")
DESIGN_SCHEMA = {
    "image_uuid": pl.String,
    "asked": pl.Boolean,
    "inclusion_probability": pl.Float64,
}


@dataclass(frozen=True)
class Packet:
    """One frozen packet, as far as estimating needs it.

    Attributes
    ----------
    name : the packet's hash.
    design : every image of its frame, ``image_uuid, asked, inclusion_probability``.
    """

    name: str
    design: pl.DataFrame


def read_packets(folder: Path) -> list[Packet]:
    """The packets under ``folder`` in name order; none if it is not there.

    Packets of an older layout recorded no probabilities: they are passed over.

    Raises
    ------
    InputError
        A key or frame that cannot be read.
    """
    keys = sorted(folder.glob("[0-9a-f]*/key.parquet"))
    return [_packet(key) for key in keys if (key.parent / "frame.parquet").is_file()]


def _packet(key: Path) -> Packet:
    frame = tables.read_table(key.parent / "frame.parquet", ["image_uuid", "inclusion_probability"])
    asked = tables.read_table(key, ["image_uuid"])["image_uuid"]
    return Packet(
        key.parent.name,
        frame.select(
            "image_uuid",
            pl.col("image_uuid").is_in(asked.implode()).alias("asked"),
            "inclusion_probability",
        ),
    )


def read_repeats(packets_dir: Path) -> pl.DataFrame:
    """Presentations that show an image again, of all packets.

    Returns
    -------
    ``presented_uuid`` (what comes back in the drop), ``image_uuid``, ``packet``.
    """
    schema = dict.fromkeys(("presented_uuid", "image_uuid", "packet"), pl.String)
    found = [pl.DataFrame(schema=schema)]
    for path in sorted(packets_dir.glob("[0-9a-f]*/key.parquet")):
        key = tables.read_table(path, ["image_uuid"])
        if {"presented_uuid", "role"} <= set(key.columns):
            repeats = key.filter(pl.col("role") == "repeat")
            found.append(
                repeats.select("presented_uuid", "image_uuid", packet=pl.lit(path.parent.name))
            )
    return pl.concat(found)


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
    design : ``image_uuid, asked, inclusion_probability``; None where no sample is known.

    Returns
    -------
    ``scored``, same rows and order, with ``given_label`` (null: none), ``reviewed`` (reviewers
    decided), ``asked`` (in the sample) and ``inclusion_probability`` (of being asked, whether or
    not it was; null outside the frame).
    """
    known = design if design is not None else pl.DataFrame(schema=DESIGN_SCHEMA)
    about = cleaned.select(
        "image_uuid", "given_label", reviewed=pl.col("status").is_in(DECIDED)
    ).join(known.select(*DESIGN_SCHEMA), on="image_uuid", how="left")
    joined = scored.join(about, on="image_uuid", how="left", maintain_order="left")
    return joined.with_columns(pl.col("reviewed", "asked").fill_null(False))


def read_reviewed(path: Path, classes: Sequence[str]) -> pl.DataFrame:
    """Read the file of ``--reviewed-labels``: labels in place of given ones, and how drawn.

    Parameters
    ----------
    path : CSV or parquet ``image_uuid, label, inclusion_probability``. ``label`` is a class,
        ``unsure`` or ``not_usable``; the probability is in (0, 1], empty where unknown.
    classes : (K,) known class names.

    Returns
    -------
    (R,) the three columns, in file order.

    Raises
    ------
    InputError
        A missing column, an empty id or label, an image on two rows, an unknown class, a
        probability that is no number in (0, 1].
    """
    columns = ["image_uuid", "label", "inclusion_probability"]
    frame = tables.read_table(path, columns, row_numbers=True)
    probability = pl.col("inclusion_probability")
    rows = frame.select(
        tables.ROW,
        text_ids(path.name, frame["image_uuid"]),
        pl.col("label").cast(pl.String),
        probability.cast(pl.Float64, strict=False).alias("number"),
        probability.cast(pl.String).alias("text"),
    )
    number = pl.col("number")
    # NaN and infinity are not between 0 and 1 either
    outside = pl.col("text").is_not_null() & ~((number > 0) & (number <= 1)).fill_null(False)
    for column, wrong, mend in (
        ("image_uuid", pl.col("image_uuid").is_null(), "empty; fill it in or remove the row"),
        ("label", pl.col("label").is_null(), "empty; fill it in or remove the row"),
        ("image_uuid", ~pl.col("image_uuid").is_first_distinct(), "a second row; keep one"),
        (
            "inclusion_probability",
            outside,
            "expected a number in (0, 1], or an empty cell where it is unknown",
        ),
    ):
        bad = rows.filter(wrong)[tables.ROW]
        if bad.len():
            more = f" ({bad.len()} such rows)" if bad.len() > 1 else ""
            raise InputError(f"{path.name} row {bad[0]}, column {column}: {mend}{more}")
    check_known(rows, [*classes, UNSURE, NOT_USABLE], source=path.name)
    return rows.select("image_uuid", "label", inclusion_probability="number")


def apply_reviewed(labels: pl.DataFrame, reviewed: pl.DataFrame) -> pl.DataFrame:
    """Given labels with the reviewed ones in their place: rows of ``clean_labels``.

    Parameters
    ----------
    labels : (N,) ``image_uuid, label``, as given.
    reviewed : as :func:`read_reviewed` gives it.

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
    one_reader = reviewed.select("image_uuid", "label", reviewer=pl.lit("file"))
    return clean_labels(labels, one_reader, PLURALITY)


def design_of(reviewed: pl.DataFrame, image_uuids: pl.Series) -> pl.DataFrame:
    """The design that a file of reviewed labels declares, for all of ``image_uuids``.

    Rows with a probability were asked. If those below 1 all have the same one, it is also that of
    every row that is not in the file (a simple random sample of the rest); if they differ, the
    probability of those rows is unknown.
    """
    listed = reviewed.filter(pl.col("inclusion_probability").is_not_null())
    below = listed["inclusion_probability"].unique().sort()
    below = below.filter(below < 1)
    rest = below[0] if below.len() == 1 else None
    rows = pl.DataFrame({"image_uuid": image_uuids})
    joined = rows.join(listed, on="image_uuid", how="left", maintain_order="left")
    asked = pl.col("inclusion_probability").is_not_null()
    return joined.select(
        "image_uuid",
        asked.alias("asked"),
        pl.col("inclusion_probability").fill_null(pl.lit(rest, pl.Float64)),
    )
