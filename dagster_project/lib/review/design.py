"""The sampling design of a packet: which images are asked about, and how probable the asking was.

Belongs: strata, how many patients to draw from each, the seeded draw.
Does not: which labels look wrong (``mislabels``), files (``packet``), what it can show (``power``).
Concept: stratified random sampling of patients beside a stratum that is asked with certainty
(Cochran, Sampling Techniques, 3rd ed. 1977, ch. 5; docs/review-packet.md). N = images of the frame,
M_h = patients of stratum h, m_h = patients drawn, pi_h = m_h / M_h: one number a stratum, above 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from dagster_project.lib import files, tables
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.evidence.rows import patient_key
from dagster_project.lib.evidence.strata import CERTAIN
from dagster_project.lib.tiers.assign import tier_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.tiers.thresholds import Thresholds

    Ints = npt.NDArray[np.int64]

OVERFLOW = 1e-3
"""How probable a draw of more than n images may be before it is made; such a draw is made again."""
_ATTEMPTS = 100
_SLOPES = np.logspace(-3, 1.5, 120)
_JUDGED = (
    "image_uuid",
    "patient_id",
    "given_label",
    "predicted_label",
    "quality",
    "predicted_prob",
    "image_path",
    "flagged",
)


@dataclass(frozen=True)
class Priors:
    """What is expected before anybody looks: only efficiency depends on it, never validity.

    Attributes
    ----------
    agrees, agrees_flagged, differs, differs_flagged : share of wrong given labels among images
        whose prediction is, or is not, the given label, unflagged and flagged; in [0, 1].
    undecided : share of asked images without a decided review (unsure, tie, not returned).
    likeness : correlation within a patient of "the given label is wrong".
    """

    agrees: float = 0.03
    agrees_flagged: float = 0.20
    differs: float = 0.25
    differs_flagged: float = 0.60
    undecided: float = 0.10
    likeness: float = 0.50

    def wrong(self, *, agrees: bool, flagged: bool) -> float:
        """The expected share of wrong given labels in a stratum."""
        if agrees:
            return self.agrees_flagged if flagged else self.agrees
        return self.differs_flagged if flagged else self.differs


@dataclass(frozen=True)
class Sampling:
    """How many images, and how they are shared out.

    Attributes
    ----------
    n : images asked about, at most; repeats and practice cases come on top.
    n_certain : of them the worst flagged ones, asked with probability 1; None: a quarter of n.
    oversample : factor on confident images whose label agrees with the prediction, over Neyman.
    floor : patients a stratum at least, where n allows (never below 1).
    priors : expected shares.
    seed : of the draw and of everything random in a packet.
    """

    n: int = 200
    n_certain: int | None = None
    oversample: float = 2.0
    floor: int = 2
    priors: Priors = field(default_factory=Priors)
    seed: int = 0

    @property
    def certain(self) -> int:
        """How many are asked with certainty, at most."""
        return self.n // 4 if self.n_certain is None else self.n_certain


@dataclass(frozen=True)
class Plan:
    """A design, before anything is drawn.

    Attributes
    ----------
    rows : (N,) the frame, sorted by image_uuid: what was judged, ``score, tier, agrees, patient,
        readable, stratum`` and ``inclusion_probability`` (0 where unreadable).
    strata : by name: ``stratum, n_images, n_patients`` (readable ones), ``n_patients_drawn,
        inclusion_probability, n_expected`` (images asked). ``certain`` first, if there is one.
    sampling : what was asked for.
    """

    rows: pl.DataFrame
    strata: pl.DataFrame
    sampling: Sampling


def stratified(judged: pl.DataFrame, thresholds: Thresholds) -> pl.DataFrame:
    """The frame with its strata, in the order of ``image_uuid``.

    Every image falls into exactly one stratum ``<tier>/<agrees|differs>/<flagged|unflagged>``; the
    tier is the comparison that serving makes, so a score on a threshold is above it.

    Parameters
    ----------
    judged : (N,) rows ``image_uuid, patient_id, given_label, predicted_label, quality,
        predicted_prob, image_path, flagged``: images with usable probabilities and a label. Others
        are in no tier and no frame. Without a ``patient_id`` an image is its own patient.

    Raises
    ------
    InputError
        A missing column, an image on two rows, a missing label or probability, no row at all.
    """
    tables.require_columns("judged rows", judged.columns, _JUDGED)
    if judged.is_empty():
        raise InputError("judged rows: none; there is nothing to ask about")
    if twice := tables.duplicates(judged, "image_uuid"):
        raise InputError(f"judged rows: {some(twice)} on more than one row; keep one")
    needed = [c for c in _JUDGED if c != "patient_id"]
    for column in needed:
        if n := judged[column].null_count():
            raise InputError(
                f"judged rows, column {column}: {n} empty; only images with probabilities, a label "
                "and a path can be asked about"
            )
    rows = judged.with_columns(
        pl.col("patient_id").cast(pl.String), score=pl.col("predicted_prob").cast(pl.Float64)
    )
    rows = rows.with_columns(
        tier_of(rows, thresholds),
        patient_key(),
        agrees=pl.col("given_label") == pl.col("predicted_label"),
    )
    side = pl.when("agrees").then(pl.lit("agrees")).otherwise(pl.lit("differs"))
    flag = pl.when("flagged").then(pl.lit("flagged")).otherwise(pl.lit("unflagged"))
    stratum = pl.concat_str("tier", side, flag, separator="/").alias("stratum")
    return rows.with_columns(stratum).sort("image_uuid")


def worst_first(rows: pl.DataFrame) -> pl.DataFrame:
    """Flagged rows, lowest quality first, equal ones by id: the order of the certainty stratum."""
    return rows.filter("flagged").sort("quality", "image_uuid")


def plan_sample(
    rows: pl.DataFrame, sampling: Sampling, *, certain: Sequence[str], unreadable: Sequence[str]
) -> Plan:
    """Decide how many patients of each stratum are drawn.

    The integer allocation that minimises sum W_h^2 / m_h under the limit of n images, with
    W_h = M_h sqrt(p_h (1 - p_h)) (Neyman 1934; Cochran 5.5; whole numbers by priorities
    W_h / sqrt(m (m + 1)): Wright, Am. Stat. 66 (2012) 217), times ``oversample`` for confident
    images whose label agrees. No stratum with a readable image is left out.

    The number of images that drawn patients bring is random where patients have several. m_h are
    chosen so that more than n images come with probability at most :data:`OVERFLOW` (Chernoff's
    bound; it holds for draws without replacement by Hoeffding, JASA 58 (1963) 13, theorem 4), or
    never, where even the largest patients fit.

    Parameters
    ----------
    rows : of :func:`stratified`.
    certain : image_uuids asked with probability 1: rows, not patients.
    unreadable : image_uuids that cannot be asked; patients without another image do not count.

    Raises
    ------
    InputError
        ``n`` or a share is out of range, or too small for one patient of each stratum.
    """
    _check(sampling)
    inside = pl.col("image_uuid")
    rows = rows.with_columns(
        readable=~inside.is_in(list(unreadable)),
        stratum=pl.when(inside.is_in(list(certain)))
        .then(pl.lit(CERTAIN))
        .otherwise(pl.col("stratum")),
    )
    sizes = _sizes(rows)
    weights = {name: _weight(name, size.size, sampling) for name, size in sizes.items()}
    drawn = allocate(sizes, weights, sampling.n - len(certain), floor=sampling.floor)
    strata = _strata_table(rows, sizes, drawn)
    known = strata.select("stratum", "inclusion_probability")
    rows = rows.join(known, on="stratum", how="left", maintain_order="left").with_columns(
        pl.when("readable").then(pl.col("inclusion_probability")).otherwise(0.0)
    )
    return Plan(rows, strata, sampling)


def draw_sample(plan: Plan) -> pl.DataFrame:
    """The images asked about: those certain, and all of the drawn patients' in each stratum.

    In each stratum a simple random sample of its patients, sorted by name before they are drawn.
    A draw of more than n images (probability at most :data:`OVERFLOW`) is made again; the recorded
    probabilities ignore that.

    Returns
    -------
    (n,) rows of the plan, sorted by ``image_uuid``, with ``role``: certain or drawn. The same plan
    gives the same rows, whatever the order they were judged in.
    """
    rows = plan.rows.filter("readable")
    certain = pl.col("stratum") == CERTAIN
    patients = (
        rows.filter(~certain).select("stratum", "patient").unique().sort("stratum", "patient")
    )
    strata = patients.partition_by("stratum", maintain_order=True)
    n_drawn = dict(plan.strata.select("stratum", "n_patients_drawn").rows())
    for attempt in range(_ATTEMPTS):
        taken = [
            _drawn(part, n_drawn[part["stratum"][0]], plan.sampling.seed, attempt)
            for part in strata
        ]
        chosen = pl.concat([patients.clear(), *taken])
        asked = rows.join(chosen, on=["stratum", "patient"], how="semi", maintain_order="left")
        asked = pl.concat([rows.filter(certain), asked])
        if asked.height <= plan.sampling.n:
            break
    else:
        raise RuntimeError(f"{_ATTEMPTS} draws of more than {plan.sampling.n} images")
    role = pl.when(certain).then(pl.lit("certain")).otherwise(pl.lit("drawn"))
    return asked.with_columns(role=role).sort("image_uuid")


def allocate(
    sizes: Mapping[str, Ints], weights: Mapping[str, float], budget: int, *, floor: int
) -> dict[str, int]:
    """Patients to draw from each stratum, so that their images fit into ``budget``.

    Parameters
    ----------
    sizes : stratum -> (M_h,) images of each of its patients, all above 0.
    weights : stratum -> W_h, above 0.
    budget : images.
    floor : patients a stratum, as far as it has them and the budget allows; at least 1.

    Raises
    ------
    InputError
        Not even one patient of each stratum fits.

    >>> allocate({"a": np.ones(900, int), "b": np.ones(100, int)}, {"a": 90, "b": 30}, 40, floor=2)
    {'a': 30, 'b': 10}
    """
    fits = _Fit(sizes, budget)
    counts: dict[str, int] = {}
    for least in range(max(1, floor), 0, -1):
        counts = {name: min(least, size.size) for name, size in sizes.items()}
        if fits(counts):
            break
    else:
        needed = fits.largest(dict.fromkeys(sizes, 1))
        raise InputError(
            f"n leaves {budget} images for {len(sizes)} strata, and one patient of each may bring "
            f"{needed}: every stratum needs one, or nothing can be said of it; raise n or ask "
            "fewer with certainty"
        )
    open_names = {name for name in sizes if counts[name] < sizes[name].size}
    while open_names:
        name = max(open_names, key=lambda h: (weights[h] ** 2 / (counts[h] * (counts[h] + 1)), h))
        counts[name] += 1
        if not fits(counts):
            counts[name] -= 1
            open_names.discard(name)
        elif counts[name] == sizes[name].size:
            open_names.discard(name)
    return counts


class _Fit:
    """Whether the images of so many drawn patients a stratum stay within a budget."""

    def __init__(self, sizes: Mapping[str, Ints], budget: int) -> None:
        self.budget = budget
        self._most = {  # images of the m largest patients
            name: np.concatenate([[0], np.cumsum(np.sort(size)[::-1])])
            for name, size in sizes.items()
        }
        self._equal = {name: size.min() == size.max() for name, size in sizes.items()}
        self._log_mean = {name: _log_mean_exp(size) for name, size in sizes.items()}

    def __call__(self, counts: Mapping[str, int]) -> bool:
        if self.largest(counts) <= self.budget:
            return True
        fixed = 0
        random = np.full(_SLOPES.size, -np.log(OVERFLOW))
        for name, m in counts.items():
            most = self._most[name]
            if self._equal[name] or m == most.size - 1:
                fixed += int(most[m])
            else:
                random += m * self._log_mean[name]
        # P(images >= budget + 1) <= exp(log E exp(slope images) - slope (budget + 1)), any slope
        return bool((random / _SLOPES).min() + fixed <= self.budget + 1)

    def largest(self, counts: Mapping[str, int]) -> int:
        """Images, if the largest patients are drawn."""
        return sum(int(self._most[name][m]) for name, m in counts.items())


def _log_mean_exp(size: Ints) -> npt.NDArray[np.float64]:
    """Log of the mean of exp(slope * size), at every slope."""
    values, n = np.unique(size, return_counts=True)
    top = _SLOPES * values[-1]
    found: npt.NDArray[np.float64] = top + np.log(
        (n / size.size * np.exp(np.outer(_SLOPES, values) - top[:, None])).sum(axis=1)
    )
    return found


def _check(sampling: Sampling) -> None:
    if sampling.n < 1:
        raise InputError(f"n {sampling.n}: a packet needs at least one image")
    if sampling.seed < 0:
        raise InputError(f"seed {sampling.seed}: a whole number, 0 or above, is needed")
    if not 0 <= sampling.certain <= sampling.n:
        raise InputError(
            f"n_certain {sampling.certain}: allowed are 0 to n ({sampling.n}); correct one of them"
        )
    if sampling.oversample <= 0 or sampling.floor < 1:
        raise InputError(
            f"oversample {sampling.oversample}, floor {sampling.floor}: the factor must be above 0 "
            "and the floor at least 1"
        )
    shares = vars(sampling.priors).items()
    wrong = [name for name, v in shares if not 0 <= v <= 1 or (name == "undecided" and v == 1)]
    if wrong:
        raise InputError(f"priors {some(wrong)}: expected shares in [0, 1], undecided below 1")


def _sizes(rows: pl.DataFrame) -> dict[str, Ints]:
    """Stratum -> images of each of its patients; readable ones, without the certain stratum."""
    counts = (
        rows.filter("readable", pl.col("stratum") != CERTAIN)
        .group_by("stratum", "patient")
        .agg(pl.len().cast(pl.Int64))
        .sort("stratum", "patient")
    )
    parts = counts.partition_by("stratum", as_dict=True, maintain_order=True)
    return {str(name): part["len"].to_numpy() for (name,), part in parts.items()}


def _weight(name: str, n_patients: int, sampling: Sampling) -> float:
    tier, side, flag = name.split("/")
    p = sampling.priors.wrong(agrees=side == "agrees", flagged=flag == "flagged")
    hidden = (tier, side) == ("confident", "agrees")
    # a stratum that is taken to be without errors, or full of them, is looked at all the same
    spread = max(float(np.sqrt(p * (1 - p))), 0.01)
    return n_patients * spread * (sampling.oversample if hidden else 1.0)


def _strata_table(
    rows: pl.DataFrame, sizes: Mapping[str, Ints], drawn: Mapping[str, int]
) -> pl.DataFrame:
    """One row a stratum that an image can be asked from."""
    certain = rows.filter(pl.col("stratum") == CERTAIN)
    found = [(CERTAIN, certain.height, certain["patient"].n_unique())] if certain.height else []
    found += [(name, int(size.sum()), size.size) for name, size in sizes.items()]
    table = pl.DataFrame(
        found,
        schema={"stratum": pl.String, "n_images": pl.Int64, "n_patients": pl.Int64},
        orient="row",
    )
    n_drawn = pl.Series(
        [drawn.get(name, n) for name, _, n in found], dtype=pl.Int64
    )  # of the certain stratum every patient
    return table.with_columns(n_patients_drawn=n_drawn).with_columns(
        inclusion_probability=pl.col("n_patients_drawn") / pl.col("n_patients"),
        n_expected=pl.col("n_images") * pl.col("n_patients_drawn") / pl.col("n_patients"),
    )


def _drawn(patients: pl.DataFrame, n: int, seed: int, attempt: int) -> pl.DataFrame:
    """A simple random sample of ``n`` of the patients of one stratum, sorted by name."""
    own = int(files.sha256_bytes(patients["stratum"][0].encode())[:8], 16)
    rng = np.random.default_rng([seed, own, attempt])
    return patients[np.sort(rng.choice(patients.height, n, replace=False))]
