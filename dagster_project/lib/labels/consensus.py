"""Consensus: given labels and reviews become one label an image.

Belongs: counting votes, the policy for agreement, ties, single reviews and references, its summary
and check.
Does not: model probabilities (the model would be judged by labels it helped to make), the quality
of reviewers (``agreement``), what to ask next (``next_reviews``).
Concept: readers of photographs decide where enough of them agree; a stronger reference (histology,
in person) decides alone and is never outvoted by them; where nothing decides, the given label stays
and the row says why. N = images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import polars as pl

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.labels.drop import NOT_USABLE, UNSURE
from dagster_project.lib.labels.names import folded

STATUSES = ("given", "confirmed", "corrected", "tie", "single", "unsure", "not_usable")
"""given: nobody looked; tie: votes conflict; single: too few votes, all alike; unsure: no vote."""
DECIDED = ("confirmed", "corrected")
PHOTOGRAPH = 1 << 16
"""Level of a reader of photographs; references have smaller ones, 1 is the strongest."""

_CLEANED = {
    "image_uuid": pl.String,
    "label": pl.String,
    "given_label": pl.String,
    "status": pl.String,
    "n_reviews": pl.Int64,
    "n_votes": pl.Int64,
    "agreement": pl.Float64,
    "source": pl.String,
    "confidence": pl.Float64,
}


@dataclass(frozen=True)
class ConsensusPolicy:
    """When reviews decide.

    Attributes
    ----------
    min_agreeing : readers of photographs that must say the same; they also need strictly the most
        votes. 1: any leading option decides.
    single : what votes do that are all alike but too few. ``keep_given``; ``accept`` them;
        ``exclude`` the image from evaluation (no label).
    conflict : what a tie does. ``keep_given``; ``exclude``; ``majority``: strictly the most votes
        decide although they are fewer than ``min_agreeing`` (a real tie keeps the given label).
    references : reviewers that stand for more than a photograph, strongest first; those in one
        group are equally strong. Spelling counts as in the drop (capitals and blanks do not).
    """

    min_agreeing: int = 2
    single: Literal["keep_given", "accept", "exclude"] = "keep_given"
    conflict: Literal["keep_given", "exclude", "majority"] = "keep_given"
    references: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.min_agreeing < 1:
            raise InputError(f"consensus: min_agreeing {self.min_agreeing} is below 1")
        names = [folded(name) for group in self.references for name in group]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise InputError(
                f"consensus: reference {some(repeated)} stands at two places; keep one"
            )

    def changed(self) -> dict[str, Any]:
        """What differs from the built-in policy, as JSON: nothing if nothing does."""
        built_in = ConsensusPolicy()
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        changed = {n: v for n, v in found.items() if v != getattr(built_in, n)}
        if "references" in changed:
            changed["references"] = [[folded(n) for n in group] for group in self.references]
        return changed

    def levels(self) -> dict[str, int]:
        """Folded name -> level of each reference, 1 is the strongest."""
        return {
            folded(name): level
            for level, group in enumerate(self.references, start=1)
            for name in group
        }


DEFAULT = ConsensusPolicy()
PLURALITY = ConsensusPolicy(min_agreeing=1)
"""Every leading option decides: for labels that were agreed upon elsewhere."""


def clean_labels(
    given: pl.DataFrame,
    reviews: pl.DataFrame,
    policy: ConsensusPolicy = DEFAULT,
    *,
    verified: pl.Series | None = None,
) -> pl.DataFrame:
    """One label for each given row, and where it comes from.

    Votes are classes and ``not_usable``; ``unsure`` is no vote, nor is ``not_usable`` of a
    reference (it speaks of the disease, not of the photograph). Of an image's votes only those of
    the strongest level count: the references in their order, then the readers of photographs. A
    verified given label stands with the strongest references. At a level of references one vote
    decides, and two that differ are a tie. Readers of photographs decide by ``policy``.
    ``not_usable`` is an option like a class; where it wins the label is null, and the image leaves
    every evaluation.

    Parameters
    ----------
    given : (N,) ``image_uuid, label``, an image once; a null label is allowed.
    reviews : ``image_uuid, reviewer, label`` and, if stated, ``confidence`` (numbers or text), one
        row for each image and reviewer, as in ``Drop.reviews``; any order. Reviews of images that
        are not in ``given`` (repeats under another id) do not count.
    policy : see :class:`ConsensusPolicy`.
    verified : images whose given label comes from a reference itself.

    Returns
    -------
    (N,) in the order of ``given``: ``image_uuid, label, given_label, status`` (one of
    :data:`STATUSES`), ``n_reviews`` (all of them), ``n_votes`` (those that count), ``agreement``
    (votes of the leading option / votes that count, in
    (0, 1]; null where there are none),
    ``source`` (``given``, ``consensus``, ``single``, ``reference``; null where policy excludes the
    image) and ``confidence`` (mean of what the counted votes for ``label`` stated; else null).

    >>> given = pl.DataFrame({"image_uuid": ["a", "b"], "label": ["acne", "acne"]})
    >>> reviews = pl.DataFrame(
    ...     {"image_uuid": ["a", "a", "b"], "reviewer": ["x", "y", "x"], "label": ["tinea"] * 3}
    ... )
    >>> clean_labels(given, reviews).select("label", "status", "n_votes", "source").rows()
    [('tinea', 'corrected', 2, 'consensus'), ('acne', 'single', 1, 'given')]
    """
    rows = given.select("image_uuid", given_label=pl.col("label").cast(pl.String))
    proven = pl.col("image_uuid").is_in([] if verified is None else verified.to_list())
    rows = rows.with_columns(verified=proven & pl.col("given_label").is_not_null())
    votes = _counted_votes(rows, reviews, policy)
    counted = (
        rows.join(_tally(votes), on="image_uuid", how="left", maintain_order="left")
        .join(_n_reviews(reviews), on="image_uuid", how="left", maintain_order="left")
        .with_columns(pl.col("n_reviews", "n_votes").fill_null(0))
    )
    decided = _decide(counted, policy)
    return _with_confidence(decided, votes).select(pl.col(c).cast(t) for c, t in _CLEANED.items())


def _n_reviews(reviews: pl.DataFrame) -> pl.DataFrame:
    return reviews.group_by("image_uuid").agg(n_reviews=pl.len().cast(pl.Int64))


def _counted_votes(
    rows: pl.DataFrame, reviews: pl.DataFrame, policy: ConsensusPolicy
) -> pl.DataFrame:
    """``image_uuid, label, confidence, level, said`` of each image's strongest level.

    ``said`` is false for the vote of a verified given label, which is nobody's review.
    """
    stated = pl.col("confidence").cast(pl.Float64) if "confidence" in reviews.columns else None
    names = reviews["reviewer"].unique().sort()
    known = policy.levels()
    levels = pl.DataFrame(
        {"reviewer": names, "level": [known.get(folded(name), PHOTOGRAPH) for name in names]},
        schema={"reviewer": pl.String, "level": pl.Int64},
    )
    of_readers = (
        reviews.select(
            "image_uuid",
            "reviewer",
            "label",
            confidence=pl.lit(None, pl.Float64) if stated is None else stated,
        )
        .filter(pl.col("label") != UNSURE)
        .join(levels, on="reviewer", how="left")
        .filter((pl.col("label") != NOT_USABLE) | (pl.col("level") == PHOTOGRAPH))
        .select("image_uuid", "label", "confidence", "level", said=True)
    )
    of_given = rows.filter("verified").select(
        "image_uuid",
        label="given_label",
        confidence=pl.lit(None, pl.Float64),
        level=pl.lit(1, pl.Int64),
        said=False,
    )
    votes = pl.concat([of_readers, of_given])
    return votes.filter(pl.col("level") == pl.col("level").min().over("image_uuid"))


def _tally(votes: pl.DataFrame) -> pl.DataFrame:
    """``image_uuid, level, n_votes, n_options, top, agreement, leader``; no leader in a tie."""
    per_option = votes.group_by("image_uuid", "level", "label").agg(
        n=pl.len().cast(pl.Int64), said=pl.col("said").sum().cast(pl.Int64)
    )
    leads = pl.col("n") == pl.col("n").max()
    return per_option.group_by("image_uuid", "level").agg(
        n_votes=pl.col("said").sum(),
        n_options=pl.len(),
        top=pl.col("n").max(),
        agreement=pl.col("n").max() / pl.col("n").sum(),
        leader=pl.when(leads.sum() == 1).then(pl.col("label").filter(leads).first()),
    )


def _decide(counted: pl.DataFrame, policy: ConsensusPolicy) -> pl.DataFrame:
    """``counted`` with ``label``, ``status`` and ``source``."""
    level, leader = pl.col("level"), pl.col("leader")
    photograph = level == PHOTOGRAPH
    enough = leader.is_not_null() & (pl.col("top") >= policy.min_agreeing)
    alike = photograph & (pl.col("n_options") == 1) & ~enough
    proven = ~photograph & (pl.col("n_options") == 1)
    majority = leader.is_not_null() & (policy.conflict == "majority") & ~alike
    by_readers = photograph & (enough | majority)
    accepted = alike & (policy.single == "accept")
    decided = proven | by_readers | accepted
    open_status = (
        pl.when(level.is_null())
        .then(pl.when(pl.col("n_reviews") == 0).then(pl.lit("given")).otherwise(pl.lit("unsure")))
        .when(alike)
        .then(pl.lit("single"))
        .otherwise(pl.lit("tie"))
    )
    won = (
        pl.when(leader == NOT_USABLE)
        .then(pl.lit("not_usable"))
        .when(~leader.eq_missing(pl.col("given_label")))
        .then(pl.lit("corrected"))
        .when(pl.col("n_reviews") == 0)  # verified, and nobody looked
        .then(pl.lit("given"))
        .otherwise(pl.lit("confirmed"))
    )
    excluded = (open_status == "single") & (policy.single == "exclude")
    excluded |= (open_status == "tie") & (policy.conflict == "exclude")
    source = (
        pl.when(proven)
        .then(pl.lit("reference"))
        .when(by_readers)
        .then(pl.lit("consensus"))
        .when(accepted)
        .then(pl.lit("single"))
        .when(~excluded)
        .then(pl.lit("given"))
    )
    decided = decided.fill_null(value=False)
    label = (
        pl.when(decided & (leader != NOT_USABLE))
        .then(leader)
        .when(~decided & ~excluded)
        .then(pl.col("given_label"))
    )
    status = pl.when(decided).then(won).otherwise(open_status)
    return counted.with_columns(label=label, status=status, source=source)


def _with_confidence(decided: pl.DataFrame, votes: pl.DataFrame) -> pl.DataFrame:
    stated = (
        votes.drop_nulls("confidence")
        .sort("image_uuid", "label", "confidence")  # a sum of floats depends on its order
        .group_by("image_uuid", "label", maintain_order=True)
        .agg(confidence=pl.col("confidence").mean().round(6))
    )
    joined = decided.join(stated, on=["image_uuid", "label"], how="left", maintain_order="left")
    return joined.with_columns(agreement=pl.when(pl.col("n_votes") > 0).then("agreement"))


def overruled(
    given: pl.DataFrame,
    reviews: pl.DataFrame,
    cleaned: pl.DataFrame,
    policy: ConsensusPolicy = DEFAULT,
) -> pl.Series:
    """Images whose label is a reference's while the readers of photographs agree on another answer.

    They keep the reference's label; they are counted, because they are what photographs cannot
    show, or a specimen that was mixed up. ``not_usable`` is another answer too.

    Returns
    -------
    ``image_uuid``, sorted.
    """
    known = policy.levels()
    names = [name for name in reviews["reviewer"].unique() if folded(name) in known]
    readers = reviews.filter(~pl.col("reviewer").is_in(names))
    theirs = clean_labels(given, readers, replace(policy, references=()))
    pairs = cleaned.filter(pl.col("source") == "reference").join(
        theirs.filter(pl.col("source") == "consensus").select("image_uuid", said="label"),
        on="image_uuid",
    )
    return pairs.filter(~pl.col("label").eq_missing(pl.col("said")))["image_uuid"].sort()


def n_decided(cleaned: pl.DataFrame, image_uuids: pl.Series) -> int:
    """How many of these images reviewers decided: confirmed or corrected the given label."""
    decided = cleaned.filter(pl.col("status").is_in(DECIDED))
    return decided.filter(pl.col("image_uuid").is_in(image_uuids.implode())).height


def label_problems(
    labels: pl.DataFrame, image_uuids: pl.Series, classes: Sequence[str]
) -> list[str]:
    """What is wrong with labels that should cover a dataset, one line each; none means sound.

    Parameters
    ----------
    labels : ``image_uuid, label``; a null label is sound (given none, or ``not_usable``).
    image_uuids : (N,) the images that each need exactly one row.
    classes : (K,) known class names.
    """
    ids = labels["image_uuid"]
    names = labels["label"].drop_nulls()
    found = {
        "images on more than one row": tables.duplicates(labels, "image_uuid"),
        "images without a row": image_uuids.filter(~image_uuids.is_in(ids.implode())).to_list(),
        "rows of unknown images": ids.filter(~ids.is_in(image_uuids.implode())).to_list(),
        "unknown classes": names.filter(~names.is_in(list(classes))).unique().sort().to_list(),
    }
    return [f"{len(what)} {kind}: {some(what)}" for kind, what in found.items() if what]


def label_summary(cleaned: pl.DataFrame) -> dict[str, int | float | None]:
    """Counts of :func:`clean_labels` under stable names.

    Returns
    -------
    ``n_images``, ``n_labelled`` (label not null), ``n_reviewed``, ``n_<status>`` for every status,
    ``corrected_share`` = corrected / (confirmed + corrected) and ``mean_agreement``; these two are
    None where nothing was decided.
    """
    counts = dict(cleaned["status"].value_counts().rows())
    by_status = {f"n_{status}": int(counts.get(status, 0)) for status in STATUSES}
    decided = by_status["n_confirmed"] + by_status["n_corrected"]
    agreement = cleaned["agreement"].drop_nulls()
    return {
        "n_images": cleaned.height,
        "n_labelled": cleaned.height - cleaned["label"].null_count(),
        "n_reviewed": cleaned.height - by_status["n_given"],
        **by_status,
        "corrected_share": by_status["n_corrected"] / decided if decided else None,
        "mean_agreement": float(agreement.to_numpy().mean()) if agreement.len() else None,
    }


def status_by_class(cleaned: pl.DataFrame) -> pl.DataFrame:
    """How the given labels of each class fared: counts, no image.

    Returns
    -------
    ``given`` (null: no given label), ``n``, and the number of each of :data:`STATUSES` but
    ``given``, of classes that anybody looked at; the most reviewed first, then by name.
    """
    looked = [status for status in STATUSES if status != "given"]
    counts = cleaned.group_by(given="given_label").agg(
        n=pl.len().cast(pl.Int64),
        **{status: (pl.col("status") == status).sum().cast(pl.Int64) for status in looked},
    )
    reviewed = pl.sum_horizontal(looked)
    return counts.filter(reviewed > 0).sort(reviewed, "given", descending=[True, False])
