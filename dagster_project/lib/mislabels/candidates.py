"""Mislabel candidates: rows whose given label the model contradicts with confidence.

Belongs: the cleanlab call, its tables and summary, the files of ``tier-refit mislabels``.
Does not: pictures (``montage``, ``pictures``), asking reviewers (``review``), dropping anything.
Concept: confident learning (arXiv 1911.00068) on L1-normalised sigmoids; N rows, K classes. A flag
is a reason to look. Where the model was trained on the same rows it has learnt many of their
errors by heart and finds fewer (``in_sample``).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib import files, tables
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.evidence.proportion import (
    METHOD,
    Proportions,
    clustered_interval,
    wilson,
)
from dagster_project.lib.evidence.rows import patient_key
from dagster_project.lib.labels.given import check_known
from dagster_project.lib.mislabels.confident_joint import BLOCK, confident_joint

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.probability_table import ProbabilityTable

METHODS = (
    "prune_by_noise_rate",
    "prune_by_class",
    "both",
    "confident_learning",
    "predicted_neq_given",
    "low_normalized_margin",
    "low_self_confidence",
)
"""cleanlab's ``filter_by`` names."""

QUALITIES = ("self_confidence", "normalized_margin")
"""cleanlab's label quality scores, with p the normalised row and k the given label: p_k, and
(p_k - max of the others + 1) / 2. Both in [0, 1], low is bad; a margin below 0.5 means that another
class leads."""

ISSUE_COLUMNS = (
    "image_uuid",
    "patient_id",
    "given_label",
    "predicted_label",
    "quality",
    "given_prob",
    "predicted_prob",
    "image_path",
)

WILSON = "Wilson, rows taken as independent: patients are unknown"
"""How intervals are made where no patient is known; else ``proportion.METHOD``."""

IN_SAMPLE_WORD = {True: "in sample", False: "out of sample", None: "in or out of sample unknown"}
IN_SAMPLE_MEANS = {
    True: "The model was trained on these rows: it has learnt many of their errors by heart, so "
    "fewer are found and every rate here is too low.",
    False: "The model was not trained on these rows: what it contradicts, it contradicts without "
    "having seen the label.",
    None: "Whether the model was trained on these rows is not known; if it was, errors that it "
    "learnt by heart are missing here and every rate is too low.",
}
"""What ``in_sample`` means, in a sentence that goes wherever the numbers go."""


@dataclass(frozen=True)
class Candidates:
    """What the labels of one table look like to its own probabilities.

    Attributes
    ----------
    rows : (N,) every row with usable probabilities and a label, worst first (``quality``, then
        ``image_uuid``): the columns of ``issues`` and ``flagged``. ``quality`` is one of
        :data:`QUALITIES`; the two ``*_prob`` are as the model gives them, not normalised;
        ``predicted_label`` is the first class of the largest probability.
    per_class : (K,) ``class, n, n_issues, issue_rate, issue_rate_low, issue_rate_high, n_patients``
        by given class, in class order; the rate is null where ``n`` is 0, ``n_patients`` where
        patients are unknown.
    confusions : ``given, predicted, n, share`` (of all flagged rows), most frequent first.
    summary : ``n, n_issues, issue_rate`` with ``issue_rate_low`` and ``..._high``, ``in_sample``
        and ``in_sample_means``, ``method``, ``quality``, ``n_patients``, ``interval``,
        ``n_without_label``, ``n_without_probs``.
    """

    rows: pl.DataFrame
    per_class: pl.DataFrame
    confusions: pl.DataFrame
    summary: Mapping[str, int | float | bool | str | None]

    @property
    def issues(self) -> pl.DataFrame:
        """The flagged rows, worst first, with :data:`ISSUE_COLUMNS`."""
        return self.rows.filter("flagged").select(ISSUE_COLUMNS)

    def meaning(self, sentence: str) -> Candidates:
        """The same with another sentence for ``in_sample_means``: one that knows more."""
        return replace(self, summary={**self.summary, "in_sample_means": sentence})

    @property
    def in_sample(self) -> bool | None:
        """Whether the model was trained on these rows, as the summary says."""
        found = self.summary["in_sample"]
        return found if isinstance(found, bool) else None


