"""Watching a frozen gate over time: how often it says what, on scores that come later.

Belongs: rates of newer scores under a bundle, and why its sweep may no longer hold.
Does not: freezing (``bundle``), gating single rows (``apply``), choosing anew (``points``).
Concept: no label is needed. Rates of another gauge than the bundle's mean nothing and are refused;
another model, preprocessing or data are a reason to sweep again, and are told.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.errors import InputError
from dagster_project.lib.gate.config import Identity
from dagster_project.lib.gate.gauge import check_same, reasons_to_rerun, unstated
from dagster_project.lib.gate.gray_zone import rates
from dagster_project.lib.gate.scores import read_unlabelled

if TYPE_CHECKING:
    from dagster_project.lib.gate.bundle import Bundle
    from dagster_project.lib.gate.config import GateConfig, Gauge
    from dagster_project.lib.gate.scores import Unlabelled

RATES = ("bottom_rate", "gap_rate", "accept_rate", "fault_rate", "semantic_bottom_rate")


def watched(path: Path, bundle: Bundle, stated: GateConfig | None = None) -> dict[str, Any]:
    """What a frozen gate does with the scores of a file.

    Parameters
    ----------
    path : as ``scores.read_unlabelled``.
    stated : says of what the scores are where the file does not.

    Returns
    -------
    ``n`` and the :data:`RATES` of ``gray_zone.rates``; ``sha256`` of the file; ``reasons`` to run
    the sweep again; ``unstated``: parts that could not be compared, as one side does not state
    them, ``gauge`` among them where neither file nor ``stated`` tells it.

    Raises
    ------
    InputError
        As ``read_unlabelled``; another gauge than the bundle's; a negative score under ``abs``.
    """
    found = read_unlabelled(path)
    gauge = _gauge(found, bundle, stated, path.name)
    if bundle.gauge.magnitude == "abs" and (np.isfinite(found.score) & (found.score < 0)).any():
        raise InputError(
            f"{path.name}, column score: a score is negative, and the bundle's magnitude is abs; "
            "take absolute values"
        )
    now = _identity(found, stated)
    told = {part for one in (bundle.identity, now) for part in unstated(one)}
    return {
        **rates(found.score, bundle, fault=found.fault),
        "sha256": found.sha256,
        "reasons": reasons_to_rerun((bundle.gauge, bundle.identity), (gauge or bundle.gauge, now)),
        "unstated": [*(["gauge"] if gauge is None else []), *sorted(told)],
    }


def _gauge(found: Unlabelled, bundle: Bundle, stated: GateConfig | None, name: str) -> Gauge | None:
    """The bundle's gauge, if the scores are of it; None where nobody says."""
    gauge, what = found.gauge, name
    if gauge is None and stated is not None:
        gauge, what = stated.gauge, "the configuration"
    if gauge is None:
        return None
    relabelled = bundle.relabel is not None and gauge == bundle.relabel.recorded
    if not relabelled:
        check_same(bundle.gauge, gauge, what=f"the bundle and {what}")
    return bundle.gauge


def _identity(found: Unlabelled, stated: GateConfig | None) -> Identity:
    """The file's own statements first, part by part."""
    parts = {} if stated is None else stated.identity.model_dump(exclude_none=True)
    own = {} if found.identity is None else found.identity.model_dump(exclude_none=True)
    return Identity(**{**parts, **own})
