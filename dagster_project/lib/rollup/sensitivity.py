"""What wrong labels can do to the figures, whatever kind of wrong they are.

Belongs: worst-case bounds on counts, and how many wrong labels a verdict survives.
Does not: estimating how many labels are wrong (``evidence.label_noise``), correcting anything.
Concept: a wrong label moves a count by at most one, in either direction, so that m wrong labels
among N images leave every count within m of what is seen (as ``evidence.label_noise.bounds`` for
rates). They may all lie where they hurt most. N = images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dagster_project.lib.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

ETAS = (0.02, 0.05, 0.07, 0.1, 0.16)
"""Shares of wrong labels that are looked at; what is known of these labels lies at 7 to 16 %."""


def sensitivity(
    counts: Mapping[str, tuple[int, int]],
    n: int,
    *,
    target: float | None = None,
    etas: Sequence[float] = ETAS,
) -> dict[str, Any]:
    """Where rates could lie if a share eta of all labels were wrong.

    Parameters
    ----------
    counts : name -> (k, of): k of ``of`` images, where ``of`` does not depend on any label. A name
        ``wrong`` with ``of`` = N is P(placed and wrong).
    n : N. target : bound on ``wrong``.

    Returns
    -------
    ``bounds``: for each eta and name ``eta, n_wrong_labels`` (floor(eta N)), ``statistic, observed,
    low, high`` (null where ``of`` is 0). ``labels_to_target``: how many wrong labels can at most be
    borne before ``wrong`` could exceed the target; 0 if it does already; null without a target.

    >>> found = sensitivity({"wrong": (3, 100)}, 100, target=0.05, etas=[0.01])
    >>> found["bounds"][0]["low"], found["bounds"][0]["high"], found["labels_to_target"]
    (0.02, 0.04, 2)
    """
    rows = []
    for eta in etas:
        if not 0 <= eta <= 1:
            raise InputError(f"label noise: eta {eta} must lie in [0, 1]")
        m = math.floor(eta * n + 1e-9)
        for name, (k, of) in counts.items():
            rows.append(
                {
                    "eta": eta,
                    "n_wrong_labels": m,
                    "statistic": name,
                    "observed": k / of if of else None,
                    "low": max(0, k - m) / of if of else None,
                    "high": min(of, k + m) / of if of else None,
                }
            )
    borne = None
    if target is not None and "wrong" in counts:
        borne = max(0, math.floor(target * n + 1e-9) - counts["wrong"][0])
    return {"bounds": rows, "labels_to_target": borne}
