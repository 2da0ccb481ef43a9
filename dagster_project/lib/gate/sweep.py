"""The sweep: what every tau would do, counted once, without the model.

Belongs: counts and rates at given taus or at every distinct score, measures along them.
Does not: choosing a tau (``points``), bounding a rate (``bounds``), wording, drawing.
Concept: bottom is strict, ``score < tau``; rows at tau are answered (ties never split). Counts are
integers, a rate is one division; a rate of nothing is null. N = rows, T = taus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]


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


def _rate(count: Ints, n: int) -> Floats:
    import numpy as np

    return count / n if n else np.full(count.shape, np.nan)
