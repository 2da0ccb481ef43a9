"""What a gate is fitted with: gauge, taus, division, operating points, gray zone; frozen, hashed.

Belongs: the JSON of ``--config``, its checks, its hash.
Does not: applying any of it (``sweep``, ``points``, ``gray_zone``, ``bundle``).
Concept: what is wanted is declared before the labels are seen; the rules of all operating points,
the built-in ones too, are written in one grammar.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from dagster_project.lib.config_file import checked, read_config_json
from dagster_project.lib.errors import InputError

Share = Annotated[float, Field(ge=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def _one_line(text: str) -> str:
    if not text or not text.isprintable() or text != text.strip():
        raise ValueError("one line of printable text without blanks at its ends")
    return text


def _numbers(taus: tuple[float, ...]) -> tuple[float, ...]:
    if not 1 <= len(taus) <= 100_000:
        raise ValueError("1 to 100,000 numbers")
    return taus


def _sides(names: tuple[str, ...]) -> tuple[str, ...]:
    if not 1 <= len(names) <= 10 or len(set(names)) < len(names):
        raise ValueError("1 to 10 names, none of them twice")
    return names


Text = Annotated[str, Field(max_length=200), AfterValidator(_one_line)]
Bounded = Literal["fp_cens", "fn_in", "accepted_censored"]
Measure = Literal[
    "fn_in",
    "fp_cens",
    "accepted_censored",
    "bottom_rate",
    "accept_rate",
    "fault_rate",
    "semantic_bottom_rate",
    "gap_rate",
    "cost",
    "macro_f1",
    "direction_f1",
    "fp_cens+fn_in",
    "|fp_cens-fn_in|",
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Gauge(_Part):
    """What a score is; scores of different gauges are never compared, nor gated alike.

    ``head``: which output. ``magnitude``: how it was made one number, as in ``abs``, ``softmax
    max``, ``Mahalanobis``; under ``abs`` a negative score is refused. ``normalisation``: what it
    was divided by or scaled with (``none`` is an answer). ``accept``: ``high``: score < tau is no
    answer; ``low`` (distances, energies): score > tau is none.
    """

    head: Text
    magnitude: Text
    normalisation: Text
    accept: Literal["high", "low"] = "high"


class Identity(_Part):
    """Of what the scores are; a sweep is run again when one of these changes. None: not stated."""

    model_family: Text | None = None
    model_tree_hash: Text | None = None
    preprocessing: Text | None = None
    dataset: Text | None = None


class Relabel(_Part):
    """Says that scores recorded under another gauge are of this one after all, and why."""

    recorded: Gauge
    reason: Text


class Quantiles(_Part):
    """Taus at ``n`` equally spaced quantiles of the scores, ties kept."""

    quantiles: int = Field(ge=2, le=100_000)


class Split(_Part):
    """Share of groups (rows, where no group is given) that choose; the others only judge."""

    calibration: float = Field(0.5, gt=0, lt=1)


class Certify(_Part):
    """Terms of every bound: wrong with probability ``delta`` at most, by independent groups.

    ``max_rows_per_group``: of a larger group the calibration counts so many; without groups every
    row is one.
    """

    delta: float = Field(0.05, gt=0, lt=1)
    max_rows_per_group: int = Field(5, ge=1, le=1000)


class Cost(_Part):
    """cost = ``fault`` x fault_rate + ``semantic`` x semantic_bottom_rate."""

    fault: float = Field(1.0, ge=0, allow_inf_nan=False)
    semantic: float = Field(0.5, ge=0, allow_inf_nan=False)


class Rule(_Part):
    """How one operating point is chosen among the taus.

    ``choose``: ``smallest`` or ``largest`` tau for which every ``bound`` is certified; or ``best``:
    the first in lexicographic ``order`` (a measure, with a minus sign before it the larger is the
    better) among those for which every bound is certified. Ties of ``best`` go to the smaller tau.
    """

    choose: Literal["smallest", "largest", "best"]
    bound: dict[Bounded, Share] = Field(default_factory=dict)
    order: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.choose == "best":
            if not self.order:
                raise ValueError('choose "best" needs an order')
        elif self.order:
            raise ValueError(f'order is for choose "best", not "{self.choose}"')
        elif not self.bound:
            raise ValueError(f'choose "{self.choose}" needs a bound, else every tau will do')
        known = Measure.__args__  # type: ignore[attr-defined]
        for name in self.order:
            if name.removeprefix("-") not in known:
                raise ValueError(f"order: {name} is no measure; known are {', '.join(known)}")
        return self


class Target(_Part):
    """The bound of a preset that has one."""

    target: Share


class Preset(_Part):
    """A preset without a target of its own; bounds may be added."""

    bound: dict[Bounded, Share] = Field(default_factory=dict)


class Points(_Part):
    """The built-in operating points, and whatever else a user declares by name."""

    safety_first: Target = Target(target=0.05)
    accuracy_first: Target = Target(target=0.05)
    direction_aware: Preset = Preset()
    balanced: Preset = Preset()
    rules: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")], Rule] = Field(
        default_factory=dict
    )


class Recipe(_Part):
    """tau_infer from a quantile of held-out scores: of calibration rows ``of`` this kind."""

    quantile: Share
    of: Literal["all", "in_range", "censored"] = "in_range"


class GrayZone(_Part):
    """Between tau_infer and tau_train an answer is given and marked.

    One of ``tau_train`` (a number) and ``multiple`` (of tau_infer) is given. ``tau_infer``: the
    named recipe ``quantile_multiple`` adds an operating point of that name, whose tau is the
    quantile.
    """

    tau_train: Finite | None = None
    multiple: float | None = Field(None, gt=1, allow_inf_nan=False)
    tau_infer: Recipe | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.tau_train is None) == (self.multiple is None):
            raise ValueError("give tau_train or multiple, one of them")
        return self


_TAGS = ("__distinct", "__quantiles", "__given")
"""The three kinds of taus in pydantic's places; no keys."""


