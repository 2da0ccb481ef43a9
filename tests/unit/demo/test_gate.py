"""The synthetic |Q| set: what is planted is in it, and what is declared can be answered."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.demo import gate
from dagster_project.lib.gate.config import Gauge, Identity, read_config
from dagster_project.lib.gate.points import operating_points
from dagster_project.lib.gate.scores import read_scores


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return gate.write_demo_gate(tmp_path_factory.mktemp("gate"))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    drawn: tuple[Path, Path], tmp_path: Path
) -> None:
    again = gate.write_demo_gate(tmp_path)
    other = gate.write_demo_gate(tmp_path / "other", seed=1)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in drawn]
    assert other[0].read_bytes() != drawn[0].read_bytes()
    assert other[1].read_bytes() == drawn[1].read_bytes()


def test_gauge_and_identity_are_in_the_file_and_the_reader_takes_them(
    drawn: tuple[Path, Path],
) -> None:
    config = read_config(drawn[1])
    found = read_scores(drawn[0], config.model_copy(update={"identity": Identity()}))
    assert found.gauge == Gauge.model_validate(gate.GAUGE)
    assert found.identity == Identity.model_validate(gate.IDENTITY)
    assert found.score.dtype == np.float32
    assert found.direction is not None
    assert found.direction.names == ("above", "below")


def test_what_is_planted_is_there_in_the_numbers_that_were_meant(drawn: tuple[Path, Path]) -> None:
    counted = gate.planted(drawn[0].parent)
    n = counted["rows"]
    assert counted["cases"] == gate.CASES
    assert counted["in_range"] + counted["below"] + counted["above"] == n
    for key, share in zip(("in_range", "below", "above"), gate.SHARES, strict=True):
        assert counted[key] / n == pytest.approx(share, abs=0.04)
    assert counted["not_a_number"] / n == pytest.approx(gate.NOT_A_NUMBER, abs=0.003)
    assert counted["flagged"] / n == pytest.approx(gate.FLAGGED, abs=0.003)
    rows = pl.read_parquet(drawn[0])
    assert rows.filter("fault")["score"].is_finite().all()  # mixed rows can be told apart
    sides = rows.group_by("group").agg(pl.col("direction_true").n_unique())
    assert sides["direction_true"].max() == 1


def test_the_two_kinds_lie_decades_apart_and_overlap(drawn: tuple[Path, Path]) -> None:
    rows = pl.read_parquet(drawn[0]).filter(pl.col("score").is_finite() & (pl.col("score") > 0))
    inside, outside = (
        rows.filter(pl.col("in_range") == kind)["score"].log10() for kind in (True, False)
    )
    medians = [float(np.median(part.to_numpy())) for part in (inside, outside)]
    assert medians == pytest.approx([-0.4, -2.43], abs=0.1)
    low, high = np.quantile(inside, 0.01), np.quantile(outside, 0.99)
    assert low < high  # no tau tells all of them apart


def test_readings_of_a_case_are_alike(drawn: tuple[Path, Path]) -> None:
    rows = pl.read_parquet(drawn[0]).filter(pl.col("score").is_finite(), "in_range")
    z = rows.select("group", z=(pl.col("score").log10() + 0.4) / 0.45)
    pairs = z.group_by("group").agg("z").filter(pl.col("z").list.len() >= 2)
    one, two = (pairs["z"].list.get(at).to_numpy() for at in (0, 1))
    assert np.corrcoef(one, two)[0, 1] == pytest.approx(gate.OF_THE_CASE, abs=0.1)


def test_the_declared_points_are_backed_and_the_stricter_one_honestly_is_not(
    drawn: tuple[Path, Path],
) -> None:
    config = read_config(drawn[1])
    points = operating_points(read_scores(drawn[0], config), config)["points"]
    backed = {name for name, point in points.items() if point["status"] == "backed"}
    assert backed >= {"safety_first", "accuracy_first", "few_wrong_answers", "quantile_multiple"}
    assert points[config.freeze]["tau_train"] == pytest.approx(2 * points[config.freeze]["tau"])
    stricter = points[gate.STRICTER]
    assert stricter["status"] == "unavailable"
    assert stricter["bounds"]["fp_cens"]["observed"] == 0  # too few cases, not too bad a score
    assert stricter["bounds"]["fp_cens"]["rows_needed"] > 10_000
