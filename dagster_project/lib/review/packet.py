"""The blind review packet: whom to ask about what, in what order, and the key that stays here.

Belongs: putting design, order and hand-out together; the frozen key and frame.
Does not: the sampling design (``design``), what leaves (``hand_out``, ``page``), reading what comes
back (``labels.drop``), estimating from it.
Concept: blind reading of a probability sample. Every image of the frame may be asked about, with a
recorded probability, so that the answers speak for all of it (docs/review-packet.md).
::

    OUT/<hash>/hand_out/<reviewer>/   leaves, also as <reviewer>.zip
    OUT/<hash>/key.parquet            stays: every showing that counts, its role and what is known
    OUT/<hash>/frame.parquet          stays: every image that could be asked about, how probably
    OUT/<hash>/summary.json
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib import files, tables
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.labels.names import folded
from dagster_project.lib.photos import open_photo
from dagster_project.lib.progress import silent
from dagster_project.lib.review import order, shown
from dagster_project.lib.review.design import (
    Plan,
    Sampling,
    draw_sample,
    plan_sample,
    stratified,
    worst_first,
)
from dagster_project.lib.review.hand_out import HandOut, Shown, write_hand_out
from dagster_project.lib.review.power import expected_precision, sentences
from dagster_project.lib.review.sample import FRAME_COLUMNS

if TYPE_CHECKING:
    from dagster_project.lib.progress import OnProgress
    from dagster_project.lib.tiers.thresholds import Thresholds

_LAYOUT = 3
"""Raise when the content of a packet changes for equal inputs."""

KEY_COLUMNS = (
    "presented_uuid",
    "image_uuid",
    "role",
    "stratum",
    "inclusion_probability",
    "flagged",
    "tier",
    "quality",
    "given_label",
    "predicted_label",
    "score",
    "patient_id",
    "file",
    "image_path",
    "image_sha256",
)
"""``key.parquet``: one row a showing that counts; ``role`` is certain, drawn or repeat."""
_CHECK_SIDE = 256


@dataclass(frozen=True)
class PacketSource:
    """What a packet is made from.

    Attributes
    ----------
    judged : the frame, rows of ``Candidates.rows`` of the split that is asked about.
    index : the whole dataset, ``image_uuid, image_path, patient_id, split`` and metadata columns.
    dataset_dir : folder that ``image_path`` is relative to.
    thresholds : the tiers of the design.
    """

    judged: pl.DataFrame
    index: pl.DataFrame
    dataset_dir: Path
    thresholds: Thresholds


@dataclass(frozen=True)
class PacketDesign:
    """Whom to ask, how, and about how much.

    Attributes
    ----------
    reviewers : names as they will stand in the ``reviewer`` column; letters, digits, ``. _ -``.
    classes : (K,) names a reviewer may give.
    sampling : size, certainty stratum, allocation, seed.
    n_repeats : images shown twice; None: ``order.default_repeats``.
    n_practice : practice cases before the first image that counts.
    descriptions : class -> a few words.
    columns : metadata columns that reviewers may see.
    """

    reviewers: Sequence[str]
    classes: Sequence[str]
    sampling: Sampling = field(default_factory=Sampling)
    n_repeats: int | None = None
    n_practice: int = 5
    descriptions: Mapping[str, str] = field(default_factory=dict)
    columns: Sequence[str] = ()


@dataclass(frozen=True)
class PacketPlan:
    """A packet before anything is drawn.

    Attributes
    ----------
    plan : strata and probabilities.
    unreadable : image_uuids that cannot be asked about, as far as known: missing files, and what
        did not open on the way to the worst ones.
    power : of ``power.expected_precision``.
    notes : what to know before the packet is handed out.
    """

    plan: Plan
    unreadable: Sequence[str]
    power: Mapping[str, Any]
    notes: Sequence[str] = ()

    @property
    def strata(self) -> pl.DataFrame:
        """Counts by stratum, aggregates only."""
        return self.plan.strata

    def sentences(self) -> list[str]:
        """What the packet can and cannot show, and the notes."""
        return [*sentences(self.power), *self.notes]

    def table_lines(self) -> list[str]:
        """The strata for a terminal: images, patients, how many are drawn, probability."""
        lines = [f"{'stratum':28}{'images':>8}{'patients':>10}{'drawn':>8}{'asked':>8}{'prob.':>8}"]
        for name, n, patients, drawn, probability, asked in self.strata.rows():
            lines.append(f"{name:28}{n:>8}{patients:>10}{drawn:>8}{asked:>8.1f}{probability:>8.3f}")
        return lines


def plan_packet(
    source: PacketSource, design: PacketDesign, on_progress: OnProgress = silent
) -> PacketPlan:
    """The design of a packet and what it can show; writes nothing.

    Whether a file is there is looked up for every image of the frame; the worst flagged ones are
    opened until enough of them can be read.

    Raises
    ------
    InputError
        A reviewer's name, a number out of range, an image that the dataset does not have, a column
        that reviewers must not see; as ``design.stratified`` and ``design.plan_sample``.
    """
    _check(design)
    rows = stratified(_known(source), source.thresholds)
    strange = rows.join(source.index, on="image_uuid", how="anti")["image_uuid"]
    if strange.len():
        raise InputError(f"{strange.len()} judged images are not in the dataset: {some(strange)}")
    shown.check_columns(design.columns, source.index, rows, design.classes)
    notes = shown.check_ids(rows)
    paths = rows.select("image_uuid", "image_path").rows()
    unreadable = [uuid for uuid, path in paths if not (source.dataset_dir / path).is_file()]
    if len(unreadable) == rows.height:
        raise InputError(
            f"{source.dataset_dir}: none of the {rows.height} photographs is there; there is "
            "nothing to review"
        )
    worst = worst_first(rows.filter(~pl.col("image_uuid").is_in(unreadable)))
    certain: list[str] = []
    for uuid, path in worst.select("image_uuid", "image_path").rows():
        if len(certain) == design.sampling.certain:
            break
        (certain if _opens(source.dataset_dir / path) else unreadable).append(uuid)
        on_progress(len(certain), design.sampling.certain)
    plan = plan_sample(rows, design.sampling, certain=certain, unreadable=unreadable)
    splits = rows["split"].unique().implode()
    of_split = source.index.filter(pl.col("split").is_in(splits, nulls_equal=True)).height
    n_outside = of_split - rows.height + len(unreadable)
    return PacketPlan(plan, sorted(unreadable), expected_precision(plan, n_outside), notes)


def build_packet(
    source: PacketSource,
    design: PacketDesign,
    out: Path,
    *,
    similar: pl.DataFrame | None = None,
    reviews: pl.DataFrame | None = None,
    on_progress: OnProgress = silent,
) -> dict[str, Any]:
    """Draw, order and publish a packet; an equal packet is not built again.

    Drawn images are opened before anything is written. One that does not open is left out and not
    replaced: every other image keeps exactly its probability m_h / M_h, and this one has 0.

    Parameters
    ----------
    source, design : what from, and how.
    out : folder that packets are published in.
    similar : ``image_uuid, group``: images of a group look alike and are never neighbours; nor are
        those of a patient.
    reviews : ``image_uuid, reviewer`` of what has come back so far. An image that is asked about
        and that a reviewer has judged is not shown to him again: a second answer that differs would
        be a contradiction, and his first one counts for this packet, too.
    on_progress : called with photographs done.

    Returns
    -------
    ``summary.json``: ``packet, layout, n`` (images asked about), ``n_certain, n_drawn, n_repeats,
    n_practice, n_reviewers, n_frame, n_outside, unreadable, strata, thresholds, orders, power,
    can_show``; and ``folder`` and ``built`` (False where the packet was there already).

    Raises
    ------
    InputError
        As :func:`plan_packet`; no image can be read, more repeats than images, a reviewer who has
        judged every image.
    """
    planned = plan_packet(source, design, on_progress)
    draw = _draw(source, design, planned, on_progress)
    packet = _arrange(source, design, draw, similar, _judged_by(reviews))
    summary = _summary(source, design, planned, packet)
    facts = [_LAYOUT, asdict(design), summary, tables.digest_frame(packet.key)]
    facts += [tables.digest_frame(packet.frame), _leaves(packet)]
    name = files.digest(facts)
    folder = out / name
    built = not folder.exists()
    summary = {"packet": name, **summary}
    if built:
        _publish(folder, packet, design, summary, on_progress)
    return {**summary, "folder": str(folder), "built": built}


@dataclass(frozen=True)
class _Packet:
    """Everything that is written.

    ``showings`` and ``practice``: what is shown; ``orders``: reviewer -> order of the showings.
    """

    key: pl.DataFrame
    frame: pl.DataFrame
    showings: Sequence[Shown]
    practice: Sequence[Shown]
    orders: Mapping[str, order.Order]
    unreadable: Sequence[str]


@dataclass(frozen=True)
class _Draw:
    """The images asked about, with ``image_sha256``, and what did not open after all."""

    frame: pl.DataFrame
    asked: pl.DataFrame
    unreadable: Sequence[str]


def _check(design: PacketDesign) -> None:
    names = list(design.reviewers)
    wrong = [name for name in names if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", name)]
    if wrong or not names or len({name.lower() for name in names}) < len(names):
        raise InputError(
            f"reviewers {some(wrong or names)}: one or more different names of letters, digits "
            "and . _ - are needed; they become file names"
        )
    for what, number in (("repeats", design.n_repeats or 0), ("practice", design.n_practice)):
        if number < 0:
            raise InputError(f"{what} {number}: a number of images, 0 or more, is needed")


def _opens(path: Path) -> bool:
    """Whether a photograph can be decoded to its end (at a small scale, where that is quicker)."""
    try:
        open_photo(path, hint=_CHECK_SIDE)
    except InputError:
        return False
    return True


def _draw(
    source: PacketSource, design: PacketDesign, planned: PacketPlan, on_progress: OnProgress
) -> _Draw:
    asked = draw_sample(planned.plan)
    paths = [source.dataset_dir / path for path in asked["image_path"]]
    opens = []
    for number, path in enumerate(paths, start=1):
        opens.append(_opens(path))
        on_progress(number, len(paths))
    broken = asked.filter(~pl.Series(opens, dtype=pl.Boolean))["image_uuid"].to_list()
    asked = asked.filter(~pl.col("image_uuid").is_in(broken))
    if asked.is_empty():
        raise InputError("no image that was drawn can be read: there is nothing to review")
    if (design.n_repeats or 0) > asked.height:
        raise InputError(f"repeats {design.n_repeats}: only {asked.height} images are asked about")
    hashes = [files.sha256_file(source.dataset_dir / path) for path in asked["image_path"]]
    asked = asked.with_columns(image_sha256=pl.Series(hashes, dtype=pl.String))
    lost = pl.col("image_uuid").is_in(broken)
    frame = planned.plan.rows.with_columns(
        pl.when(lost).then(0.0).otherwise("inclusion_probability").alias("inclusion_probability")
    )
    return _Draw(frame.select(FRAME_COLUMNS), asked, sorted([*planned.unreadable, *broken]))


def _judged_by(reviews: pl.DataFrame | None) -> dict[str, set[str]]:
    """Reviewer, by the spelling that the drop takes for one -> images."""
    found: dict[str, set[str]] = {}
    if reviews is not None:
        for uuid, reviewer in reviews.select("image_uuid", "reviewer").unique().rows():
            found.setdefault(folded(reviewer), set()).add(uuid)
    return found


def _arrange(
    source: PacketSource,
    design: PacketDesign,
    draw: _Draw,
    similar: pl.DataFrame | None,
    judged_by: Mapping[str, set[str]],
) -> _Packet:
    """Repeats, practice cases, ids, neutral file names, and an order for each reviewer."""
    asked, seed = draw.asked, design.sampling.seed
    n = asked.height
    n_repeats = order.default_repeats(n) if design.n_repeats is None else design.n_repeats
    repeated = np.sort(_stream(seed, "repeats").choice(n, n_repeats, replace=False)).tolist()
    practice = _practice_rows(source, draw, similar, design)
    # other repeats get other ids: two packets of one seed must not give two images one id
    twice = files.digest(asked["image_uuid"][repeated].to_list())
    made_up = order.made_up_ids(
        source.index["image_uuid"], n_repeats + practice.height, _stream(seed, f"ids of {twice}")
    )
    again = asked[repeated].with_columns(
        presented_uuid=pl.Series(made_up[:n_repeats], dtype=pl.String), role=pl.lit("repeat")
    )
    first = asked.with_columns(presented_uuid=pl.col("image_uuid"))
    key = _with_files(pl.concat([first, again], how="diagonal"), seed)
    practice = practice.with_columns(presented_uuid=pl.Series(made_up[n_repeats:], dtype=pl.String))
    before = _shown(_with_files(practice, seed), source, design, practice=True)
    showings = _shown(key, source, design, practice=False)
    group = order.groups(asked, similar)
    orders = {}
    for name in design.reviewers:
        known = asked["image_uuid"].is_in(list(judged_by.get(folded(name), ())))
        if known.all():
            raise InputError(
                f'reviewer "{name}" has judged every image of this packet; leave the name out, or '
                "ask about more images"
            )
        left = np.flatnonzero(~known.to_numpy())
        own = _stream(seed, f"order of {name}")
        orders[name] = order.order_of_some(group, repeated, left, own)
    key = key.select(KEY_COLUMNS).sort("presented_uuid")
    return _Packet(key, draw.frame, showings, before, orders, draw.unreadable)


def _practice_rows(
    source: PacketSource, draw: _Draw, similar: pl.DataFrame | None, design: PacketDesign
) -> pl.DataFrame:
    """Images for practice: of another split if there is one, never like one that is asked about."""
    from dagster_project.lib.evidence.rows import patient_key

    index = source.index.with_columns(pl.col("patient_id").cast(pl.String)).with_columns(
        patient_key()
    )
    index = index.sort("image_uuid")
    index = index.with_columns(group=pl.Series(order.groups(index, similar)))
    near = index.filter(pl.col("image_uuid").is_in(draw.asked["image_uuid"].implode()))["group"]
    splits = draw.frame["split"].unique().implode()
    pool = index.filter(~pl.col("group").is_in(near.unique().implode())).with_columns(
        same=pl.col("split").is_in(splits, nulls_equal=True)
    )
    rank = pl.Series(_stream(design.sampling.seed, "practice").permutation(pool.height))
    pool = pool.with_columns(rank=rank).sort("same", "rank")
    found: list[int] = []
    for number, path in enumerate(pool["image_path"]):
        if len(found) == design.n_practice:
            break
        if _opens(source.dataset_dir / path):
            found.append(number)
    return pool[found].select("image_uuid", "image_path")


def _with_files(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    # Only the hash orders the files, so that neither role nor suspicion shows in their names.
    names = [f"{files.digest([seed, uuid])}.jpg" for uuid in rows["presented_uuid"]]
    return rows.with_columns(file=pl.Series(names, dtype=pl.String))


def _shown(
    rows: pl.DataFrame, source: PacketSource, design: PacketDesign, *, practice: bool
) -> list[Shown]:
    metadata = shown.shown_values(design.columns, source.index, rows["image_uuid"].to_list())
    return [
        Shown(presented, file, source.dataset_dir / path, practice, metadata.get(uuid, {}))
        for presented, uuid, file, path in rows.select(
            "presented_uuid", "image_uuid", "file", "image_path"
        ).rows()
    ]


def _leaves(packet: _Packet) -> list[Any]:
    """What is shown, in every order, for the packet's hash."""
    practice = [
        (item.image_uuid, files.sha256_file(item.source), dict(item.metadata))
        for item in packet.practice
    ]
    metadata = [dict(item.metadata) for item in packet.showings]
    return [practice, metadata, {name: found.shown for name, found in packet.orders.items()}]


