"""The asset says what its sync did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from seaweed import Fault

from dagster_project.defs import model
from dagster_project.lib import model_store
from dagster_project.settings import Settings


def metadata_of(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [event] = result.get_asset_materialization_events()
    return {key: entry.value for key, entry in event.materialization.metadata.items()}


def materialize(bucket: Any, tmp_path: Path) -> dict[str, Any]:
    settings = Settings(model_uri=bucket.uri, store=tmp_path / "store")
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [model.model_artifact], resources={"settings": settings}, instance=instance
        )
        return metadata_of(result)


@pytest.mark.usefixtures("small_parts")
def test_fetched_reused_and_offline_are_told_apart(
    stored: Any, source: Path, tmp_path: Path
) -> None:
    size = int(model_store.read_artifact(source).files["bytes"].sum())
    first, second = materialize(stored, tmp_path), materialize(stored, tmp_path)
    stored.proxy.fault = lambda _: Fault(drop=True)
    third = materialize(stored, tmp_path)
    facts = ("fetched_mb", "reused", "offline")
    assert [first[f] for f in facts] == [round(size / 1e6, 3), False, False]
    assert [second[f] for f in facts] == [0, True, False]
    assert [third[f] for f in facts] == [0, True, True]
    assert first["seconds"] > 0
    assert second["mb_per_s"] is None
    assert len({m["model_tree_hash"] for m in (first, second, third)}) == 1
