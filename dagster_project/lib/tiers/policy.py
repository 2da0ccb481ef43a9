"""The tier policy: what is wanted of the thresholds, fixed before the labels are seen.

Belongs: the contract's JSON as a frozen, validated value, and its hash.
Does not: fitting (``selection``), where things are (``settings``).
Concept: a rule and its target for each threshold; unknown keys are refused, never ignored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dagster_project.lib import files
from dagster_project.lib.config_file import faults, read_config_json
from dagster_project.lib.errors import InputError

Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Range = tuple[Share, Share]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ConfidentRule(_Part):
    """How ``confident`` is chosen; ``target`` is a share, for ``fixed`` the threshold itself."""

    rule: Literal["coverage", "covered_top1", "confident_wrong_share", "fixed"]
    target: Share


class ReferRule(_Part):
    """How ``refer`` is chosen; ``target`` is a share, for ``fixed`` the threshold itself."""

    rule: Literal["share", "kept_top3", "fixed"]
    target: Share


class PossibleItem(_Part):
    """Items with probability > ``cut`` are highlighted: at least ``floor``, at most ``cap``.

    ``sweep``: the other cuts that are shown beside it.
    """

    cut: Share = 0.25
    floor: int = Field(1, strict=True, ge=1, le=3)
    cap: int = Field(3, strict=True, ge=1, le=3)
    sweep: tuple[Share, ...] = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.floor > self.cap:
            raise ValueError(f"floor {self.floor} is above cap {self.cap}")
        return self


class Certify(_Part):
    """What a certificate must hold, and on which terms (docs/evidence.md).

    Attributes
    ----------
    delta : probability, over the draw of patients, that a certificate is issued wrongly.
    enforce : release the certified threshold in place of the plug-in one.
    start : the strictest threshold that is tested; None: 1.0 for a bound on the confident-wrong
        share alone, :data:`START_WITH_ACCURACY` where covered accuracy is bounded too.
    min_coverage : a certificate that covers less is none; None: any coverage above 0.
    max_images_per_patient : images of one patient that count; declared, never read off the rows.
    models : how many models are compared on these rows; each is tested at delta / models.
    subgroups : metadata columns; the certificate must hold in every one of their groups.
    """

    delta: float = Field(0.05, strict=True, gt=0, lt=1)
    enforce: bool = Field(False, strict=True)
    start: Share | None = None
    min_coverage: Share | None = None
    max_images_per_patient: int = Field(5, strict=True, ge=1, le=1000)
    models: int = Field(1, strict=True, ge=1)
    subgroups: tuple[str, ...] = ()


START_WITH_ACCURACY = 0.95
"""Covered accuracy cannot be shown where nearly nothing is covered; a constant, not a choice."""


class TierNoise(_Part):
    """Share of wrong labels in each tier at most, as a reader study or a paper gives it."""

    confident: Share
    possible: Share
    refer: Share


class Accept(_Part):
    """Acceptance criteria at the released values; one that is not met blocks the release.

    ``confident_wrong_share`` and ``covered_top1`` are also what a certificate tests, besides the
    rule's own target. ``certified``: the released threshold must be certified.
    """

    confident_wrong_share: Share | None = Field(None, description="at most")
    covered_top1: Share | None = Field(None, description="at least")
    coverage: Share | None = Field(None, description="at least")
    refer_share: Share | None = Field(None, description="at most")
    kept_top3: Share | None = Field(None, description="at least")
    certified: bool = Field(False, strict=True)


class Allowed(_Part):
    """Ranges outside which a release is blocked; null means any value in [0, 1]."""

    confident: Range | None = None
    refer: Range | None = None

    @field_validator("confident", "refer")
    @classmethod
    def _ordered(cls, value: Range | None) -> Range | None:
        if value is not None and value[0] > value[1]:
            raise ValueError(f"the range [{value[0]}, {value[1]}] is empty")
        return value


class TierPolicy(_Part):
    """The whole policy: the protocol, fixed before the labels are seen."""

    confident: ConfidentRule
    refer: ReferRule
    possible_item: PossibleItem = PossibleItem()
    certify: Certify = Certify()
    allowed: Allowed = Allowed()
    accept: Accept = Accept()
    label_noise: TierNoise | None = None

    @model_validator(mode="after")
    def _fixed_values_ordered(self) -> Self:
        both_fixed = self.confident.rule == self.refer.rule == "fixed"
        if both_fixed and self.refer.target > self.confident.target:
            raise ValueError(
                f"refer is fixed at {self.refer.target}, above confident {self.confident.target}"
            )
        return self


_PARTS = (
    TierPolicy, ConfidentRule, ReferRule, PossibleItem, Certify, Allowed, Accept, TierNoise
)  # fmt: skip

DEFAULT_POLICY = TierPolicy(
    confident=ConfidentRule(rule="confident_wrong_share", target=0.041),
    refer=ReferRule(rule="share", target=0.13),
)
"""The operating point of the original run, stated as rules."""


def read_policy(path: Path) -> TierPolicy:
    """Read and check a policy file.

    Raises
    ------
    InputError
        Missing, not JSON, a key repeated, unknown or out of range: file, key, got, allowed.
    """
    return parse_policy(read_config_json(path, "policy file", "docs/tiers.md"), path.name)


def parse_policy(value: object, name: str = "policy") -> TierPolicy:
    """Check a policy that is already an object (run config); ``name`` is for messages.

    Raises
    ------
    InputError
        A key missing, unknown or out of range; every fault is named, on one line.
    """
    try:
        return TierPolicy.model_validate(value)
    except ValidationError as error:
        raise InputError(f"{name}: {faults(error, 'the policy', _PARTS)}") from None


def policy_sha256(policy: TierPolicy) -> str:
    """Hex sha256 of the policy's canonical JSON; keys left unset do not count."""
    value = policy.model_dump(mode="json", exclude_none=True)
    return files.sha256_bytes(files.canonical_json(value).encode())
