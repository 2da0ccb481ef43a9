"""The sweep: what every tau would do, counted once, without the model.

Belongs: counts and rates at given taus or at every distinct score, measures along them.
Does not: choosing a tau (``points``), bounding a rate (``bounds``), wording, drawing.
Concept: bottom is strict, ``score < tau``; rows at tau are answered (ties never split). Counts are
integers, a rate is one division; a rate of nothing is null. N = rows, T = taus.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.config_file import config_sha256
from dagster_project.lib.evidence.by_score import CountsByScore, counts_by_score
from dagster_project.lib.gate.config import Quantiles
from dagster_project.lib.gate.gauge import sign_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.gate.config import GateConfig, Gauge
    from dagster_project.lib.gate.scores import GateScores

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]
    Taus = str | Quantiles | tuple[float, ...]

MAX_POINTS = 10_000
"""A curve that is written has no more points, chosen evenly by rank of the tau."""


@dataclass(frozen=True)
class Sweep:
    """Counts at T taus, oriented as ``scores.GateScores``.

    Attributes
    ----------
    taus : (T,) float64, rising strictly.
    n, n_in, n_cens, n_fault : rows, in range, censored, with a fault.
    bottom_in, bottom_cens : (T,) rows without an answer among those in range and the censored,
        faults included.
    semantic : (T,) rows with a finite score below tau, faulty or not (provenance semantic or
        mixed).
    """

    taus: Floats
    n: int
    n_in: int
    n_cens: int
    n_fault: int
    bottom_in: Ints
    bottom_cens: Ints
    semantic: Ints

    @property
    def fn_in(self) -> Floats:
        """P(bottom | in range); NaN where no row is in range."""
        return _rate(self.bottom_in, self.n_in)

    @property
    def fp_cens(self) -> Floats:
        """P(accepted | censored); NaN where no row is censored."""
        return _rate(self.n_cens - self.bottom_cens, self.n_cens)

    @property
    def bottom_rate(self) -> Floats:
        """P(bottom)."""
        return _rate(self.bottom_in + self.bottom_cens, self.n)

    @property
    def accept_rate(self) -> Floats:
        """P(accepted)."""
        return _rate(self.n - self.bottom_in - self.bottom_cens, self.n)

    @property
    def fault_rate(self) -> Floats:
        """P(fault), the same at every tau; mixed rows included."""
        return _rate(np.full(self.taus.shape, self.n_fault), self.n)

    @property
    def semantic_bottom_rate(self) -> Floats:
        """P(finite score below tau); mixed rows included, so that it may overlap ``fault_rate``."""
        return _rate(self.semantic, self.n)

    @property
    def accepted_censored(self) -> Floats:
        """P(accepted and censored): over all rows, as the tiers' confident-wrong share."""
        return _rate(self.n_cens - self.bottom_cens, self.n)


def taus_of(scores: GateScores, taus: Taus, *, where: Bools | None = None) -> Floats:
    """(T,) the taus that a configuration asks for, rising, without repeats.

    Parameters
    ----------
    taus : ``distinct``: every distinct score that a row has and no fault; quantiles of them, each a
        score that occurs (the next higher one); or numbers in the units of the file.
    where : (N,) rows whose scores count; None: all.
    """
    if isinstance(taus, tuple):
        return np.unique(sign_of(scores.gauge) * np.array(taus, dtype=np.float64) + 0.0)
    own = ~scores.fault if where is None else where & ~scores.fault
    found = scores.score[own]
    if isinstance(taus, Quantiles) and found.size:
        found = np.quantile(found, np.linspace(0, 1, taus.quantiles), method="higher")
    found = np.sort(found)  # np.unique holds a hash table as well: three times the memory
    new = np.ones(found.size, dtype=bool)
    np.not_equal(found[1:], found[:-1], out=new[1:])
    return found[new].astype(np.float64) + 0.0


def sweep(scores: GateScores, taus: Floats, *, where: Bools | None = None) -> Sweep:
    """Count what every tau would do, in O(N log N + T log N).

    Parameters
    ----------
    taus : (T,) rising, oriented; of :func:`taus_of`. A float32 score is widened exactly.
    where : (N,) rows that count; None: all.
    """
    here = np.ones(len(scores), dtype=bool) if where is None else where
    in_range, fault = scores.in_range & here, scores.fault & here
    n, n_in, n_fault = (int(np.count_nonzero(rows)) for rows in (here, in_range, fault))
    scored = here & ~fault
    counts = counts_by_score(scores.score[scored], [in_range[scored]])
    accepted, accepted_in = at_or_above(counts, taus)
    del counts  # as large as the scores, three times
    flagged = np.sort(scores.score[fault & np.isfinite(scores.score)])  # mixed: fault, below tau
    return Sweep(
        taus=taus,
        n=n,
        n_in=n_in,
        n_cens=n - n_in,
        n_fault=n_fault,
        bottom_in=n_in - accepted_in,
        bottom_cens=n - n_in - (accepted - accepted_in),
        semantic=n - n_fault - accepted + np.searchsorted(flagged, taus, side="left"),
    )


def at_or_above(counts: CountsByScore, taus: Floats) -> list[Ints]:
    """(T,) rows at or above each tau, then those of each flag; a tau need not be a score."""
    rising = counts.threshold[::-1]
    inside = rising.size - np.searchsorted(rising, taus, side="left")  # distinct scores >= tau
    none = inside == 0
    found = []
    for count in (counts.n, *counts.hits):
        above = count[inside - 1] if count.size else np.zeros(taus.shape, dtype=np.int64)
        above[none] = 0
        found.append(above)
    return found


def curves(found: Sweep, gauge: Gauge, *, pins: Iterable[float] = ()) -> dict[str, Any]:
    """The rates along the taus as plain JSON, in the units of the file, null for the undefined.

    At most :data:`MAX_POINTS` taus: the first, the last, ``pins`` (oriented) wherever they are
    taus, and others evenly by rank.
    """
    taus = found.taus
    pinned = np.flatnonzero(np.isin(taus, np.array(list(pins), dtype=np.float64)))
    room = min(taus.size, MAX_POINTS) - (pinned.size if taus.size > MAX_POINTS else 0)
    kept = np.linspace(0, taus.size - 1, max(room, min(taus.size, 2))).round()
    at = np.unique(np.append(kept, pinned)).astype(np.int64)
    if sign_of(gauge) < 0:
        at = at[::-1]
    columns = {"taus": sign_of(gauge) * taus[at] + 0.0}
    columns |= {name: getattr(found, name)[at] for name in RATES}
    return {
        name: [None if np.isnan(value) else value for value in column.tolist()]
        for name, column in columns.items()
    }


def provenance(scores: GateScores, config: GateConfig, *, n_taus: int) -> dict[str, Any]:
    """Where a sweep comes from: rows, gauge, identity, configuration; plain JSON."""
    return {
        "scores": scores.source,
        "gauge": scores.gauge.model_dump(mode="json"),
        "relabel": None if config.relabel is None else config.relabel.model_dump(mode="json"),
        "identity": scores.identity.model_dump(mode="json"),
        "config_sha256": config_sha256(config),
        "bottom": "score < tau" if sign_of(scores.gauge) > 0 else "score > tau",
        "taus": n_taus,
    }


RATES = (
    "fn_in",
    "fp_cens",
    "bottom_rate",
    "accept_rate",
    "fault_rate",
    "semantic_bottom_rate",
    "accepted_censored",
)


def _rate(count: Ints, n: int) -> Floats:
    return count / n if n else np.full(count.shape, np.nan)