def _taus_kind(value: object) -> str | None:
    if isinstance(value, dict | Quantiles):
        return _TAGS[1]
    if isinstance(value, list | tuple):
        return _TAGS[2]
    return _TAGS[0] if value == "distinct" else None


class GateConfig(_Part):
    """The whole configuration.

    ``taus``: given ones are in the file's units, in any order; a repeated one counts once.
    ``directions``: every side there can be; None: those that are true of a censored row.
    ``freeze``: the operating point that goes into the bundle.
    """

    gauge: Gauge
    identity: Identity = Identity()
    relabel: Relabel | None = None
    taus: Annotated[
        Annotated[Literal["distinct"], Tag(_TAGS[0])]
        | Annotated[Quantiles, Tag(_TAGS[1])]
        | Annotated[tuple[Finite, ...], AfterValidator(_numbers), Tag(_TAGS[2])],
        Discriminator(
            _taus_kind,
            custom_error_type="taus",
            custom_error_message='"distinct", {"quantiles": n} or a list of numbers',
        ),
    ] = "distinct"
    directions: Annotated[tuple[Text, ...], AfterValidator(_sides)] | None = None
    split: Split = Split()
    certify: Certify = Certify()
    cost: Cost = Cost()
    points: Points = Points()
    gray_zone: GrayZone | None = None
    freeze: str = "safety_first"


PRESETS = ("safety_first", "accuracy_first", "direction_aware", "balanced")
RECIPE = "quantile_multiple"
DOCS = "docs/gate.md"
_PARTS = (
    GateConfig, Gauge, Identity, Relabel, Quantiles, Split, Certify, Cost, Points, Target, Preset,
    Rule, Recipe, GrayZone,
)  # fmt: skip


def rules_of(config: GateConfig) -> dict[str, Rule]:
    """Every operating point by name, presets first, each as a rule of the common grammar.

    ``safety_first``: the smallest tau whose bound on fp_cens meets its target; ``accuracy_first``:
    the largest whose bound on fn_in does. ``direction_aware``: best macro-F1 of the three answers
    (in range, and the two directions), then fewer censored accepted, then cost. ``balanced``: least
    fp_cens + fn_in, then cost, then the smaller difference of the two, then macro-F1.
    """
    points = config.points
    return {
        "safety_first": Rule(choose="smallest", bound={"fp_cens": points.safety_first.target}),
        "accuracy_first": Rule(choose="largest", bound={"fn_in": points.accuracy_first.target}),
        "direction_aware": Rule(
            choose="best",
            bound=points.direction_aware.bound,
            order=("-macro_f1", "fp_cens", "cost"),
        ),
        "balanced": Rule(
            choose="best",
            bound=points.balanced.bound,
            order=("fp_cens+fn_in", "cost", "|fp_cens-fn_in|", "-macro_f1"),
        ),
        **points.rules,
    }


def read_config(path: Path) -> GateConfig:
    """Read and check a configuration file.

    Raises
    ------
    InputError
        Missing, not JSON, a key repeated, unknown or out of range: file, key, got, allowed.
    """
    return parse_config(read_config_json(path, "gate configuration", DOCS), path.name)


def parse_config(value: object, name: str = "gate configuration") -> GateConfig:
    """Check a configuration that is already an object; ``name`` is for messages.

    Raises
    ------
    InputError
        A key unknown or out of range, a rule named as a preset, a point to freeze that is none.
    """
    config = checked(GateConfig, value, name=name, parts=_PARTS, see=DOCS, hidden=_TAGS)
    taken = [rule for rule in config.points.rules if rule in (*PRESETS, RECIPE)]
    if taken:
        raise InputError(f"{name}: key points.rules: {taken[0]} is built in; choose another name")
    known = [*rules_of(config)]
    if config.gray_zone is not None and config.gray_zone.tau_infer is not None:
        known.append(RECIPE)
    if config.freeze not in known:
        raise InputError(
            f"{name}: key freeze: {config.freeze} is no operating point; known are "
            f"{', '.join(known)}"
        )
    return config
