"""What may leave the training data, and what dropping every flagged row would cost.

Belongs: the list of rows that may be dropped, each with its reason; the report on the naive prune.
Does not: finding garbage (``image_issues``), flags (``candidates``), consensus (``labels``).
Concept: **never drop what is flagged.** A flag gathers hard images, and on hard images the labels
are often the best there are (histology): dropping them leaves an easy dataset that looks clean. A
row leaves because reviewers called it not usable, or because it is clear garbage that no reviewer
has looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from dagster_project.lib import files, tables
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.labels.consensus import DECIDED
from dagster_project.lib.labels.judgements import NOT_USABLE
from dagster_project.lib.mislabels.candidates import flagged_share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GARBAGE = "not_skin"
"""Kind of image issue that is clear garbage; outliers and duplicates are for people to judge."""


def clear_garbage(image_issues: pl.DataFrame) -> pl.DataFrame:
    """``image_uuid, reason`` of the images that are no photographs of skin, each once.

    ``image_issues`` : ``kind, image_uuid`` and more, a row a finding.
    """
    found = image_issues.filter(pl.col("kind") == GARBAGE)
    return found.select("image_uuid", reason="kind").unique("image_uuid").sort("image_uuid")


def prune_list(
    cleaned: pl.DataFrame, rows: pl.DataFrame, garbage: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Rows that may be dropped, each with its reason and who says so; a proposal.

    Parameters
    ----------
    cleaned : ``image_uuid, given_label, status, n_reviews`` of every image (``cleaned_labels``).
    rows : judged rows (``Candidates.rows``), for ``flagged``.
    garbage : ``image_uuid, reason``; None: nobody looked for it.

    Returns
    -------
    Sorted by ``image_uuid``: ``image_uuid, given_label, flagged`` (null where the row was not
    judged, as without a label in force), ``reason``, ``source``. Only images with the status
    ``not_usable``, and garbage whose status is ``given``: where any reviewer has looked, reviewers
    decide.

    Raises
    ------
    InputError
        Garbage on two rows, or of an unknown image.
    """
    reviewed = cleaned.filter(pl.col("status") == NOT_USABLE).select(
        "image_uuid",
        reason=pl.lit(NOT_USABLE),
        source=pl.format("reviewers ({} reviews)", "n_reviews"),
    )
    parts = [reviewed]
    if garbage is not None:
        _check_garbage(garbage, cleaned)
        unseen = cleaned.filter(pl.col("status") == "given").select("image_uuid")
        found = garbage.join(unseen, on="image_uuid", how="semi")
        parts.append(found.select("image_uuid", "reason", source=pl.lit("image issues")))
    return (
        pl.concat(parts)
        .join(cleaned.select("image_uuid", "given_label"), on="image_uuid", how="left")
        .join(rows.select("image_uuid", "flagged"), on="image_uuid", how="left")
        .select("image_uuid", "given_label", "flagged", "reason", "source")
        .sort("image_uuid")
    )


def _check_garbage(garbage: pl.DataFrame, cleaned: pl.DataFrame) -> None:
    twice = tables.duplicates(garbage, "image_uuid")
    if twice:
        raise InputError(
            f"garbage, column image_uuid: {some(twice)} on more than one row; keep one reason each"
        )
    strangers = garbage.join(cleaned, on="image_uuid", how="anti")["image_uuid"].sort()
    if strangers.len():
        raise InputError(
            f"garbage, column image_uuid: {some(strangers)} not among the labels; find it again "
            "in this dataset"
        )


