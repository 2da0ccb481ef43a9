"""Consensus: given labels and reviews become one label an image.

Belongs: counting votes, the policy for ties, ``unsure`` and ``not_usable``, its summary and check.
Does not: model probabilities (they would be judged by labels they made), reviewer quality.
Concept: most votes wins; where nothing wins, the given label stays and the row says why.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from dagster_project.lib import tables
from dagster_project.lib.errors import some
from dagster_project.lib.labels.drop import NOT_USABLE, UNSURE

STATUSES = ("given", "confirmed", "corrected", "tie", "unsure", "not_usable")
"""given: nobody looked; tie: needs another reader; unsure: every reader was."""


def clean_labels(given: pl.DataFrame, reviews: pl.DataFrame) -> pl.DataFrame:
    """One label for each given row, and where it comes from.

    Votes are classes and ``not_usable``; ``unsure`` is no vote. The option with strictly the most
    votes wins. ``not_usable`` makes the label null: the image leaves every evaluation. A tie or
    only ``unsure`` keeps the given label.

    Parameters
    ----------
    given : (N,) ``image_uuid, label``, an image once; a null label is allowed.
    reviews : ``image_uuid, reviewer, label``, one row for each image and reviewer, as in
        ``Drop.reviews``. Reviews of images that are not in ``given`` do not count here.

    Returns
    -------
    (N,) in the order of ``given``: ``image_uuid, label, given_label, status`` (one of
    :data:`STATUSES`), ``n_reviews`` (``unsure`` included), ``n_votes``, ``agreement`` (votes of
    the leading option / all votes, in (0, 1]; null where there are no votes), ``source``
    (``consensus`` where the votes decide, else ``given``).

    >>> given = pl.DataFrame({"image_uuid": ["a", "b"], "label": ["acne", "acne"]})
    >>> reviews = pl.DataFrame(
    ...     {"image_uuid": ["a", "a"], "reviewer": ["x", "y"], "label": ["tinea", "unsure"]}
    ... )
    >>> clean_labels(given, reviews).select("label", "status", "n_reviews", "agreement").rows()
    [('tinea', 'corrected', 2, 1.0), ('acne', 'given', 0, None)]
    """
    joined = (
        given.select("image_uuid", given_label="label")
        .join(_votes(reviews), on="image_uuid", how="left", maintain_order="left")
        .with_columns(pl.col("n_reviews", "n_votes").fill_null(0).cast(pl.Int64))
    )
    wins = pl.col("winner")
    status = (
        pl.when(pl.col("n_reviews") == 0)
        .then(pl.lit("given"))
        .when(pl.col("agreement").is_null())
        .then(pl.lit("unsure"))
        .when(wins.is_null())
        .then(pl.lit("tie"))
        .when(wins == NOT_USABLE)
        .then(pl.lit("not_usable"))
        .when(wins.eq_missing(pl.col("given_label")))
        .then(pl.lit("confirmed"))
        .otherwise(pl.lit("corrected"))
    )
    label = (
        pl.when(wins == NOT_USABLE)
        .then(pl.lit(None, pl.String))
        .otherwise(pl.coalesce(wins, "given_label"))
    )
    return joined.select(
        "image_uuid",
        label.alias("label"),
        "given_label",
        status.alias("status"),
        "n_reviews",
        "n_votes",
        "agreement",
        source=pl.when(wins.is_not_null()).then(pl.lit("consensus")).otherwise(pl.lit("given")),
    )


def _votes(reviews: pl.DataFrame) -> pl.DataFrame:
    """``image_uuid, n_reviews, n_votes, agreement, winner``; none wins where two options lead."""
    total = reviews.group_by("image_uuid").agg(n_reviews=pl.len())
    per_option = (
        reviews.filter(pl.col("label") != UNSURE).group_by("image_uuid", "label").agg(n=pl.len())
    )
    leads = pl.col("n") == pl.col("n").max()
    options = per_option.group_by("image_uuid").agg(
        n_votes=pl.col("n").sum(),
        agreement=pl.col("n").max() / pl.col("n").sum(),
        winner=pl.when(leads.sum() == 1).then(pl.col("label").filter(leads).first()),
    )
    return total.join(options, on="image_uuid", how="left")


def n_decided(cleaned: pl.DataFrame, image_uuids: pl.Series) -> int:
    """How many of these images reviewers decided: confirmed or corrected the given label."""
    decided = cleaned.filter(pl.col("status").is_in(["confirmed", "corrected"]))
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