@dataclass(frozen=True)
class _Scored:
    """What the probabilities say of each row, (N,) or (N, K), in table order."""

    given: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    self_confidence: npt.NDArray[np.float64]
    quality: npt.NDArray[np.float64]
    given_prob: npt.NDArray[np.float64]
    predicted_prob: npt.NDArray[np.float64]
    normalised: npt.NDArray[np.float64]
    usable: npt.NDArray[np.bool_]

    def kept(self, keep: npt.NDArray[np.bool_]) -> _Scored:
        """Only some of the rows."""
        return _Scored(**{field.name: getattr(self, field.name)[keep] for field in fields(self)})


def find_candidates(
    table: ProbabilityTable,
    labels: pl.DataFrame,
    *,
    in_sample: bool | None,
    method: str = METHODS[0],
    quality: str = QUALITIES[0],
    paths: pl.DataFrame | None = None,
) -> Candidates:
    """Flag the rows whose given label is probably wrong.

    Rows without a label, and rows without probabilities (an error, or all zero, so that nothing
    can be normalised), are counted and never flagged.

    Parameters
    ----------
    table : (N, K) probabilities, with or without ``patient_id``.
    labels : ``image_uuid, label``; labels of other images do not count.
    in_sample : was the model trained on these rows? None if unknown. Only recorded, and said.
    method : one of :data:`METHODS`: which rows are flagged.
    quality : one of :data:`QUALITIES`: in which order they stand.
    paths : ``image_uuid, image_path``; without it ``image_path`` is null.

    Returns
    -------
    Candidates. Intervals are of 95 %: by patient (``proportion.clustered_interval``, null with one
    patient) where any patient is known, an image of nobody counting as a patient of its own; else
    Wilson's. They say how far the share flagged would move with other patients of the same kind,
    not how many labels are wrong.

    Raises
    ------
    InputError
        Unknown method, quality or class; an image labelled twice; fewer than two classes among the
        rows that have both.

    References
    ----------
    Northcutt, Jiang and Chuang, JAIR 70:1373 (2021), sections 3 and 4 (arXiv 1911.00068).
    """
    for name, value, known in (("method", method, METHODS), ("quality", quality, QUALITIES)):
        if value not in known:
            raise InputError(f'{name} "{value}": expected one of {some(known, len(known))}')
    every = _score(table.probs, _given(table, labels), quality)
    keep = every.usable & (every.given >= 0)
    whole = bool(keep.all())  # nearly always, and then nothing is copied
    frame, scored = (table.frame, every) if whole else (table.frame.filter(keep), every.kept(keep))
    _require_two_classes(every, scored.given)
    flagged = _flags(scored, method)
    patient = _patients(frame)
    rates = _rates(scored.given, flagged, patient, len(table.classes))
    return Candidates(
        _rows(frame, scored, flagged, table.classes, paths),
        _per_class(rates, table.classes, patients_known=patient is not None),
        _confusions(scored, flagged, table.classes),
        {
            **_overall(flagged, patient),
            "in_sample": in_sample,
            "in_sample_means": IN_SAMPLE_MEANS[in_sample],
            "method": method,
            "quality": quality,
            "n_without_label": int((every.usable & (every.given < 0)).sum()),
            "n_without_probs": int((~every.usable).sum()),
        },
    )


def flagged_share(rows: pl.DataFrame, column: str, groups: Sequence[str]) -> pl.DataFrame:
    """Flagged share of the judged rows in each group, with its interval by patient.

    Parameters
    ----------
    rows : (N,) of ``Candidates.rows``, with the text column ``column``; null is in no group.
    groups : (G,) values, in the order wanted; another value is left out.

    Returns
    -------
    (G,) ``group, n, n_flagged, share, low, high``: null where ``n`` is 0, ends null with fewer than
    two patients. Intervals as in ``proportion.clustered_interval``; an image of nobody counts as a
    patient of its own.
    """
    inside = rows.filter(pl.col(column).is_in(list(groups)))
    place = {name: at for at, name in enumerate(groups)}
    group = inside[column].replace_strict(place, return_dtype=pl.Int64).to_numpy()
    found = clustered_interval(
        inside["flagged"].to_numpy(), patient_numbers(inside), group, n_groups=len(place)
    )
    floats = {"share": found.rate, "low": found.low, "high": found.high}
    return pl.DataFrame(
        {
            "group": pl.Series(list(groups), dtype=pl.String),
            "n": pl.Series(found.n, dtype=pl.Int64),
            "n_flagged": pl.Series(found.n_hits, dtype=pl.Int64),
            **{name: pl.Series(v, dtype=pl.Float64).fill_nan(None) for name, v in floats.items()},
        }
    )


