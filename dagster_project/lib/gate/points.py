"""Operating points: the tau that each declared purpose picks, on calibration rows alone.

Belongs: the taus to choose among, deciding every rule of the configuration, statuses and reasons.
Does not: the tests (``bounds``), what a point does elsewhere (``evaluated``), models (``models``).
Concept: labels of calibration rows choose, labels of the others judge. The taus are the configured
ones or come from scores of evaluation rows, so that no calibration row had a say in them, as the
sequence of tests asks for. A tau that answers no calibration row is never chosen. T = taus.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.gate.bounds import KINDS, Bound, bound, level_of_each
from dagster_project.lib.gate.config import RECIPE, Quantiles, rules_of
from dagster_project.lib.gate.evaluated import evaluated, grid_steps, neighbours
from dagster_project.lib.gate.gauge import shown
from dagster_project.lib.gate.gray_zone import QUANTILE, recipe_tau, tau_train_of, why_none
from dagster_project.lib.gate.measures import measures
from dagster_project.lib.gate.split import recipe
from dagster_project.lib.gate.sweep import taus_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.gate.config import GateConfig, Recipe, Rule
    from dagster_project.lib.gate.scores import GateScores

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]

MAX_TAUS = 1000
"""Distinct scores of evaluation rows that are all taken; of more, as many quantiles."""

DECIMALS = 12
"""Measures that agree to so many decimals are tied: what is beyond is rounding."""

SCOPE = (
    "Holds for groups exchangeable with these: same kind of cases, instrument and labelling.",
    "Certified is only what a rule bounds, at the tau it picks. Everything else is an estimate.",
    "A certified point is wrong with probability delta at most, k points quoted together k delta.",
    "Gauge, rules and targets must have been declared before these labels were seen.",
)


@dataclass(frozen=True)
class _Board:
    """What rules choose among: T taus, rising, with the calibration measures at each."""

    scores: GateScores
    config: GateConfig
    taus: Floats
    measured: dict[str, Floats]

    @property
    def answers(self) -> Bools:
        """(T,) whether any calibration row is answered."""
        return self.measured["accept_rate"] > 0  # NaN, without a row, is no answer either

    def shown(self, tau: float) -> float:
        """In the file's own units."""
        return shown(tau, self.scores.gauge)


@dataclass(frozen=True)
class _Found:
    """What a rule came to; ``tau`` oriented, None where unavailable."""

    rule: dict[str, Any]
    tau: float | None
    reason: str | None
    bounds: dict[str, dict[str, Any]] = field(default_factory=dict)


def operating_points(scores: GateScores, config: GateConfig) -> dict[str, Any]:
    """Decide every operating point of a configuration.

    Parameters
    ----------
    scores : divided into calibration and evaluation rows.
    config : its ``taus`` are the grid if given as numbers. Else the grid are the distinct finite
        scores of evaluation rows, if there are ``MAX_TAUS`` at most, or quantiles of them (as many
        as configured, else ``MAX_TAUS``), each an observed score.

    Returns
    -------
    Plain JSON. Taus in the file's own units; undefined is null.
    ``points``: by name
    ``status`` (``backed``; ``unavailable``; ``not_added``: ``balanced`` where an earlier preset
    has the same tau), ``reason`` (null if backed), ``tau``, ``tau_train`` (null: no gray zone, and
    ``no_gray_zone`` says why one that was configured is empty), ``rule`` as declared, ``certified``
    (null where nothing is bounded), ``bounds`` (by quantity :meth:`bounds.Bound.at` and ``tau``,
    where it was looked at: the point's, or if unavailable the tau nearest to being enough),
    ``calibration`` (by measure its value), ``evaluation`` (:func:`evaluated.evaluated`); both null
    where unavailable.
    ``order``: names that have a tau, from the one that answers most to the one that answers least
    (rising tau, falling under ``accept: low``).
    ``neighbours``: :func:`evaluated.neighbours`. ``steps``: :func:`evaluated.grid_steps`.
    ``split``: ``split.recipe``. ``terms``: delta, cap, weights of the cost, grid, scope.
    ``models``: null, for ``models.choose_models`` where several were compared.
    """
    taus, source = grid(scores, config)
    board = _Board(scores, config, taus, measures(scores, taus, config, where=scores.first))
    found = {name: _decided(board, rule) for name, rule in rules_of(config).items()}
    if config.gray_zone is not None and config.gray_zone.tau_infer is not None:
        found[RECIPE] = _by_recipe(scores, config.gray_zone.tau_infer)
    at = {name: one.tau for name, one in found.items() if one.tau is not None}
    order = sorted(at, key=lambda name: (at[name], [*found].index(name)))
    points = _points(board, found)
    _not_twice(points)
    return {
        "points": points,
        "order": order,
        "neighbours": neighbours(scores, [(name, at[name]) for name in order]),
        "steps": grid_steps(scores, [(name, at[name]) for name in order], taus),
        "split": recipe(scores),
        "terms": _terms(board, source),
        "models": None,
    }


