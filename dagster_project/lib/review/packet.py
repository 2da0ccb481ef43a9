"""The blind review packet: what a dermatologist gets, and the key that stays here.

Belongs: choosing candidates and hidden controls, copying images under neutral names, the CSV of
each reviewer, the frozen key.
Does not: reading what comes back (``labels.drop``), estimating from it.
Concept: blind reading. Nothing that leaves says which rows were suspected, what they were called
or what the model thinks; controls are mixed in, so being asked about says nothing. And a
probability sample: candidates are certain, every other image may be drawn as a control, so that
the answers speak for the whole frame (docs/label-noise.md).
::

    OUT/<hash>/hand_out/   images/*.jpg  review_<hash8>_<reviewer>.csv  classes.txt  README.txt
    OUT/<hash>/key.parquet       stays here: role, quality, given label, inclusion probability
    OUT/<hash>/frame.parquet     stays here: every image that could be asked about, and how probably
    OUT/<hash>/summary.json
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl

from dagster_project.lib import files, tables
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.labels.drop import NOT_USABLE, UNSURE
from dagster_project.lib.photos import open_photo

_LAYOUT = 2
"""Raise when the content of a packet changes for equal inputs."""

KEY_COLUMNS = (
    "file",
    "image_uuid",
    "role",
    "quality",
    "given_label",
    "predicted_label",
    "image_path",
    "image_sha256",
    "inclusion_probability",
)
"""``key.parquet``; ``role`` is candidate or control. Quality and prediction are those of flagged
rows: a control that was not flagged has none."""

_README = """\
Review of {n} photographs

1. Open your own file, review_..._<your name>.csv, in a spreadsheet.
2. For each row look at the photograph named in image_path and write in "label" the class you
   would give it, spelled as in classes.txt. Write "unsure" if you cannot decide between classes,
   "not_usable" if the photograph shows no skin or cannot be judged.
3. If you like, write in "confidence" a number from 0 to 1, and anything in "comment".
4. Leave image_uuid, image_path and reviewer as they are. Rows without a label count as not yet
   judged, so a half-finished file is welcome. Save as CSV (UTF-8, commas) and return it.

