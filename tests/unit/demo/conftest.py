"""One small world for all tests of this room: built once, never written to."""

from pathlib import Path

import polars as pl
import pytest

from dagster_project.lib.demo.population import SMALL
from dagster_project.lib.demo.world import World, build_world, read_truth


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root: Path = tmp_path_factory.mktemp("demo")
    return build_world(root, SMALL)


@pytest.fixture(scope="session")
def truth(world: World) -> pl.DataFrame:
    return read_truth(world)
