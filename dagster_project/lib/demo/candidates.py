"""The demo's training recipes: the deployed one, and three that somebody would try next.

Belongs: what each recipe changes, as values; the ``checkpoints.toml`` that lists them.
Does not: fitting a head by one (``model``), judging any (``lib.scorecard``).
Concept: common levers at their common strengths, chosen before anybody looked at a table: focal
loss with gamma 2 (Lin et al. 2017, arXiv 1708.02002, section 3.2), a class-balanced sampler, label
smoothing of 0.1 (Szegedy et al. 2016, arXiv 1512.00567, section 7). What the scorecard says of
them is its own finding: no name is read by it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagster_project.lib.files import write_text
from dagster_project.lib.scorecard.rule import Rule


@dataclass(frozen=True)
class Recipe:
    """How a head is fitted.

    Attributes
    ----------
    name : of the artifact's folder and of the checkpoint.
    changed : levers that differ from the deployed recipe, as ``checkpoints.toml`` lists them.
    gamma : focal loss's exponent: an answer that is off by d counts d ** gamma as much.
    smoothing : share of each target that is spread evenly over all classes.
    class_balanced : rows are drawn with replacement so that every class comes equally often.
    """

    name: str
    changed: tuple[str, ...] = ()
    gamma: float = 0.0
    smoothing: float = 0.0
    class_balanced: bool = False


FOLDER = "candidates"
"""Of a world; each candidate's artifact is in a folder of its name."""

DEPLOYED = Recipe("deployed")
CANDIDATES = (
    Recipe("focal", ("focal_loss",), gamma=2.0),
    Recipe("class_balanced", ("class_balanced_sampler",), class_balanced=True),
    Recipe("smoothed", ("label_smoothing",), smoothing=0.1),
)


def write_checkpoints(path: Path, *, seed: int) -> None:
    """List the candidates of the world at ``path``'s folder in a ``checkpoints.toml``.

    The default rule is written out: whoever opens the file sees what a verdict will rest on.
    """
    rule = Rule().model_dump()
    margins = rule.pop("margins")
    entries = [
        {
            "name": recipe.name,
            "model": f"{FOLDER}/{recipe.name}",
            "changed": list(recipe.changed),
            "seed": seed,
        }
        for recipe in CANDIDATES
    ]
    parts = [_table("[rule]", rule), _table("[rule.margins]", margins)]
    parts += [_table("[[checkpoint]]", entry) for entry in entries]
    write_text(path, "\n".join(parts))


def _table(header: str, values: dict[str, Any]) -> str:
    """One TOML table: numbers, lists and strings are written there as in JSON."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join([header, *lines, ""])
