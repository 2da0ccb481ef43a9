"""A gate from scores to everything that is known of it: sweep, operating points, bundle.

Belongs: calling this room in order; plain values of it all.
Does not: any statistic, wording (``words``), drawing (``pictures``), files (``publish``).
Concept: aggregates only, JSON through and through, so that a notebook, the command line and assets
read the same reports. A point that cannot be frozen is an answer, not a fault. N = rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.errors import RefusedError
from dagster_project.lib.gate import bundle, gauge, models, points, sweep
from dagster_project.lib.gate.distribution import distribution
from dagster_project.lib.gate.words import pinned, rate_of
from dagster_project.lib.progress import OnProgress, silent

if TYPE_CHECKING:
    from dagster_project.lib.gate.config import GateConfig
    from dagster_project.lib.gate.scores import GateScores

STEPS = ("operating points", "models", "sweep", "bundle")


@dataclass(frozen=True)
class GateInputs:
    """What a gate is made of.

    Attributes
    ----------
    scores : N rows, of the model whose threshold is chosen.
    others : (model, seed) -> scores of further models or seeds on the same rows, to compare with.
    name : (model, seed) of ``scores`` among them.
    """

    scores: GateScores
    config: GateConfig
    others: Mapping[tuple[str, int], GateScores] = field(default_factory=dict)
    name: tuple[str, int] = ("model", 0)


@dataclass(frozen=True)
class GateReport:
    """All that comes of it, as plain JSON.

    Attributes
    ----------
    sweep : of :func:`sweep_report`. points : of :func:`points_report`.
    bundle : what is frozen; None where the point to freeze is not backed, which
        ``points["freeze"]`` says.
    """

    sweep: dict[str, Any]
    points: dict[str, Any]
    bundle: dict[str, Any] | None


def gate_report(inputs: GateInputs, *, on_progress: OnProgress = silent) -> GateReport:
    """Everything, in order.

    Raises
    ------
    InputError
        Models that were not scored on the same cases; as the steps themselves.
    """
    steps = iter(enumerate(STEPS, start=1))

    def done() -> None:
        at, name = next(steps)
        on_progress(at, len(STEPS), name)

    found = points_report(inputs.scores, inputs.config)
    done()
    found["models"] = _compared(inputs, found)
    done()
    swept = sweep_report(inputs.scores, inputs.config, pins=[*pinned(found).values()])
    done()
    frozen = None
    try:
        frozen = bundle.freeze(found, inputs.scores, inputs.config)
    except RefusedError as error:
        found["freeze"] |= {"frozen": False, "reason": str(error)}
    done()
    return GateReport(swept, found, frozen)


def sweep_report(
    scores: GateScores, config: GateConfig, *, pins: Sequence[float] = ()
) -> dict[str, Any]:
    """``tau_sweep.json``: what every tau does.

    Parameters
    ----------
    pins : taus, in the file's units, that are swept, too, and stay however the curves are thinned.

    Returns
    -------
    ``curves`` of ``sweep.curves`` over all rows; ``evaluation_curves``: the same at these taus,
    over the rows that judge; ``distribution`` of ``distribution.distribution``; ``provenance`` of
    ``sweep.provenance``.
    """
    sign = gauge.sign_of(scores.gauge)
    pinned_here = sign * np.array(pins, dtype=np.float64)
    taus = np.unique(np.append(sweep.taus_of(scores, config.taus), pinned_here))
    curves = sweep.curves(sweep.sweep(scores, taus), scores.gauge, pins=pinned_here)
    kept = np.unique(sign * np.array(curves["taus"], dtype=np.float64))
    judged = sweep.sweep(scores, kept, where=~scores.first)
    return _plain(
        {
            "curves": curves,
            "evaluation_curves": sweep.curves(judged, scores.gauge),
            "distribution": distribution(scores),
            "provenance": sweep.provenance(scores, config, n_taus=taus.size)
            | {"taus_written": len(curves["taus"])},
        }
    )


def points_report(scores: GateScores, config: GateConfig) -> dict[str, Any]:
    """``operating_points.json``: of ``points.operating_points``, and what is to be frozen.

    Returns
    -------
    As there, with ``gauge``, ``identity``, the number of ``groups`` (null: none are given) and
    ``freeze``: ``point``, ``frozen`` and, where it is not backed and so cannot be frozen, the
    ``reason``.
    """
    found = points.operating_points(scores, config)
    point = found["points"][config.freeze]
    backed = point["status"] == "backed"
    return _plain(
        {
            **found,
            "gauge": scores.gauge.model_dump(mode="json"),
            "identity": scores.identity.model_dump(mode="json"),
            "groups": None if scores.group is None else scores.n_groups,
            "freeze": {
                "point": config.freeze,
                "frozen": backed,
                "reason": None
                if backed
                else f"{config.freeze} is {point['status']}: {point['reason']}",
            },
        }
    )


def _compared(inputs: GateInputs, own: Mapping[str, Any]) -> dict[str, Any] | None:
    """Models at the tau that the frozen point's rule chooses for each, on the rows that judge.

    Returns
    -------
    ``point``; ``rows``: ``model, seed, status, reason, tau`` and every measure, null where the
    point is not backed; ``choice`` of ``models.choose_models``. None: there is one model only.
    """
    if not inputs.others:
        return None
    import polars as pl

    name = inputs.config.freeze
    found = {inputs.name: own["points"][name]}
    for other, scores in inputs.others.items():
        found[other] = points.operating_points(scores, inputs.config)["points"][name]
    measures = sorted({key for point in found.values() for key in point["evaluation"] or ()})
    rows = [
        {
            "model": model,
            "seed": seed,
            **{key: point[key] for key in ("status", "reason", "tau")},
            **{key: (rate_of(point, key) or {}).get("rate") for key in measures},
        }
        for (model, seed), point in found.items()
    ]
    table = pl.DataFrame(rows, schema_overrides=dict.fromkeys(("tau", *measures), pl.Float64))
    backed = table.filter(pl.col("status") == "backed").select("model", "seed", *measures)
    return {"point": name, "rows": rows, "choice": models.choose_models(backed, inputs.config.cost)}


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that is JSON and nothing else."""
    plain: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    return plain