def patient_numbers(rows: pl.DataFrame) -> npt.NDArray[np.int64]:
    """(N,) a number from 0 for each patient of judged rows; nobody's image is its own patient."""
    return rows.select(patient_key()).to_series().rank("dense").cast(pl.Int64).to_numpy() - 1


def write_candidates(candidates: Candidates, out: Path, montage_png: bytes | None = None) -> None:
    """Write the files of ``tier-refit mislabels`` into the folder ``out``.

    Without a montage (no images at hand) ``mislabel_candidates.png`` shows the most frequent
    given -> predicted pairs. The table and the montage show patients: keep them with the people
    who may see the photographs.
    """
    from dagster_project.lib.mislabels.pictures import confusion_picture

    tables.write_csv(out / "label_issues.csv", candidates.issues)
    tables.write_csv(out / "issues_per_class.csv", candidates.per_class)
    tables.write_csv(out / "issue_confusions.csv", candidates.confusions)
    seen = candidates.in_sample
    picture = montage_png or confusion_picture(candidates.confusions, in_sample=seen)
    files.publish_bytes(out / "mislabel_candidates.png", picture)
    files.write_json(out / "summary.json", dict(candidates.summary))


def _given(table: ProbabilityTable, labels: pl.DataFrame) -> npt.NDArray[np.int64]:
    """(M,) index of each row's label, -1 where it has none."""
    check_known(labels, table.classes, source="labels")
    ids = table.frame["image_uuid"]
    if not ids.equals(labels["image_uuid"]):  # labels made for this table need no join
        labels = ids.to_frame().join(
            labels.select("image_uuid", "label"), on="image_uuid", how="left", maintain_order="left"
        )
    if labels.height > ids.len():
        twice = tables.duplicates(labels, "image_uuid")
        raise InputError(f"labels, column image_uuid: {some(twice)} on more than one row; keep one")
    codes = labels["label"].cast(pl.Enum(table.classes)).to_physical().cast(pl.Int64)
    return codes.fill_null(-1).to_numpy()


def _score(
    probs: npt.NDArray[np.floating[Any]], given: npt.NDArray[np.int64], quality: str
) -> _Scored:
    """Everything that is read from a row's probabilities, while a block of them is in the cache.

    ``quality`` as ``cleanlab.rank.get_label_quality_scores`` computes it, without its checks of
    every row. A row that is not usable, or has no label, holds values of no meaning.
    """
    from cleanlab import rank

    n = len(probs)
    self_confidence = np.empty(n)
    margin = quality == "normalized_margin"
    found = _Scored(
        given=given,
        predicted=np.empty(n, np.int64),
        self_confidence=self_confidence,
        quality=np.empty(n) if margin else self_confidence,
        given_prob=np.empty(n),
        predicted_prob=np.empty(n),
        normalised=np.empty(probs.shape),
        usable=np.empty(n, np.bool_),
    )
    for first in range(0, n, BLOCK):
        block = slice(first, first + BLOCK)
        here, label = probs[block], given[block]
        every = np.arange(len(here))
        values = here.astype(np.float64)
        total = values.sum(axis=1)
        found.usable[block] = total > 0  # NaN (a row with an error) is not above 0 either
        with np.errstate(invalid="ignore", divide="ignore"):
            normalised = np.divide(values, total[:, None], out=found.normalised[block])
        best = here.argmax(axis=1)
        found.predicted[block] = best
        self_confidence[block] = rank.get_self_confidence_for_each_label(label, normalised)
        if margin:
            found.quality[block] = rank.get_normalized_margin_for_each_label(label, normalised)
        found.given_prob[block] = values[every, label]
        found.predicted_prob[block] = values[every, best]
    return found


