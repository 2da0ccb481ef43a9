"""Checkpoints beside the model in service: a lineage for each entry of the list, without code.

Belongs: reading the list when the definitions load, the assets and checks that it adds.
Does not: what they do (``model``, ``probabilities``: one body for all models), the comparison
(``scorecard``), what the file may say (``lib.scorecard.checkpoints``).
Concept: a checkpoint is synced, dumped and cached exactly as the model in service, under its own
name, and moves nothing that serves. A fault in the list is told when the definitions load.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from dagster_project.defs import model, probabilities
from dagster_project.defs.parquet_io import asset_key
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.scorecard.checkpoints import Checkpoints, read_checkpoints
from dagster_project.settings import Settings

SPLIT = "test"
"""Checkpoints are compared on test rows; none needs the train split."""


@dataclass(frozen=True)
class Lineages:
    """What the list adds to the definitions."""

    assets: Sequence[dg.AssetsDefinition]
    checks: Sequence[dg.AssetChecksDefinition]


def configured(settings: Settings) -> Checkpoints:
    """The list that the settings name; without one, no checkpoint and the built-in rule.

    Raises
    ------
    InputError
        A fault in the file, named with its entry, key and mend.
    """
    return Checkpoints() if settings.checkpoints is None else read_checkpoints(settings.checkpoints)


def build_lineages(checkpoints: Checkpoints, settings: Settings) -> Lineages:
    """``<name>/model_artifact`` and ``<name>/test_probabilities`` of each entry, with checks.

    Raises
    ------
    InputError
        A name whose tables would lie among the shards of the model in service: whoever retires
        the entry and deletes its folder would delete those.
    """
    taken = set(probabilities.DUMPS.values()) & {entry.name for entry in checkpoints.entries}
    if taken:
        raise InputError(
            f"checkpoints, key name: {some(sorted(taken))} is the folder of an asset of the model "
            "in service; take another name"
        )
    assets: list[dg.AssetsDefinition] = []
    checks: list[dg.AssetChecksDefinition] = []
    for entry in checkpoints.entries:
        artifact = model.build_artifact(entry)
        dump = probabilities.build_dump(SPLIT, settings, entry)
        assets += [artifact, dump]
        checks += [
            model.build_artifact_check(artifact),
            probabilities.build_dump_check(SPLIT, dump, entry),
        ]
    return Lineages(assets, checks)


def artifacts(checkpoints: Checkpoints) -> list[dg.AssetKey]:
    """Keys of the artifacts of all entries."""
    return [asset_key(model.artifact_of(entry)) for entry in checkpoints.entries]


def dumps(checkpoints: Checkpoints) -> dict[str, dg.AssetKey]:
    """Name -> key of the dump, of all entries."""
    entries = checkpoints.entries
    return {entry.name: asset_key(probabilities.dump_of(SPLIT, entry)) for entry in entries}
