"""Tier arithmetic against brute force, on small tied data where every boundary is hit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.lib.errors import RefusedError
from dagster_project.lib.probability_table import ProbabilityTable
from dagster_project.lib.tiers.assign import tier_of
from dagster_project.lib.tiers.curve import coverage_curve
from dagster_project.lib.tiers.movement import crossings, paired
from dagster_project.lib.tiers.policy import parse_policy
from dagster_project.lib.tiers.reports import possible_item_sweep, tier_report
from dagster_project.lib.tiers.scored_rows import rank_of_truth, score_rows
from dagster_project.lib.tiers.selection import fit_thresholds
from dagster_project.lib.tiers.thresholds import GRID, Thresholds, round_up

steady = settings(derandomize=True, deadline=None, max_examples=150)
shares = st.one_of(st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 2 / 3, 0.9, 1.0]), st.floats(0, 1))
grid = st.integers(0, GRID).map(lambda k: k / GRID)
# few different scores: ties everywhere, some of them exactly on a threshold
score = st.one_of(
    st.sampled_from([0.0, 0.2, 0.4, 0.4005, 0.8, 0.8149, 0.815, 1.0]), st.floats(0, 1)
)


@st.composite
def scored_rows(draw: st.DrawFn) -> pl.DataFrame:
    dtype = draw(st.sampled_from([pl.Float32, pl.Float64]))
    rows = draw(
        st.lists(st.tuples(score, st.integers(0, 4), score, score), min_size=1, max_size=25)
    )
    best = [sorted((a, b, c), reverse=True) for a, _, b, c in rows]
    rank = [r for _, r, _, _ in rows]
    return pl.DataFrame(
        {
            "image_uuid": [f"i{i:02d}" for i in range(len(rows))],
            "patient_id": [f"p{i // 2}" for i in range(len(rows))],
            "score": pl.Series([b[0] for b in best], dtype=dtype),
            "rank": rank,
            "top1": [r == 0 for r in rank],
            "top3": [r < 3 for r in rank],
            "top_probs": pl.Series(best, dtype=pl.List(dtype)),
        }
    )


def share(counted: Sequence[int] | npt.NDArray[np.bool_], among: int) -> float | None:
    return int(np.sum(counted)) / among if among else None


@steady
@given(scored_rows())
def test_the_curve_equals_counting_at_every_distinct_score(scored: pl.DataFrame) -> None:
    s = scored["score"].cast(pl.Float64).to_numpy()
    top1, top3 = scored["top1"].to_numpy(), scored["top3"].to_numpy()
    expected = []
    for t in sorted(set(s.tolist()), reverse=True):
        n = int((s >= t).sum())
        wrong = int(((s >= t) & ~top1).sum())
        rates = (share(top1[s >= t], n), share(top3[s >= t], n))
        expected.append((t, n, n / len(s), *rates, wrong / len(s)))
    assert coverage_curve(scored).rows() == expected


def brute_force(scored: pl.DataFrame, rule: str, target: float) -> float | None:
    """The rule as its docstring words it, one mask a threshold."""
    s = scored["score"].cast(pl.Float64).to_numpy()
    top1, top3, total = scored["top1"].to_numpy(), scored["top3"].to_numpy(), scored.height
    meets: list[float] = []
    for t in sorted(set(s.tolist())):
        answered = s >= t
        n = int(answered.sum())
        ok = {
            "coverage": n / total >= target,
            "covered_top1": int(top1[answered].sum()) / n >= target,
            "confident_wrong_share": int((~top1[answered]).sum()) / total <= target,
            "share": int((s < t).sum()) / total <= target,
            "kept_top3": int(top3[answered].sum()) / n >= target,
        }[rule]
        if ok:
            meets.append(t)
    if not meets:
        return None
    return max(meets) if rule in ("coverage", "share") else min(meets)


@steady
@given(
    scored_rows(),
    st.sampled_from(["coverage", "covered_top1", "confident_wrong_share"]),
    st.sampled_from(["share", "kept_top3"]),
    shares,
    shares,
)
def test_every_rule_equals_brute_force(
    scored: pl.DataFrame, confident: str, refer: str, target: float, refer_target: float
) -> None:
    policy = parse_policy(
        {
            "confident": {"rule": confident, "target": target},
            "refer": {"rule": refer, "target": refer_target},
        }
    )
    expected = [
        brute_force(scored, rule, wanted)
        for rule, wanted in ((confident, target), (refer, refer_target))
    ]
    try:
        fit = fit_thresholds(scored, policy)
    except RefusedError:
        assert None in expected
        return
    assert [fit.confident_rule.fitted, fit.refer_rule.fitted] == expected
    assert fit.refer <= fit.confident
    assert fit.confident_rule.fitted <= fit.confident
    for value in (fit.confident, fit.refer):
        assert value == round(value * GRID) / GRID
    shuffled = scored.sample(fraction=1, shuffle=True, seed=1)
    assert fit_thresholds(shuffled, policy) == fit


@steady
@given(scored_rows(), grid, grid)
def test_each_row_is_in_one_tier_and_every_share_sums_to_one(
    scored: pl.DataFrame, one: float, other: float
) -> None:
    at = Thresholds(confident=max(one, other), refer=min(one, other), possible_item=0.25)
    report = tier_report(scored, at)
    assert sum(tier["n"] for tier in report["tiers"].values()) == scored.height
    assert abs(sum(report["outcomes"].values()) - 1) < 1e-12
    for tier, value in zip(tier_of(scored, at), scored["score"].cast(pl.Float64), strict=True):
        expected = "refer" if value < at.refer else "confident"
        assert tier == (expected if value < at.refer or value >= at.confident else "possible")
    right = sum(tier["n"] * (tier["top1"] or 0) for tier in report["tiers"].values())
    assert abs(right - scored["top1"].sum()) < 1e-9


@steady
@given(scored_rows(), grid, grid, grid, grid)
def test_crossings_explain_the_change_of_every_tier(
    scored: pl.DataFrame, a: float, b: float, c: float, d: float
) -> None:
    old, new = Thresholds(max(a, b), min(a, b), 0.25), Thresholds(max(c, d), min(c, d), 0.25)
    table = pl.DataFrame(
        crossings(paired(scored.with_columns(label=pl.lit("a")), scored, old, new))
    )
    before, after = tier_report(scored, old)["tiers"], tier_report(scored, new)["tiers"]
    for tier in before:
        came = int(table.filter(pl.col("new_tier") == tier)["n"].sum())
        left = int(table.filter(pl.col("old_tier") == tier)["n"].sum())
        assert after[tier]["n"] - before[tier]["n"] == came - left


@steady
@given(scored_rows(), grid, grid, st.integers(1, 3), st.integers(0, 2))
def test_the_sweep_equals_counting_items_row_by_row(
    scored: pl.DataFrame, a: float, b: float, floor: int, more: int
) -> None:
    at = Thresholds(max(a, b), min(a, b), 0.25)
    item = parse_policy(
        {
            "confident": {"rule": "coverage", "target": 0.5},
            "refer": {"rule": "share", "target": 0.1},
            "possible_item": {"cut": 0.4, "floor": floor, "cap": min(3, floor + more)},
        }
    ).possible_item
    rows = scored.filter(tier_of(scored, at) == "possible")
    for found in possible_item_sweep(scored, at, item).to_dicts():
        items = [
            min(item.cap, max(item.floor, sum(p > found["cut"] for p in probs)))
            for probs in rows["top_probs"].to_list()
        ]
        hits = [r < m for r, m in zip(rows["rank"], items, strict=True)]
        for m in (1, 2, 3):
            assert found[f"matches_{m}"] == share([i == m for i in items], rows.height)
        assert found["mean"] == share(items, rows.height)
        assert found["truth_in_highlighted"] == share(hits, rows.height)


@steady
@given(st.floats(0, 1))
def test_rounding_up_is_the_next_grid_value(value: float) -> None:
    assert round_up(value) == min(k / GRID for k in range(GRID + 1) if k / GRID >= value)


@steady
@given(st.integers(2, 6), st.data())
def test_rank_and_best_items_equal_a_sorted_list(k: int, data: st.DataObject) -> None:
    probs = data.draw(st.lists(st.lists(score, min_size=k, max_size=k), min_size=1, max_size=8))
    truth = data.draw(st.lists(st.integers(0, k - 1), min_size=len(probs), max_size=len(probs)))
    matrix = np.array(probs)
    ranks = rank_of_truth(matrix, np.array(truth)).tolist()
    for row, true, rank in zip(probs, truth, ranks, strict=True):
        assert rank == sum(p > row[true] for p in row) + sum(p == row[true] for p in row) - 1
    classes = tuple(f"c{i}" for i in range(k))
    ids = [f"i{i}" for i in range(len(probs))]
    table = ProbabilityTable(classes, pl.DataFrame({"image_uuid": ids}), {"probs": matrix})
    labels = pl.DataFrame({"image_uuid": ids, "label": [classes[t] for t in truth]})
    rows = score_rows(table, labels)
    assert rows["rank"].to_list() == ranks
    for row, names, values in zip(probs, rows["top_classes"], rows["top_probs"], strict=True):
        best = sorted(range(k), key=lambda j, row=row: (-row[j], j))[:3]  # type: ignore[misc]
        assert names.to_list() == [classes[j] for j in best]
        assert values.to_list() == [row[j] for j in best]
    turned = ProbabilityTable(
        classes[::-1], pl.DataFrame({"image_uuid": ids}), {"probs": matrix[:, ::-1]}
    )
    assert score_rows(turned, labels)["rank"].to_list() == ranks
