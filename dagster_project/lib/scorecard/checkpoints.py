"""``checkpoints.toml``: which checkpoints are compared, what each changed, and by which rule.

Belongs: reading and checking the file.
Does not: fetching or dumping a checkpoint (``model_store``, ``inference``), judging (``verdict``).
Concept: a checkpoint is a name, a place, the levers that were pulled, and a seed. Checkpoints with
the same levers are runs of one recipe. Adding a line adds a lineage, without code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dagster_project.lib.scorecard.rule import Rule

DEPLOYED = "deployed"
"""The name of the model in service, which is always in the table and needs no entry."""


@dataclass(frozen=True)
class Checkpoint:
    """One entry of the file.

    Attributes
    ----------
    name : letters, digits and ``_``, unique; part of asset keys. Never :data:`DEPLOYED`.
    model : ``s3://bucket/prefix/`` or a folder, absolute.
    changed : levers that differ from the baseline's recipe, sorted and unique; empty: the same.
    seed : of the training run; None: not known.
    baseline : what all others are compared with; at most one entry. Without one, the model in
        service is.
    """

    name: str
    model: str
    changed: tuple[str, ...] = ()
    seed: int | None = None
    baseline: bool = False


@dataclass(frozen=True)
class Checkpoints:
    """The whole file; ``entries`` in its order."""

    entries: tuple[Checkpoint, ...] = ()
    rule: Rule = field(default_factory=Rule)

    @property
    def baseline(self) -> str:
        """Name of the configuration that all others are compared with."""
        return next((entry.name for entry in self.entries if entry.baseline), DEPLOYED)


def read_checkpoints(path: Path) -> Checkpoints:
    """Read ``checkpoints.toml``.

    Raises
    ------
    InputError
        No TOML; a key that is not known; a name that is not clean, repeated or ``deployed``; two
        baselines; a rule out of range. Names the entry, the key, and the mend.
    """
    raise NotImplementedError(path)