def _summary(
    source: PacketSource, design: PacketDesign, planned: PacketPlan, packet: _Packet
) -> dict[str, Any]:
    roles = dict(packet.key["role"].value_counts().rows())
    asked = packet.key.filter(pl.col("role") != "repeat")
    n_asked = asked.group_by("stratum").agg(n_asked=pl.len().cast(pl.Int64))
    strata = planned.strata.join(n_asked, on="stratum", how="left", maintain_order="left")
    return {
        "layout": _LAYOUT,
        "n": asked.height,
        "n_certain": roles.get("certain", 0),
        "n_drawn": roles.get("drawn", 0),
        "n_repeats": roles.get("repeat", 0),
        "n_practice": len(packet.practice),
        "n_reviewers": len(design.reviewers),
        "n_frame": packet.frame.height,
        "n_outside": planned.power["n_outside"],
        "unreadable": list(packet.unreadable),
        "strata": strata.with_columns(pl.col("n_asked").fill_null(0)).to_dicts(),
        "thresholds": source.thresholds.as_dict(),
        "orders": {
            name: {
                "n_shown": len(found.shown),
                "n_adjacent": found.n_adjacent,
                "smallest_gap": found.smallest_gap,
            }
            for name, found in packet.orders.items()
        },
        "power": dict(planned.power),
        "can_show": planned.sentences(),
    }


