"""Planted against found: the only place where the truth is compared with results.

Belongs: counts and rates for the end of the walk-through.
Does not: anything a stage may use.
Concept: every rate is None when its denominator is 0; flagged means "a candidate for review".
"""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from dagster_project.lib.errors import InputError, some


def score_flags(
    flagged: Collection[str], truth: pl.DataFrame, *, examined: Collection[str] | None = None
) -> dict[str, int | float | None]:
    """How well a set of flagged images matches what was planted.

    Parameters
    ----------
    flagged : image ids, e.g. of the label issues.
    truth : the world's truth table.
    examined : ids that could have been flagged (one split, say); all of ``truth`` when None.

    Returns
    -------
    Counts ``examined, flagged, noise_planted, noise_found, garbage_planted, garbage_flagged,
    naive_prune_wrongly_dropped`` (flagged, though the label is right and the picture is skin) and
    rates ``noise_share`` (of the examined), ``precision`` (noise or garbage among flagged),
    ``noise_recall`` (found among planted), ``naive_prune_wrong_share`` (wrongly dropped
    among flagged).

    Raises
    ------
    InputError
        A flagged or examined image that is not among the truth's or the examined.
    """
    rows = truth if examined is None else _only(truth, examined, "examined")
    _only(rows, flagged, "flagged")
    hit = rows["image_uuid"].is_in(list(flagged))
    noise, garbage = rows["is_noise"], rows["is_garbage"]
    right = int((hit & ~noise & ~garbage).sum())
    n_flagged, found = int(hit.sum()), int((hit & noise).sum())
    return {
        "examined": rows.height,
        "flagged": n_flagged,
        "noise_planted": int(noise.sum()),
        "noise_found": found,
        "garbage_planted": int(garbage.sum()),
        "garbage_flagged": int((hit & garbage).sum()),
        "noise_share": _share(int(noise.sum()), rows.height),
        "precision": _share(n_flagged - right, n_flagged),
        "noise_recall": _share(found, int(noise.sum())),
        "naive_prune_wrongly_dropped": right,
        "naive_prune_wrong_share": _share(right, n_flagged),
    }


def score_labels(labels: pl.DataFrame, truth: pl.DataFrame) -> dict[str, int | float | None]:
    """How many labels are right.

    Parameters
    ----------
    labels : ``image_uuid, label``; a null label is left out, as is garbage, which has no truth.

    Returns
    -------
    ``n`` labels compared, ``wrong`` among them, ``accuracy`` (right / n).
    """
    _only(truth, labels["image_uuid"].to_list(), "labelled")
    known = labels.select("image_uuid", "label").join(
        truth.select("image_uuid", "true_label"), on="image_uuid", how="inner"
    )
    known = known.drop_nulls(["label", "true_label"])
    wrong = int((known["label"] != known["true_label"]).sum())
    return {
        "n": known.height,
        "wrong": wrong,
        "accuracy": _share(known.height - wrong, known.height),
    }


def score_cleaning(
    before: pl.DataFrame, after: pl.DataFrame, truth: pl.DataFrame
) -> dict[str, int | float | None]:
    """What cleaning did: two label tables (``image_uuid, label``) against the truth.

    Images that ``after`` no longer has, or has without a label, count as ``dropped``.

    Returns
    -------
    ``accuracy_before``, ``accuracy_after``, ``changed``, ``corrected`` (wrong, now right),
    ``spoiled`` (right, now wrong), ``dropped``, ``dropped_right`` (were right, on skin),
    ``dropped_garbage``.
    """
    joined = (
        before.select("image_uuid", before="label")
        .join(after.select("image_uuid", after="label"), on="image_uuid", how="left")
        .join(truth.select("image_uuid", "true_label", "is_garbage"), on="image_uuid", how="left")
        .filter(pl.col("before").is_not_null())
    )
    was, now = (
        (joined[c] == joined["true_label"]).fill_null(value=False) for c in ("before", "after")
    )
    gone, real = joined["after"].is_null(), ~joined["is_garbage"]
    return {
        "accuracy_before": score_labels(before, truth)["accuracy"],
        "accuracy_after": score_labels(after, truth)["accuracy"],
        "changed": int((joined["before"] != joined["after"]).fill_null(value=False).sum()),
        "corrected": int((real & ~was & now).sum()),
        "spoiled": int((real & was & ~now & ~gone).sum()),
        "dropped": int(gone.sum()),
        "dropped_right": int((gone & was).sum()),
        "dropped_garbage": int((gone & ~real).sum()),
    }


def score_pictures(issues: pl.DataFrame, truth: pl.DataFrame) -> dict[str, int]:
    """How the issues of the pictures match the garbage and the copies that were planted.

    Parameters
    ----------
    issues : ``kind, image_uuid, other_uuid`` (the asset ``image_issues``). The kind ``not_skin`` is
        held against the garbage, and every pair, whatever its kind, against the copies.
    truth : the world's truth table.

    Returns
    -------
    ``garbage_planted``, ``garbage_found``, ``not_skin_wrongly`` (called no skin, though it is);
    ``copies_planted``, ``copies_found`` (in a pair with the picture they were made of, or with
    another copy of it), ``pairs_wrongly`` (of pictures that were drawn apart).

    Raises
    ------
    InputError
        An image that is not among the truth's.
    """
    named = pl.concat([issues["image_uuid"], issues["other_uuid"].drop_nulls()])
    _only(truth, named.to_list(), "named")
    called = issues.filter(kind="not_skin")["image_uuid"].implode()
    garbage = truth.filter(pl.col("image_uuid").is_in(called))["is_garbage"]
    origin = truth.select("image_uuid", origin=pl.coalesce("near_duplicate_of", "image_uuid"))
    pairs = issues.drop_nulls("other_uuid").join(origin, on="image_uuid")
    pairs = pairs.join(origin, left_on="other_uuid", right_on="image_uuid", suffix="_other")
    right = pl.col("origin") == pl.col("origin_other")
    joined = pairs.filter(right)
    copies = truth.drop_nulls("near_duplicate_of")["image_uuid"]
    found = copies.is_in(pl.concat([joined["image_uuid"], joined["other_uuid"]]).implode())
    return {
        "garbage_planted": int(truth["is_garbage"].sum()),
        "garbage_found": int(garbage.sum()),
        "not_skin_wrongly": int((~garbage).sum()),
        "copies_planted": copies.len(),
        "copies_found": int(found.sum()),
        "pairs_wrongly": pairs.filter(~right).height,
    }


def _only(truth: pl.DataFrame, ids: Collection[str], what: str) -> pl.DataFrame:
    known = set(truth["image_uuid"])
    strange = sorted(set(ids) - known)
    if strange:
        raise InputError(f"scoring: {what} images unknown to the truth: {some(strange)}")
    return truth.filter(pl.col("image_uuid").is_in(list(ids)))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