@dataclass(frozen=True)
class NaivePrune:
    """What would be lost if every flagged row were dropped.

    Attributes
    ----------
    per_class : ``class, n, n_lost, share_lost, share_lost_low, share_lost_high, n_decided_lost,
        n_verified, n_verified_lost, verified_share_lost`` by given class, largest share first;
        ``n_decided_lost``: reviewers confirmed or corrected the label that would be dropped. The
        last three are null where no verification is known.
    groups : the same shares for ``verified`` and ``not verified`` rows; empty where not known.
    losses : the best-verified rows that would be lost: ``image_uuid, given_label, quality, why``,
        reviewed before verified, then worst quality first. Rows of patients.
    summary : ``n, n_lost, share_lost, n_confirmed_lost, n_corrected_lost, n_verified,
        n_verified_lost, verified_share_lost, share_of_lost_verified``.
    """

    per_class: pl.DataFrame
    groups: pl.DataFrame
    losses: pl.DataFrame
    summary: Mapping[str, int | float | None]


def naive_prune(
    rows: pl.DataFrame,
    cleaned: pl.DataFrame,
    classes: Sequence[str],
    *,
    verified: pl.Series | None = None,
) -> NaivePrune:
    """Count what dropping every flagged row would cost, by class and by how labels were verified.

    Parameters
    ----------
    rows : (N,) judged rows (``Candidates.rows``) of what would be pruned.
    cleaned : ``image_uuid, status, n_reviews`` (``cleaned_labels``).
    classes : (K,) all names.
    verified : ids of images whose label is proven (``given.verified_images``); None: not known.

    Notes
    -----
    Rows are judged against the labels in force: a label that reviewers corrected is flagged only
    if the model contradicts the corrected one, too. So the rows reviewers decided are no sample of
    the flags, and no precision follows from them.
    """
    known = rows.join(cleaned.select("image_uuid", "status", "n_reviews"), on="image_uuid",
                      how="left", maintain_order="left")  # fmt: skip
    proven = pl.lit(None, pl.Boolean)
    if verified is not None:
        proven = pl.col("image_uuid").is_in(verified.implode())
    known = known.with_columns(verified=proven)
    lost = known.filter("flagged")
    words = known.with_columns(
        how=pl.when("verified").then(pl.lit("verified")).otherwise(pl.lit("not verified"))
    )
    groups = flagged_share(words, "how", ("verified", "not verified"))
    n_confirmed, n_corrected = (lost.filter(status=status).height for status in DECIDED)
    unknown = verified is None
    n_verified, n_verified_lost = known.filter("verified").height, lost.filter("verified").height
    summary = {
        "n": known.height,
        "n_lost": lost.height,
        "share_lost": _share(lost.height, known.height),
        "n_confirmed_lost": n_confirmed,
        "n_corrected_lost": n_corrected,
        "n_verified": None if unknown else n_verified,
        "n_verified_lost": None if unknown else n_verified_lost,
        "verified_share_lost": _share(n_verified_lost, n_verified),
        "share_of_lost_verified": None if unknown else _share(n_verified_lost, lost.height),
    }
    per_class = _per_class(known, classes, unknown=unknown)
    return NaivePrune(per_class, groups.clear() if unknown else groups, _losses(lost), summary)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _per_class(known: pl.DataFrame, classes: Sequence[str], *, unknown: bool) -> pl.DataFrame:
    flagged = pl.col("flagged")
    counts = known.group_by(group="given_label").agg(
        n_decided_lost=(flagged & pl.col("status").is_in(list(DECIDED))).sum().cast(pl.Int64),
        n_verified=pl.col("verified").sum().cast(pl.Int64),
        n_verified_lost=(flagged & pl.col("verified")).sum().cast(pl.Int64),
    )
    verified = pl.col("n_verified", "n_verified_lost")
    return (
        flagged_share(known, "given_label", classes)
        .join(counts, on="group", how="left", maintain_order="left")
        .with_columns(pl.col("n_decided_lost").fill_null(0), verified.fill_null(0))
        .with_columns(pl.when(not unknown).then(verified).name.keep())
        .select(
            pl.col("group").alias("class"),
            "n",
            pl.col("n_flagged").alias("n_lost"),
            pl.col("share").alias("share_lost"),
            pl.col("low").alias("share_lost_low"),
            pl.col("high").alias("share_lost_high"),
            "n_decided_lost",
            "n_verified",
            "n_verified_lost",
            verified_share_lost=pl.when(pl.col("n_verified") > 0).then(
                pl.col("n_verified_lost") / pl.col("n_verified")
            ),
        )
        .sort("share_lost", "class", descending=[True, False], nulls_last=True)
    )