def _require_two_classes(every: _Scored, given: npt.NDArray[np.int64]) -> None:
    if (n_classes := np.unique(given).size) < 2:
        unlabelled, unusable = int((every.given < 0).sum()), int((~every.usable).sum())
        raise InputError(
            f"{given.size} of {every.given.size} rows have both a label and probabilities that are "
            f"not all zero ({unlabelled} without a label, {unusable} without probabilities); "
            f"classes among their labels: {n_classes}, at least two are needed"
        )


def _flags(scored: _Scored, method: str) -> npt.NDArray[np.bool_]:
    """(N,) cleanlab's mask; classes that no row is labelled with are allowed."""
    from cleanlab import filter as cleanlab_filter

    joint = None  # this method takes none, and counts its own
    if method != "confident_learning":
        joint = confident_joint(scored.given, scored.normalised, scored.self_confidence)
    with warnings.catch_warnings():
        # A class that nobody was given, or too few, has its null or coarse rate in ``per_class``.
        warnings.filterwarnings(
            "ignore", message="May not flag all label issues", module="cleanlab"
        )
        if joint is not None and method == METHODS[0]:
            return _prune_by_noise_rate(scored, joint)
        # One process: forking copies the table and is slower below a million rows.
        mask: npt.NDArray[np.bool_] = cleanlab_filter.find_label_issues(
            scored.given, scored.normalised, filter_by=method, confident_joint=joint, n_jobs=1
        )
    vars(cleanlab_filter).pop("pred_probs_by_class", None)  # a copy of all rows, left in a global
    return mask


