"""The tier policy as run config: what the launchpad offers, checks and explains.

Belongs: the contract's shape in Dagster's terms, and laying it over the policy in force.
Does not: what a policy may say (``lib.tiers.policy`` checks every value again).
Concept: keys that are given win over the policy file, key by key; a name is checked as one types,
a range when the run starts.
"""

from enum import Enum
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from dagster_project.settings import Settings

if TYPE_CHECKING:
    from dagster_project.lib.tiers.policy import TierPolicy


class ConfidentRuleName(Enum):
    """How ``confident`` is chosen."""

    coverage = "coverage"
    covered_top1 = "covered_top1"
    confident_wrong_share = "confident_wrong_share"
    fixed = "fixed"


class ReferRuleName(Enum):
    """How ``refer`` is chosen."""

    share = "share"
    kept_top3 = "kept_top3"
    fixed = "fixed"


class ConfidentConfig(dg.Config):
    """The rule of the confident threshold."""

    rule: ConfidentRuleName = Field(
        description="coverage: answer at least this share; covered_top1: at least this share of "
        "confident answers right; confident_wrong_share: at most this share of all images "
        "confident and wrong; fixed: the threshold itself."
    )
    target: float = Field(description="A share in [0, 1]; for fixed the threshold.")


class ReferConfig(dg.Config):
    """The rule of the refer threshold."""

    rule: ReferRuleName = Field(
        description="share: refer at most this share of images; kept_top3: at least this share of "
        "the kept ones with the truth in the best three; fixed: the threshold itself."
    )
    target: float = Field(description="A share in [0, 1]; for fixed the threshold.")


class PossibleItemConfig(dg.Config):
    """Which items are highlighted in the possible tier."""

    cut: float | None = Field(None, description="Highlight items with probability above this.")
    floor: int | None = Field(None, description="At least so many items, 1 to 3.")
    cap: int | None = Field(None, description="At most so many items, 1 to 3.")
    sweep: list[float] | None = Field(None, description="Other cuts to show beside it.")


class CertifyConfig(dg.Config):
    """What a certificate must hold, and on which terms (docs/evidence.md)."""

    delta: float | None = Field(
        None, description="Probability, over the draw of patients, of a wrong certificate."
    )
    enforce: bool | None = Field(
        None, description="Release the certified threshold in place of the plug-in one."
    )
    start: float | None = Field(
        None, description="The strictest threshold that is tested; not chosen from these rows."
    )
    min_coverage: float | None = Field(
        None, description="A certificate that covers a smaller share of images is none."
    )
    max_images_per_patient: int | None = Field(
        None, description="Images of one patient that count; declared, not read off the rows."
    )
    models: int | None = Field(
        None, description="Models compared on these rows; each is tested at delta / models."
    )
    subgroups: list[str] | None = Field(
        None, description="Metadata columns; the certificate must hold in each of their groups."
    )


class AllowedConfig(dg.Config):
    """Ranges outside which a release is blocked, [low, high]."""

    confident: list[float] | None = Field(None, description="[low, high]")
    refer: list[float] | None = Field(None, description="[low, high]")


class AcceptConfig(dg.Config):
    """Acceptance criteria at the released values; one that is not met blocks the release."""

    confident_wrong_share: float | None = Field(None, description="At most.")
    covered_top1: float | None = Field(None, description="At least.")
    coverage: float | None = Field(None, description="At least.")
    refer_share: float | None = Field(None, description="At most.")
    kept_top3: float | None = Field(None, description="At least.")
    certified: bool | None = Field(None, description="The released threshold must be certified.")


class TierNoiseConfig(dg.Config):
    """Share of wrong labels in each tier, at most."""

    confident: float
    possible: float
    refer: float


class PolicyConfig(dg.Config):
    """The tier policy, of the same shape as ``policy.json``; keys left out stay as they are."""

    confident: ConfidentConfig | None = Field(None, description="Rule of the confident threshold.")
    refer: ReferConfig | None = Field(None, description="Rule of the refer threshold.")
    possible_item: PossibleItemConfig | None = Field(None, description="Highlighted items.")
    certify: CertifyConfig | None = Field(None, description="Terms of the certificate.")
    allowed: AllowedConfig | None = Field(None, description="Ranges a release must stay in.")
    accept: AcceptConfig | None = Field(None, description="Criteria a release must meet.")
    label_noise: TierNoiseConfig | None = Field(
        None, description="Assumed bounds on wrong labels, by tier."
    )

    def over(self, settings: Settings) -> "TierPolicy":
        """The policy file of the settings (or the built-in one) with the given keys replaced."""
        from dagster_project.lib.tiers.policy import parse_policy

        whole: dict[str, Any] = policy_without_run_config(settings).model_dump(mode="json")
        for part, given in self.model_dump(mode="json", exclude_none=True).items():
            whole[part] = {**(whole[part] or {}), **given}
        return parse_policy(whole, "run config")


def policy_without_run_config(settings: Settings) -> "TierPolicy":
    """The policy file of the settings, or the built-in one: what a refit of the sensor goes by."""
    from dagster_project.lib.tiers.policy import DEFAULT_POLICY, read_policy

    return read_policy(settings.policy) if settings.policy else DEFAULT_POLICY
