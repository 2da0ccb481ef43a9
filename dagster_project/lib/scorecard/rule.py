"""The declared rule of a scorecard: margins and limits, fixed before anybody looks at a table.

Belongs: its fields, their defaults and ranges, the hash that names it.
Does not: applying it (``verdict``, ``recipe``), reading the file (``checkpoints``).
Concept: a verdict that a person could have argued about is only worth something if the rule was
there first; its hash is part of every scorecard.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from dagster_project.lib.files import digest


class Margins(BaseModel):
    """How much worse than the baseline is still called not worse; in each measure's own unit.

    ``recall`` is the largest fall that is no loss, the same number as ``Rule.recall_drop``: what
    rejects when it is proven has to be excluded before a checkpoint is kept. It is the same for
    rare classes as for others, since their patients are not worth less; what is too rare to be
    measured stays "cannot exclude" until there are patients enough (docs/verdicts.md).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    top1: float = Field(0.01, ge=0, le=1)
    recall: float = Field(0.10, ge=0, le=1)
    brier: float = Field(0.01, ge=0)
    nll: float = Field(0.05, ge=0)


class Rule(BaseModel):
    """When a checkpoint is kept or rejected, and what a recipe needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recall_drop: float = Field(0.10, gt=0, le=1, description="A larger fall of a recall rejects.")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="Of the adjusted p of such a fall.")
    margins: Margins = Margins()
    single_run_sd: float = Field(
        0.006, gt=0, lt=1, description="SD between runs where it was not measured."
    )
    min_df: int = Field(4, ge=1, description="Degrees of freedom that a recipe needs.")


def rule_sha256(rule: Rule) -> str:
    """Names the rule: equal rules, equal hash."""
    return digest(rule.model_dump(mode="json"))