def _prune_by_noise_rate(scored: _Scored, joint: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """(N,) the mask of ``find_label_issues`` by its default filter, from the steps it is made of.

    Without its checks, which look at every label in Python, and without its two copies of all rows:
    a class is copied at a time, and of the rest only what is flagged. Tests hold it equal to the
    call, bit for bit; these steps are not cleanlab's public interface.
    """
    from cleanlab.count import _reduce_issues
    from cleanlab.filter import _keep_at_least_n_per_class, _prune_by_count

    counts = _keep_at_least_n_per_class(joint.T, 1, frac_noise=1.0)
    mask = np.zeros(scored.given.size, dtype=bool)
    for label in range(len(joint)):
        at = np.flatnonzero(scored.given == label)
        mask[at] = _prune_by_count([label, 1, [scored.normalised[at], counts[:, label]]])
    flagged = np.flatnonzero(mask)
    near = _reduce_issues(scored.normalised[flagged], scored.given[flagged])
    mask[flagged[near]] = False
    return mask


def _patients(frame: pl.DataFrame) -> npt.NDArray[np.int64] | None:
    """(N,) a number for each patient; None where no patient is known."""
    if "patient_id" not in frame.columns or frame["patient_id"].null_count() == frame.height:
        return None
    known = frame["patient_id"].null_count() == 0
    key = frame["patient_id"] if known else frame.select(patient_key()).to_series()
    # categories of its own: the common ones keep every name they ever saw, and number on
    own = pl.Categorical(pl.Categories.random())
    return key.cast(own).to_physical().cast(pl.Int64).to_numpy()


def _rates(
    given: npt.NDArray[np.int64],
    flagged: npt.NDArray[np.bool_],
    patient: npt.NDArray[np.int64] | None,
    n_classes: int,
) -> Proportions:
    """Flagged share of the rows given each class."""
    if patient is not None:
        return clustered_interval(flagged, patient, given, n_groups=n_classes)
    n = np.bincount(given, minlength=n_classes)
    hits = np.bincount(given[flagged], minlength=n_classes)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = hits / n
        low, high = wilson(rate, n.astype(np.float64))
    return Proportions(n=n, n_patients=n, n_hits=hits, rate=rate, low=low, high=high)


def _overall(
    flagged: npt.NDArray[np.bool_], patient: npt.NDArray[np.int64] | None
) -> dict[str, int | float | str | None]:
    whole = _rates(np.zeros(flagged.size, np.int64), flagged, patient, 1)
    undefined = bool(np.isnan(whole.low[0]))
    return {
        "n": flagged.size,
        "n_patients": None if patient is None else int(whole.n_patients[0]),
        "n_issues": int(whole.n_hits[0]),
        "issue_rate": float(whole.rate[0]),
        "issue_rate_low": None if undefined else float(whole.low[0]),
        "issue_rate_high": None if undefined else float(whole.high[0]),
        "interval": WILSON if patient is None else METHOD,
    }


def _rows(
    frame: pl.DataFrame,
    scored: _Scored,
    flagged: npt.NDArray[np.bool_],
    classes: Sequence[str],
    paths: pl.DataFrame | None,
) -> pl.DataFrame:
    """Rows worst first; each column is moved once."""
    order = _worst_first(scored.quality, frame["image_uuid"])
    names = pl.Series(list(classes), dtype=pl.String)
    ids = frame.select(c for c in ("image_uuid", "patient_id") if c in frame.columns)[order]
    rows = ids.with_columns(
        given_label=names.gather(scored.given[order]),
        predicted_label=names.gather(scored.predicted[order]),
        quality=pl.Series(scored.quality[order]),
        given_prob=pl.Series(scored.given_prob[order]),
        predicted_prob=pl.Series(scored.predicted_prob[order]),
        flagged=pl.Series(flagged[order]),
    )
    if "patient_id" not in rows.columns:
        rows = rows.with_columns(patient_id=pl.lit(None, pl.String))
    if paths is None:
        rows = rows.with_columns(image_path=pl.lit(None, pl.String))
    else:
        known = paths.select("image_uuid", "image_path")
        rows = rows.join(known, on="image_uuid", how="left", maintain_order="left")
    return rows.select(*ISSUE_COLUMNS, "flagged")


def _worst_first(
    quality: npt.NDArray[np.float64], image_uuid: pl.Series
) -> npt.NDArray[np.integer[Any]]:
    """(N,) order by quality, equal ones by id: text is compared only where it decides."""
    order = np.argsort(quality)
    ranked = quality[order]
    equal = np.append(False, ranked[1:] == ranked[:-1])
    tied = np.flatnonzero(equal | np.append(equal[1:], False))
    if tied.size:
        among = order[tied]
        both = pl.DataFrame({"quality": quality[among], "id": image_uuid.gather(among)})
        settled = both.select(pl.arg_sort_by("quality", "id")).to_series().to_numpy()
        order[tied] = among[settled]
    return order


def _per_class(rates: Proportions, classes: Sequence[str], *, patients_known: bool) -> pl.DataFrame:
    floats = {"issue_rate": rates.rate, "issue_rate_low": rates.low, "issue_rate_high": rates.high}
    patients = pl.Series(
        rates.n_patients if patients_known else [None] * len(classes), dtype=pl.Int64
    )
    return pl.DataFrame(
        {
            "class": pl.Series(list(classes), dtype=pl.String),
            "n": pl.Series(rates.n, dtype=pl.Int64),
            "n_issues": pl.Series(rates.n_hits, dtype=pl.Int64),
            **{name: pl.Series(values).fill_nan(None) for name, values in floats.items()},
            "n_patients": patients,
        }
    )


def _confusions(
    scored: _Scored, flagged: npt.NDArray[np.bool_], classes: Sequence[str]
) -> pl.DataFrame:
    k = len(classes)
    pairs = scored.given[flagged] * k + scored.predicted[flagged]
    counts = np.bincount(pairs, minlength=k * k)
    at = np.flatnonzero(counts)
    names = pl.Series(list(classes), dtype=pl.String)
    return pl.DataFrame(
        {
            "given": names.gather(at // k),
            "predicted": names.gather(at % k),
            "n": pl.Series(counts[at], dtype=pl.Int64),
            "share": pl.Series(counts[at] / max(pairs.size, 1), dtype=pl.Float64),
        }
    ).sort("n", "given", "predicted", descending=[True, False, False])