def _losses(lost: pl.DataFrame) -> pl.DataFrame:
    decided = pl.col("status").is_in(list(DECIDED))
    why = pl.concat_str(
        pl.when(decided).then(pl.format("{} by {} reviews", "status", "n_reviews")),
        pl.when("verified").then(pl.lit("verified")),
        separator="; ",
        ignore_nulls=True,
    )
    return (
        lost.filter(decided | pl.col("verified").fill_null(value=False))
        .with_columns(why=why, __rank=(~decided).cast(pl.Int8))
        .sort("__rank", "quality", "image_uuid")
        .select("image_uuid", "given_label", "quality", "why")
    )


def prune_report(proposed: pl.DataFrame, naive: NaivePrune) -> str:
    """The report in words: what is proposed, and why nothing else is. Counts only, no rows."""
    found = naive.summary
    by_reason = proposed.group_by("reason", "source").len().sort("reason", "source")
    listed = [f"- {n} x {reason}, by {source}" for reason, source, n in by_reason.rows()]
    worst = naive.per_class.filter(pl.col("n_lost") > 0).head(5)
    classes = [
        f"- {row['class']}: {row['n_lost']} of {row['n']} ({_percent(row['share_lost'])})"
        for row in worst.iter_rows(named=True)
    ]
    lines = [
        "# What may be dropped",
        "",
        f"{proposed.height} rows, each with its reason and source in `prune_list.csv`:",
        "",
        *(listed or ["- none"]),
        "",
        "A flag is a reason to look, never to drop.",
        "",
        "## What dropping every flagged row would cost",
        "",
        f"{found['n_lost']} of {found['n']} rows ({_percent(found['share_lost'])}). Reviewers have "
        f"confirmed the label of {found['n_confirmed_lost']} of them, and set that of "
        f"{found['n_corrected_lost']}: these are the best-known labels there are.",
        "",
        *_verified_lines(found),
        "Classes that would lose most (all in `naive_prune.csv`):",
        "",
        *(classes or ["- none"]),
    ]
    return "\n".join(lines) + "\n"


def _verified_lines(found: Mapping[str, int | float | None]) -> list[str]:
    if found["n_verified"] is None:
        return [
            "How labels were verified is not known: TIER_REFIT_VERIFIED_LABELS names the column.",
            "",
        ]
    return [
        f"Of {found['n_verified']} verified labels {found['n_verified_lost']} would go "
        f"({_percent(found['verified_share_lost'])}); they are "
        f"{_percent(found['share_of_lost_verified'])} of what would be dropped.",
        "",
    ]


def _percent(share: int | float | None) -> str:
    return "undefined" if share is None else f"{100 * share:.1f} %"


def write_prune(proposed: pl.DataFrame, naive: NaivePrune, out: Path) -> bytes:
    """Publish the list, the report and its tables and picture in ``out``; the picture.

    ``prune_list.csv`` and ``naive_prune_losses.csv`` hold rows of patients; the rest does not.
    """
    from dagster_project.lib.mislabels.pictures import naive_prune_picture

    picture = naive_prune_picture(naive.per_class, naive.groups)
    tables.write_csv(out / "prune_list.csv", proposed)
    tables.write_csv(out / "naive_prune.csv", naive.per_class)
    tables.write_csv(out / "naive_prune_losses.csv", naive.losses)
    files.publish_bytes(out / "naive_prune.png", picture)
    files.write_text(out / "prune_report.md", prune_report(proposed, naive))
    return picture
