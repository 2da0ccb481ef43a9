"""What a roll-up is made with: mask, normalisation, rule and thresholds; frozen and hashed.

Belongs: the JSON of ``--config`` (and Dagster run config of the same shape), its checks, its hash.
Does not: applying any of it (``mask``, ``normalise``, ``place``, ``fit``).
Concept: everything that can change a row is in here or in the taxonomy; equal hash, equal rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from dagster_project.lib.config_file import checked, read_config_json

Share = Annotated[float, Field(ge=0, le=1)]
Normalisation = Literal["none", "softmax", "odds", "l1"]
RuleName = Literal["lineage", "distribution", "antenna", "speciesnet", "climbing", "darts"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Mask(_Part):
    """Which classes may be said: ``include`` these, or all but ``exclude``; at most one is given.

    ``reweight``: the kept probabilities are made to sum to what they all summed to before (from
    logits: softmax over the kept ones). ``min_kept_mass``: below it a row is not decided.
    """

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    reweight: bool = True
    min_kept_mass: Share = 0.0

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if self.include is not None and self.exclude is not None:
            raise ValueError("give include or exclude, not both")
        return self


class FitThresholds(_Part):
    """Thresholds fitted on labels: the shape on patients A, one certified shift on patients B.

    ``target``: bound on P(placed and wrong) over all images. ``accuracy``: by rank, what the shape
    aims at on A (a rank that cannot reach it is disabled, and so is one that is not named; none
    named: 1 - target for each). ``share_a``: of patients, by sha256.
    """

    target: Share = 0.05
    accuracy: dict[str, Share] = Field(default_factory=dict)
    delta: float = Field(0.05, gt=0, lt=1)
    share_a: float = Field(0.5, gt=0, lt=1)
    max_images_per_patient: int = Field(5, ge=1, le=1000)


_FIT, _GIVEN = "fitted", "given"


def _kind(thresholds: object) -> str:
    """Given by rank, or how they are fitted: a key of the fit decides, whatever else is there."""
    fitted = isinstance(thresholds, FitThresholds) or (
        isinstance(thresholds, Mapping) and any(k in FitThresholds.model_fields for k in thresholds)
    )
    return _FIT if fitted else _GIVEN


GivenOrFitted = Annotated[
    Annotated[dict[str, float], Tag(_GIVEN)] | Annotated[FitThresholds, Tag(_FIT)],
    Discriminator(_kind),
]


class RollupConfig(_Part):
    """The whole configuration.

    ``thresholds``: rank -> threshold in [0, 1], or above 1 for a rank that is never said; or how
    they are fitted (no rank is called as a key of the fit is). A rank that is not named is never
    said. ``parameter``: of the single-parameter
    rules (speciesnet: the cascade's threshold; climbing; darts: lambda). ``skip_trivial_nodes``:
    under lineage and distribution only; the others pass over nothing, as published.
    """

    mask: Mask | None = None
    normalisation: Normalisation = "l1"
    rule: RuleName = "lineage"
    thresholds: GivenOrFitted = Field(default_factory=FitThresholds)
    parameter: float | None = None
    skip_trivial_nodes: bool = True


_PARTS = (RollupConfig, Mask, FitThresholds)
DOCS = "docs/rollup-report.md"


def read_config(path: Path) -> RollupConfig:
    """Read and check a configuration file.

    Raises
    ------
    InputError
        Missing, not JSON, a key repeated, unknown or out of range: file, key, got, allowed.
    """
    return parse_config(read_config_json(path, "roll-up configuration", DOCS), path.name)


def parse_config(value: object, name: str = "roll-up configuration") -> RollupConfig:
    """Check a configuration that is already an object (run config); ``name`` is for messages.

    Raises
    ------
    InputError
        A key unknown or out of range, text for a number; every fault is named, on one line.
    """
    return checked(RollupConfig, value, name=name, parts=_PARTS, see=DOCS, hidden=(_FIT, _GIVEN))