Please judge alone and from the photograph only. The rows are in a random order of your own.
"""


@dataclass(frozen=True)
class PacketDesign:
    """What to ask, and whom.

    Attributes
    ----------
    reviewers : names as they will stand in the ``reviewer`` column; letters, digits, ``. _ -``.
    classes : (K,) names a reviewer may give.
    n : rows at most, controls included.
    control_share : share of controls among the rows, in [0, 1).
    seed : of the choice of controls and of each reviewer's order.
    """

    reviewers: Sequence[str]
    classes: Sequence[str]
    n: int = 200
    control_share: float = 0.25
    seed: int = 0


def build_packet(
    issues: pl.DataFrame,
    index: pl.DataFrame,
    dataset_dir: Path,
    out: Path,
    design: PacketDesign,
) -> dict[str, object]:
    """Publish the packet for the worst candidates and seeded controls; equal packets are kept.

    Images are decoded, turned upright and written again as JPEG without EXIF (place, time and
    device stay here). Unreadable ones are left out and the next candidate or control taken.

    Candidates are asked with probability 1. Controls are a simple random sample of all other rows
    of ``index``, flagged or not: a flagged row beyond the worst n would otherwise have probability
    0, and nothing could be said of the whole. Their probability is examined / pool: exact where
    every image opens; where some do not, stopping at the n-th readable one makes it too high by a
    factor of order 1 + unreadable share / n.

    Parameters
    ----------
    issues : ``Candidates.issues``, worst first.
    index : the frame, the rows that may be asked about: ``image_uuid, image_path``, and ``label``
        (as given) if it is to be kept in the key. Issues of other images do not count.
    dataset_dir : folder that ``image_path`` is relative to.
    out : folder that packets are published in.
    design : size, reviewers, classes, seed.

    Returns
    -------
    The content of ``summary.json`` (``packet, n, n_candidates, n_controls, n_reviewers,
    unreadable, design``), ``folder`` and ``built`` (False where the packet was there already).
    ``design``: ``n_frame``, ``n_flagged``, ``n_flagged_not_candidates``, ``n_pool`` (rows that
    controls are drawn from), ``n_examined``, ``control_probability``.

    Raises
    ------
    InputError
        A reviewer's name, ``n`` or ``control_share`` out of range; no readable candidate.
    """
    _check(design)
    draw = _choose(issues, index, dataset_dir, design)
    chosen = draw.chosen
    packet = files.digest(
        [_LAYOUT, asdict(design), chosen.rows(), tables.digest_frame(draw.frame), draw.facts]
    )
    summary: dict[str, object] = {
        "packet": packet,
        "n": chosen.height,
        "n_candidates": chosen.filter(pl.col("role") == "candidate").height,
        "n_controls": chosen.filter(pl.col("role") == "control").height,
        "n_reviewers": len(design.reviewers),
        "unreadable": draw.unreadable,
        "design": draw.facts,
    }
    folder = out / packet
    built = not folder.exists()
    if built:
        with files.publish_folder(folder) as temp:
            tables.write_arrow(temp / "frame.parquet", draw.frame.to_arrow())
            _write(temp, chosen, dataset_dir, design, summary)
    return {**summary, "folder": str(folder), "built": built}


def _check(design: PacketDesign) -> None:
    names = list(design.reviewers)
    wrong = [name for name in names if not re.fullmatch(r"[A-Za-z0-9._-]{1,60}", name)]
    if wrong or not names or len({name.lower() for name in names}) < len(names):
        raise InputError(
            f"reviewers {some(wrong or names)}: one or more different names of letters, digits "
            "and . _ - are needed; they become file names"
        )
    if design.n < 1:
        raise InputError(f"n {design.n}: a packet needs at least one row")
    if not 0 <= design.control_share < 1:
        raise InputError(f"control_share {design.control_share}: expected a share in [0, 1)")


@dataclass(frozen=True)
class _Draw:
    """What was drawn: the rows of the packet, the probability of every row, and the counts."""

    chosen: pl.DataFrame
    frame: pl.DataFrame
    unreadable: list[str]
    facts: dict[str, int | float]


def _choose(
    issues: pl.DataFrame, index: pl.DataFrame, dataset_dir: Path, design: PacketDesign
) -> _Draw:
    """The rows of the packet by neutral file name, and the probability of every row."""
    label = pl.col("label") if "label" in index.columns else pl.lit(None, pl.String)
    rows = index.select("image_uuid", "image_path", given_label=label)
    flagged = issues.select("image_uuid", "given_label", "predicted_label", "quality").join(
        rows.select("image_uuid", "image_path"), on="image_uuid", maintain_order="left"
    )
    unreadable: list[str] = []
    n_controls = round(design.n * design.control_share)
    suspected = _readable(flagged, design.n - n_controls, dataset_dir, unreadable)
    if suspected.is_empty():
        raise InputError("no candidate has a readable image: there is nothing to review")
    # With few candidates the share of controls is kept, not their number.
    share = design.control_share / (1 - design.control_share)
    n_controls = min(n_controls, round(suspected.height * share))
    pool = (
        rows.join(suspected, on="image_uuid", how="anti")
        .filter(~pl.col("image_uuid").is_in(unreadable))
        .join(flagged.select("image_uuid", "predicted_label", "quality"), "image_uuid", how="left")
        .sort("image_uuid")
    )
    order = np.random.default_rng(design.seed).permutation(pool.height)
    before = len(unreadable)
    controls = _readable(pool[order], n_controls, dataset_dir, unreadable)
    examined = controls.height + len(unreadable) - before
    probability = examined / pool.height if pool.height else 0.0
    facts = {
        "n_frame": rows.height,
        "n_flagged": flagged.height,
        "n_flagged_not_candidates": flagged.height - suspected.height,
        "n_pool": pool.height,
        "n_examined": examined,
        "control_probability": probability,
    }
    chosen = _named(suspected, controls, probability, design.seed)
    frame = _frame(rows, suspected, pool, probability)
    return _Draw(chosen, frame, sorted(unreadable), facts)


def _named(
    suspected: pl.DataFrame, controls: pl.DataFrame, probability: float, seed: int
) -> pl.DataFrame:
    """Candidates and controls as the key has them, sorted by neutral file name."""
    chosen = pl.concat(
        [
            suspected.with_columns(inclusion_probability=pl.lit(1.0), role=pl.lit("candidate")),
            controls.with_columns(
                inclusion_probability=pl.lit(probability), role=pl.lit("control")
            ),
        ],
        how="diagonal",
    )
    # Only the hash orders the files, so that neither role nor suspicion shows in their names.
    names = [f"{files.digest([seed, uuid])}.jpg" for uuid in chosen["image_uuid"]]
    return (
        chosen.with_columns(file=pl.Series(names, dtype=pl.String)).sort("file").select(KEY_COLUMNS)
    )


def _frame(
    rows: pl.DataFrame, suspected: pl.DataFrame, pool: pl.DataFrame, probability: float
) -> pl.DataFrame:
    """``image_uuid, inclusion_probability`` of every row; 0 where its image cannot be read."""
    inside = pl.col("image_uuid")
    value = (
        pl.when(inside.is_in(suspected["image_uuid"].implode()))
        .then(1.0)
        .when(inside.is_in(pool["image_uuid"].implode()))
        .then(probability)
        .otherwise(0.0)
    )
    return rows.select("image_uuid", value.alias("inclusion_probability")).sort("image_uuid")


def _readable(
    rows: pl.DataFrame, wanted: int, dataset_dir: Path, unreadable: list[str]
) -> pl.DataFrame:
    """The first ``wanted`` rows whose image opens, with its sha256; the others are noted."""
    kept: list[int] = []
    hashes: list[str] = []
    for number, (uuid, path) in enumerate(rows.select("image_uuid", "image_path").rows()):
        if len(kept) == wanted:
            break
        try:
            open_photo(dataset_dir / path)
        except InputError:
            unreadable.append(uuid)
            continue
        kept.append(number)
        hashes.append(files.sha256_file(dataset_dir / path))
    return rows[kept].with_columns(image_sha256=pl.Series(hashes, dtype=pl.String))


def _write(
    folder: Path,
    chosen: pl.DataFrame,
    dataset_dir: Path,
    design: PacketDesign,
    summary: dict[str, object],
) -> None:
    tables.write_arrow(folder / "key.parquet", chosen.to_arrow())
    files.write_json(folder / "summary.json", summary)
    hand_out = folder / "hand_out"
    (hand_out / "images").mkdir(parents=True)
    for path, name in chosen.select("image_path", "file").rows():
        _copy_photo(dataset_dir / path, hand_out / "images" / name)
    words = [*design.classes, UNSURE, NOT_USABLE]
    files.write_text(hand_out / "classes.txt", "\n".join(words) + "\n")
    files.write_text(hand_out / "README.txt", _README.format(n=chosen.height))
    for reviewer in design.reviewers:
        # The packet is in the name: a later packet must not replace this one's file in the drop.
        name = f"review_{str(summary['packet'])[:8]}_{reviewer}.csv"
        tables.write_csv(hand_out / name, _sheet(chosen, reviewer, design.seed))


def _copy_photo(source: Path, target: Path) -> None:
    photo = open_photo(source)
    profile = photo.info.get("icc_profile")
    # A phone's wide-gamut colours need their profile; one for print would distort RGB.
    colours = profile if profile and profile[16:20] == b"RGB " else None
    photo.info = {}
    photo.save(target, "JPEG", quality=95, subsampling=0, icc_profile=colours)


def _sheet(chosen: pl.DataFrame, reviewer: str, seed: int) -> pl.DataFrame:
    """The blank sheet of one reviewer, in an order of their own."""
    own = int(files.sha256_bytes(reviewer.encode())[:8], 16)
    order = np.random.default_rng([seed, own]).permutation(chosen.height)
    return chosen[order].select(
        "image_uuid",
        image_path=pl.lit("images/") + pl.col("file"),
        reviewer=pl.lit(reviewer),
        label=pl.lit(None, pl.String),
        confidence=pl.lit(None, pl.String),
        comment=pl.lit(None, pl.String),
    )
