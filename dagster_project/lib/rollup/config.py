"""What a roll-up is made with: mask, normalisation, rule and thresholds; frozen and hashed.

Belongs: the JSON of ``--config`` (and Dagster run config of the same shape), its checks, its hash.
Does not: applying any of it (``mask``, ``normalise``, ``place``, ``fit``).
Concept: everything that can change a row is in here or in the taxonomy; equal hash, equal rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dagster_project.lib.files import canonical_json, sha256_bytes

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
    aims at on A (a rank that cannot reach it is disabled). ``share_a``: of patients, by sha256.
    """

    target: Share = 0.05
    accuracy: dict[str, Share] = Field(default_factory=dict)
    delta: float = Field(0.05, gt=0, lt=1)
    share_a: float = Field(0.5, gt=0, lt=1)
    max_images_per_patient: int = Field(5, ge=1, le=1000)


class RollupConfig(_Part):
    """The whole configuration.

    ``thresholds``: rank -> threshold in [0, 1], or above 1 for a rank that is never said; or how
    they are fitted. A rank that is not named is never said. ``parameter``: of the single-parameter
    rules (speciesnet: the cascade's threshold; climbing; darts: lambda).
    """

    mask: Mask | None = None
    normalisation: Normalisation = "l1"
    rule: RuleName = "lineage"
    thresholds: dict[str, float] | FitThresholds = Field(default_factory=FitThresholds)
    parameter: float | None = None
    skip_trivial_nodes: bool = True


def config_sha256(config: RollupConfig) -> str:
    """Names the configuration; keys left at their defaults count as written out."""
    return sha256_bytes(canonical_json(config.model_dump(mode="json")).encode())


def read_config(path: Path) -> RollupConfig:
    """Read and check a configuration file; errors as ``tiers.policy.read_policy``."""
    raise NotImplementedError(path)