def grid(scores: GateScores, config: GateConfig) -> tuple[Floats, str]:
    """(T,) taus that are tested, rising strictly and oriented; and where they come from, in words.

    No label and no calibration row has a part in them.
    """
    judging = ~scores.first
    if isinstance(config.taus, tuple):
        return taus_of(scores, config.taus), "given"
    if config.taus == "distinct":
        distinct = taus_of(scores, "distinct", where=judging)
        if distinct.size <= MAX_TAUS:
            return distinct, "every distinct score of evaluation rows"
    wanted = config.taus if isinstance(config.taus, Quantiles) else Quantiles(quantiles=MAX_TAUS)
    found = taus_of(scores, wanted, where=judging)
    return found, f"{wanted.quantiles} quantiles of evaluation rows' scores"


def _decided(board: _Board, rule: Rule) -> _Found:
    """The tau of one rule among the taus where all its bounds are certified."""
    level = level_of_each(tuple(rule.bound), board.config.certify.delta)
    bounds = [
        bound(board.scores, quantity, target, level=level, terms=board.config.certify)
        for quantity, target in rule.bound.items()
    ]
    held = [one.certified(board.taus) for one in bounds]
    allowed = np.flatnonzero(np.logical_and.reduce([board.answers, *held]))
    declared = rule.model_dump(mode="json")
    at = _chosen(board, rule, allowed)
    if at is not None:
        tau = float(board.taus[at])
        return _Found(declared, tau, None, _looked(board, bounds, [(tau, True)] * len(bounds)))
    asked = _asked(board, bounds, held)
    looked = _looked(board, bounds, asked)
    return _Found(declared, None, _why_not(board, rule, bounds, asked, looked), looked)


def _chosen(board: _Board, rule: Rule, allowed: Ints) -> int | None:
    if rule.choose == "best":
        first = board.measured[rule.order[0].removeprefix("-")]
        allowed = allowed[~np.isnan(first[allowed])]
        allowed = allowed[np.lexsort(_keys(board, rule, allowed)[::-1])]
    if not allowed.size:
        return None
    return int(allowed[-1 if rule.choose == "largest" else 0])


def _keys(board: _Board, rule: Rule, allowed: Ints) -> list[Floats]:
    """The order as numbers, smaller is better; what is undefined ranks last, ties to the first."""
    keys = []
    for name in rule.order:
        values = board.measured[name.removeprefix("-")][allowed]
        values = np.round(-values if name.startswith("-") else values, DECIMALS)
        keys.append(np.where(np.isnan(values), np.inf, values) + 0.0)
    return [*keys, allowed.astype(np.float64)]


def _asked(
    board: _Board, bounds: list[Bound], held: list[Bools]
) -> list[tuple[float | None, bool]]:
    """For each bound the tau nearest to being enough, and whether the bound is certified there.

    That is the end of its sequence where it is easiest, among the taus that answer a row and that
    the bounds of the other sequence leave.
    """
    asked: list[tuple[float | None, bool]] = []
    for one, passed in zip(bounds, held, strict=True):
        others = [
            mask for other, mask in zip(bounds, held, strict=True) if other.rising != one.rising
        ]
        left = np.flatnonzero(np.logical_and.reduce([board.answers, *others]))
        left = left if left.size else np.flatnonzero(board.answers)
        if not left.size:
            asked.append((None, False))
            continue
        at = int(left[0 if one.rising else -1])
        asked.append((float(board.taus[at]), bool(passed[at])))
    return asked


def _looked(
    board: _Board, bounds: list[Bound], at: list[tuple[float | None, bool]]
) -> dict[str, dict[str, Any]]:
    """By quantity what is known of it at its tau."""
    looked: dict[str, dict[str, Any]] = {}
    for one, (tau, certified) in zip(bounds, at, strict=True):
        strict = math.inf if tau is None else tau
        looked[one.quantity] = one.at(strict, certified=certified) | {
            "tau": None if tau is None else board.shown(tau)
        }
        if tau is None:
            looked[one.quantity] |= {"observed": None, "upper": None, "rows_needed": None}
    return looked


