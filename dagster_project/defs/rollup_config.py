"""The roll-up's configuration as run config: what the launchpad offers, checks and explains.

Belongs: the file's shape in Dagster's terms, and laying it over the file in force.
Does not: what a configuration may say (``lib.rollup.config`` checks every value again).
Concept: mask and normalisation need no label and belong to the masked rows; rule and thresholds do,
or may. Keys that are given win over the file, key by key.
"""

import json
from enum import Enum
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from dagster_project.lib.errors import InputError
from dagster_project.lib.files import digest
from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings

if TYPE_CHECKING:
    from dagster_project.lib.rollup.config import RollupConfig

MASK_KEYS = ("mask", "normalisation")


class NormalisationName(Enum):
    """How raw outputs become shares that may be added up (docs/rollup.md)."""

    none = "none"
    softmax = "softmax"
    odds = "odds"
    l1 = "l1"


class RollupRuleName(Enum):
    """Which node is said (docs/rollup.md)."""

    lineage = "lineage"
    distribution = "distribution"
    antenna = "antenna"
    speciesnet = "speciesnet"
    climbing = "climbing"
    darts = "darts"


class MaskConfig(dg.Config):
    """Which classes may be said; give include or exclude, not both."""

    include: list[str] | None = Field(None, description="Only these classes may be said.")
    exclude: list[str] | None = Field(None, description="All classes but these may be said.")
    reweight: bool | None = Field(
        None, description="Scale the kept shares to what all summed to (the default)."
    )
    min_kept_mass: float | None = Field(
        None, description="A row whose kept classes hold a smaller share of the mass is undecided."
    )


class MaskedConfig(dg.Config):
    """Mask and normalisation; keys left out are those of TIER_REFIT_ROLLUP."""

    mask: MaskConfig | None = Field(None, description="In place of the file's mask.")
    normalisation: NormalisationName | None = Field(
        None, description="none (rows sum to 1 already), softmax, odds or l1."
    )


class FitConfig(dg.Config):
    """Thresholds fitted on the labels in force: the shape on patients A, certified on B."""

    target: float | None = Field(None, description="Bound on P(placed and wrong) of all images.")
    accuracy: dict[str, float] | None = Field(
        None,
        description="By rank, what the shape aims at. Where a rank is named, others are never "
        "said; where none is, each aims at 1 - target.",
    )
    delta: float | None = Field(
        None, description="Probability, over the draw of patients, of a wrong certificate."
    )
    share_a: float | None = Field(None, description="Share of patients that give the shape.")
    max_images_per_patient: int | None = Field(
        None, description="Images of one patient that count; declared, not read off the rows."
    )


class RollupRuleConfig(dg.Config):
    """Rule and thresholds; keys left out are those of TIER_REFIT_ROLLUP."""

    rule: RollupRuleName | None = Field(
        None,
        description="lineage: only ancestors of the top class; distribution: the best node of each "
        "rank; the others are other systems' rules.",
    )
    thresholds: dict[str, float] | None = Field(
        None, description="Given by rank, in [0, 1]; no label is needed. In place of a fit."
    )
    fit: FitConfig | None = Field(None, description="Fitted on labels. In place of given ones.")
    parameter: float | None = Field(
        None, description="Of the rules with one number: speciesnet, climbing, darts."
    )
    skip_trivial_nodes: bool | None = Field(
        None, description="Pass over nodes that say no less than one which was not sure enough."
    )


def configured(settings: Settings) -> "RollupConfig":
    """The configuration file of the settings, or the built-in one."""
    from dagster_project.lib.rollup.config import RollupConfig, read_config

    return RollupConfig() if settings.rollup is None else read_config(settings.rollup)


def masked_config(config: MaskedConfig, settings: Settings) -> "RollupConfig":
    """The file's configuration with the given keys of mask and normalisation replaced."""
    from dagster_project.lib.rollup.config import parse_config

    given = config.model_dump(mode="json", exclude_none=True)
    return parse_config({**configured(settings).model_dump(mode="json"), **given}, "run config")


def mask_sha256(settings: Settings) -> str:
    """Names mask and normalisation as the file has them: what a refit of the sensor goes by."""
    return digest(mask_of(configured(settings)))


def mask_of(config: "RollupConfig") -> dict[str, Any]:
    """Mask and normalisation of a configuration, as plain JSON."""
    whole = config.model_dump(mode="json")
    return {key: whole[key] for key in MASK_KEYS}


def rule_config(
    config: RollupRuleConfig, masked: StoredTable, settings: Settings
) -> "RollupConfig":
    """Mask and normalisation as the rows were masked; the rest of the file, given keys on top."""
    from dagster_project.lib.rollup.candidates import BY_RANK
    from dagster_project.lib.rollup.config import FitThresholds, parse_config

    if config.thresholds is not None and config.fit is not None:
        raise InputError("run config: give thresholds or fit, not both")
    made = json.loads(masked.metadata["config"])
    whole = configured(settings).model_dump(mode="json") | {key: made[key] for key in MASK_KEYS}
    given = config.model_dump(mode="json", exclude_none=True)
    fitted = FitThresholds().model_dump(mode="json")
    if "rule" in given:
        whole["parameter"] = None  # the file's is of the file's rule
        if given["rule"] not in BY_RANK:
            whole["thresholds"] = fitted  # so are its thresholds
    fit = given.pop("fit", None)
    if fit is not None:
        kept = whole["thresholds"] if fitted.keys() == whole["thresholds"].keys() else fitted
        given["thresholds"] = {**kept, **fit}
    return parse_config({**whole, **given}, "run config")