def _publish(
    folder: Path,
    packet: _Packet,
    design: PacketDesign,
    summary: Mapping[str, Any],
    on_progress: OnProgress,
) -> None:
    done, total = 0, len({item.source for item in [*packet.showings, *packet.practice]})

    def count() -> None:
        nonlocal done
        done += 1
        on_progress(done, total)

    content = HandOut(
        packet=str(summary["packet"]),
        classes=[(name, design.descriptions.get(name, "")) for name in design.classes],
        practice=packet.practice,
        orders={
            name: [packet.showings[k] for k in found.shown] for name, found in packet.orders.items()
        },
    )
    with files.publish_folder(folder) as temp:
        tables.write_arrow(temp / "key.parquet", packet.key.to_arrow())
        tables.write_arrow(temp / "frame.parquet", packet.frame.to_arrow())
        files.write_json(temp / "summary.json", dict(summary))
        (temp / "hand_out").mkdir()
        write_hand_out(temp / "hand_out", content, count)


def _known(source: PacketSource) -> pl.DataFrame:
    """What was judged, with split and patient as the dataset knows them."""
    known = source.index.select("image_uuid", "split", known="patient_id")
    rows = source.judged.drop("split", strict=False).join(known, on="image_uuid", how="left")
    return rows.with_columns(pl.coalesce("known", "patient_id").alias("patient_id")).drop("known")


def _stream(seed: int, what: str) -> np.random.Generator:
    """A stream of its own for each use."""
    return np.random.default_rng([seed, int(files.sha256_bytes(what.encode())[:8], 16)])