def _why_not(
    board: _Board,
    rule: Rule,
    bounds: list[Bound],
    asked: list[tuple[float | None, bool]],
    looked: dict[str, dict[str, Any]],
) -> str:
    untestable = _untestable(board, bounds)
    if untestable is not None:
        return untestable
    failing = [
        _failing(one, looked[one.quantity], alone=len(bounds) == 1)
        for one, (_, certified) in zip(bounds, asked, strict=True)
        if not certified
    ]
    if failing:
        return "; ".join(failing)
    name = rule.order[0].removeprefix("-")
    if name in ("macro_f1", "direction_f1") and board.scores.direction is None:
        return f"{name} is undefined: the scores have no direction columns"
    return f"{name} is undefined on the calibration rows"


def _untestable(board: _Board, bounds: list[Bound]) -> str | None:
    """Why nothing could be tested at all."""
    if not board.taus.size:
        return "there is no tau: no evaluation row has a finite score; give taus"
    for one in bounds:
        if not len(one.rows):
            return f"{one.quantity}: no {KINDS[one.quantity]} row is among the calibration rows"
        if not one.groups_will_do:
            return (
                "groups are not known for every row; if each row is one of its own, say so with "
                "max_rows_per_group 1"
            )
    return None if board.answers.any() else "no tau answers a calibration row"


def _failing(one: Bound, looked: dict[str, Any], *, alone: bool) -> str:
    """Why a bound is not shown, at the tau that would be easiest for it."""
    end = "loosest" if one.rising else "strictest"
    where = "that answers a row" if alone else "that the other bounds leave"
    needed = looked["rows_needed"]
    kind = f"{KINDS[one.quantity]} calibration rows".strip()
    mend = "no number of rows would do at this rate"
    if needed != "never":
        mend = f"about {needed:,} {kind} would do at this rate"
    return (
        f"{one.quantity} is not shown to be below {_share(one.target)} even at tau "
        f"{looked['tau']:.6g}, the {end} {where}: {_share(looked['observed'])} of {looked['n']:,} "
        f"{kind}, upper bound {_share(looked['upper'])}; {mend}"
    )


def _share(value: float) -> str:
    return f"{100 * value:.3g} %"


def _by_recipe(scores: GateScores, wanted: Recipe) -> _Found:
    """The named recipe: a quantile, no rule and no bound."""
    declared = {"recipe": RECIPE, **wanted.model_dump(mode="json"), "quantile_is": QUANTILE}
    tau = recipe_tau(scores, wanted)
    of = "" if wanted.of == "all" else f"{wanted.of.replace('_', '-')} "
    reason = None if tau is not None else f"no {of}calibration row has a score"
    return _Found(declared, tau, reason)


def _points(board: _Board, found: dict[str, _Found]) -> dict[str, Any]:
    scores, config = board.scores, board.config
    taus = np.unique([one.tau for one in found.values() if one.tau is not None])
    here = measures(scores, taus, config, where=scores.first)
    there = measures(scores, taus, config, where=~scores.first)
    points = {}
    for name, one in found.items():
        point: dict[str, Any] = {
            "status": "unavailable" if one.tau is None else "backed",
            "reason": one.reason,
            "tau": None,
            "tau_train": None,
            "no_gray_zone": None,
            "rule": one.rule,
            "certified": one.tau is not None if one.bounds else None,
            "bounds": one.bounds,
            "calibration": None,
            "evaluation": None,
        }
        if one.tau is not None:
            at = int(np.searchsorted(taus, one.tau))
            train = tau_train_of(one.tau, config)
            point |= {
                "tau": board.shown(one.tau),
                "tau_train": None if train is None else board.shown(train),
                "no_gray_zone": why_none(one.tau, config),
                "calibration": {name: _number(values[at]) for name, values in here.items()},
                "evaluation": evaluated(
                    scores, one.tau, train, {name: float(v[at]) for name, v in there.items()}
                ),
            }
        points[name] = point
    return points


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _not_twice(points: dict[str, Any]) -> None:
    """``balanced`` adds nothing where an earlier preset already has its tau."""
    balanced = points["balanced"]
    for name in ("safety_first", "accuracy_first", "direction_aware"):
        other = points[name]
        if balanced["status"] == other["status"] == "backed" and balanced["tau"] == other["tau"]:
            balanced["status"] = "not_added"
            balanced["reason"] = f"{name} has the same tau"


def _terms(board: _Board, source: str) -> dict[str, Any]:
    config, taus = board.config, board.taus
    ends = sorted(board.shown(float(tau)) for tau in (taus[[0, -1]] if taus.size else []))
    return {
        "delta": config.certify.delta,
        "max_rows_per_group": config.certify.max_rows_per_group,
        "cost": config.cost.model_dump(),
        "grid": {
            "source": source,
            "n": int(taus.size),
            "lowest": ends[0] if ends else None,
            "highest": ends[-1] if ends else None,
        },
        "scope": list(SCOPE),
    }
