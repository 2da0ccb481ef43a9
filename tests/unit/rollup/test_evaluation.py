"""The evaluation: every count by hand or by brute force, and what must add up."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from rollup_worlds import TAXONOMY, World

from dagster_project.lib.errors import InputError
from dagster_project.lib.rollup.candidates import RollUp, is_right
from dagster_project.lib.rollup.config import FitThresholds, Mask, RollupConfig
from dagster_project.lib.rollup.confusion import captured
from dagster_project.lib.rollup.evaluation import evaluate, lineage_against, mask_effects
from dagster_project.lib.rollup.fit import fit_thresholds
from dagster_project.lib.rollup.groups import by_group, by_node
from dagster_project.lib.rollup.outcome_mix import outcome_mix
from dagster_project.lib.rollup.placed import UNPLACED, Placed
from dagster_project.lib.rollup.prepare import Prepared, prepare
from dagster_project.lib.rollup.rates import mean, rate
from dagster_project.lib.rollup.sensitivity import sensitivity
from dagster_project.lib.rollup.specificity import compare_rules, curve, figures_of, information
from dagster_project.lib.rollup.transitions import KINDS, kinds, leaf_of, transitions
from dagster_project.lib.rollup.truth import Truth, truth_of
from dagster_project.lib.scorecard.paired import sign_test
from dagster_project.lib.tiers.assign import tier_of
from dagster_project.lib.tiers.reports import tier_report
from dagster_project.lib.tiers.scored_rows import rank_of_truth
from dagster_project.lib.tiers.thresholds import Thresholds

Floats = npt.NDArray[np.float64]
NUMBER = {name: at for at, name in enumerate(TAXONOMY.nodes)} | {"": UNPLACED}


def said(nodes: list[str], leaf: list[str] | None = None) -> Placed:
    """Rows placed at these nodes, "" unplaced; of the leaves given, else the first class below."""
    node = np.array([NUMBER[name] for name in nodes])
    rank = np.where(node == UNPLACED, UNPLACED, TAXONOMY.rank_of[node])
    top = np.array([NUMBER[name] for name in leaf or ["eczema"] * len(nodes)])
    share = np.full(node.size, 0.5)
    return Placed(node, rank, share, share, top, share, np.zeros(node.size, dtype=bool), node,
                  share, np.where(node == UNPLACED, 1, 0))  # fmt: skip


def labelled(labels: list[str], patients: list[str] | None = None, **columns: Any) -> Truth:
    n = len(labels)
    rows = {
        "image_uuid": [f"i{at}" for at in range(n)],
        "label": labels,
        "patient_id": patients or [f"p{at}" for at in range(n)],
        **columns,
    }
    return truth_of(pl.DataFrame(rows), TAXONOMY.classes)


# ---- transitions ----

CASES = [
    ("eczema", "eczema", "eczema", "kept_right"),
    ("eczema", "eczema", "eczematous", "specificity_lost"),
    ("eczema", "inflammatory", "eczematous", "specificity_gained"),
    ("eczema", "eczema", "", "withheld_right"),
    ("eczema", "eczema", "infectious", "introduced"),
    ("eczema", "contact", "eczematous", "fixed"),
    ("eczema", "psoriasis", "inflammatory", "fixed"),
    ("eczema", "infectious", "eczematous", "corrected"),
    ("eczema", "contact", "eczema", "corrected"),
    ("eczema", "tinea", "", "withheld_wrong"),
    ("eczema", "tinea", "viral", "still_wrong"),
    ("eczema", "", "inflammatory", "newly_right"),
    ("eczema", "", "fungal", "newly_wrong"),
    ("eczema", "", "", "still_unplaced"),
]


@pytest.mark.parametrize(
    ("true", "before", "after", "kind"),
    [pytest.param(*case, id=f"{case[1]}-{case[2]}") for case in CASES],
)
def test_each_transition_is_named_as_it_is(true: str, before: str, after: str, kind: str) -> None:
    found = kinds(said([before]), said([after]), labelled([true]).true, TAXONOMY)
    assert found.tolist() == [kind]


def test_transitions_count_every_image_once_and_test_patients_not_images() -> None:
    """Patient p's two images are fixed, q's one introduced, r's one kept."""
    truth = labelled(["eczema", "eczema", "tinea", "herpes"], ["p", "p", "q", "r"])
    before = said(["contact", "contact", "tinea", "herpes"])
    after = said(["eczematous", "eczematous", "viral", "herpes"])
    found = transitions(before, after, truth, TAXONOMY)
    counts = {row["kind"]: row["share"]["n"] for row in found["kinds"] if row["share"]["n"]}
    assert counts == {"fixed": 2, "introduced": 1, "kept_right": 1}
    assert [row["kind"] for row in found["kinds"]] == list(KINDS)
    fixed = next(row for row in found["kinds"] if row["kind"] == "fixed")
    assert fixed["by_rank"] == {"class": 0, "family": 2, "group": 0, "unplaced": 0}
    right, wrong, both = found["tests"]
    assert (right["before"], right["after"], right["difference"]["mean"]) == (0.5, 0.75, 0.25)
    assert (wrong["difference"]["mean"], both["difference"]["mean"]) == (-0.25, 0.25)
    expected = sign_test(np.array([2, -1, 0]), 3)
    assert (right["z"], right["p"], right["method"]) == (expected.z, expected.p, "sign_flips")
    assert all(row["p_holm"] >= row["p"] for row in found["tests"])


def test_nothing_changed_has_no_p() -> None:
    side = said(["eczema", "tinea"])
    for row in transitions(side, side, labelled(["eczema", "herpes"]), TAXONOMY)["tests"]:
        assert (row["z"], row["p"], row["p_holm"]) == (None, None, None)


# ---- rates ----


def test_a_rate_says_what_it_was_divided_by_and_undefined_is_null() -> None:
    hit = np.array([True, False, True, True])
    patient = np.array([0, 0, 1, 2])
    found = rate(hit, patient, np.array([True, True, True, False]))
    assert (found["n"], found["of"], found["rate"]) == (2, 3, 2 / 3)
    assert found["ci95"][0] <= 2 / 3 <= found["ci95"][1]
    none = rate(hit, patient, np.zeros(4, dtype=bool))
    assert none == {"n": 0, "of": 0, "rate": None, "ci95": None}
    assert rate(hit[:2], patient[:2])["ci95"] is None  # one patient


def test_all_right_is_no_certainty() -> None:
    """The bootstrap of 20 right answers is the point 1; Wilson's lower end is not."""
    low, high = rate(np.ones(20, dtype=bool), np.arange(20))["ci95"]
    assert 0.8 < low < 0.9
    assert high == 1.0
    together = rate(np.ones(20, dtype=bool), np.arange(20) // 4)["ci95"]
    assert together[0] < low  # five patients


def test_a_mean_and_its_interval_by_hand() -> None:
    """Patients with sums 2 and 0 over two images each: D = .5, deviations 1 and -1."""
    found = mean(np.array([1, 1, 0, 0]), np.array([0, 0, 3, 3]), within=(-1, 1))
    half = 1.959963984540054 * np.sqrt(2) / 4
    assert found["mean"] == 0.5
    assert found["ci95"] == pytest.approx([0.5 - half, 1.0])
    assert mean(np.zeros(0), np.zeros(0, dtype=int), within=(0, 1))["mean"] is None


# ---- specificity ----


def test_information_is_one_for_a_class_and_falls_with_the_classes_under_a_node() -> None:
    found = dict(zip(TAXONOMY.nodes, information(TAXONOMY).tolist(), strict=True))
    assert found["eczema"] == 1.0
    assert found["viral"] == 1.0  # says as much as its only class
    assert found["eczematous"] == pytest.approx(np.log2(3) / np.log2(6))
    assert found["inflammatory"] == pytest.approx(np.log2(6 / 4) / np.log2(6))


def test_figures_by_hand() -> None:
    truth = labelled(["eczema", "eczema", "tinea", "tinea"])
    found = figures_of(said(["eczema", "inflammatory", "viral", ""]), truth, TAXONOMY)
    counted = {key: found[key]["n"] for key in ("placed", "right", "wrong", "accuracy")}
    assert counted == {"placed": 3, "right": 2, "wrong": 1, "accuracy": 2}
    assert found["accuracy"]["of"] == 3
    expected = (1 + np.log2(6 / 4) / np.log2(6) + 1 + 0) / 4
    assert found["specificity"]["mean"] == pytest.approx(expected)


@pytest.fixture(scope="module")
def world() -> tuple[Floats, Truth, pl.DataFrame]:
    probs, rows = World(images=2).draw(np.random.default_rng(2), 500)
    true = np.array([TAXONOMY.classes.index(name) for name in rows["label"]])
    rank = rank_of_truth(probs, true)
    scored = rows.with_columns(
        pl.Series("score", probs.max(axis=1)),
        pl.Series("top1", rank == 0),
        pl.Series("top3", rank < 3),
    )
    scored = scored.with_columns(tier_of(scored, Thresholds(0.75, 0.5, 0.25)).alias("tier"))
    return probs, truth_of(scored, TAXONOMY.classes), scored


def rolled(
    probs: Floats, thresholds: list[float], **config: Any
) -> tuple[Prepared, Placed, RollUp]:
    made = RollupConfig(normalisation="none", thresholds={}, **config)
    prepared = prepare(probs, TAXONOMY.classes, made)
    rollup = RollUp(TAXONOMY, made, np.array(thresholds))
    return prepared, rollup.applied(prepared), rollup


RULES = [
    pytest.param({"rule": "lineage"}, id="lineage"),
    pytest.param({"rule": "distribution"}, id="distribution"),
    pytest.param({"rule": "antenna"}, id="antenna"),
    pytest.param({"rule": "climbing", "parameter": 0.72}, id="climbing"),
    pytest.param({"rule": "speciesnet"}, id="speciesnet"),
    pytest.param({"rule": "darts", "parameter": 0.7}, id="darts"),
]


@pytest.mark.parametrize("config", RULES)
def test_the_curve_goes_through_the_roll_up_and_never_places_fewer(
    world: tuple[Floats, Truth, pl.DataFrame], config: dict[str, Any]
) -> None:
    probs, truth, _ = world
    prepared, placed, rollup = rolled(probs, [0.7, 0.5, np.nan], **config)
    points = curve(prepared, rollup, truth)
    (own,) = [point for point in points if point["own"]]
    assert own["at"] == config.get("parameter", 0.65 if config["rule"] == "speciesnet" else 0.0)
    assert {key: own[key] for key in figures_of(placed, truth, TAXONOMY)} == figures_of(
        placed, truth, TAXONOMY
    )
    numbers = [point["placed"]["n"] for point in points]
    assert numbers == sorted(numbers)
    assert len(points) > 5
    said_more = [point["specificity"]["mean"] for point in points]
    if config["rule"] != "antenna":  # leaves its trivial nodes, so that finer may say no more
        assert said_more == sorted(said_more)


def test_rules_are_compared_on_the_same_images(world: tuple[Floats, Truth, pl.DataFrame]) -> None:
    probs, truth, _ = world
    made = {name: rolled(probs, [0.7, 0.5, 0.4], rule=name) for name in ("lineage", "antenna")}
    found = compare_rules(
        {name: one[0] for name, one in made.items()},
        {name: one[2] for name, one in made.items()},
        truth,
    )
    assert [row["name"] for row in found] == ["lineage", "antenna"]
    for row in found:
        assert row["placed"] == figures_of(made[row["name"]][1], truth, TAXONOMY)["placed"]


# ---- lineage against distribution ----


def test_off_lineage_answers_are_set_against_the_leafs_own_ancestor() -> None:
    """Row 0: top eczema .4, but infectious .6. Row 1: the same, truth as the leaf says."""
    probs = np.array([[0.4, 0, 0, 0.3, 0, 0.3], [0.4, 0, 0, 0.3, 0, 0.3], [0.9, 0, 0, 0.1, 0, 0]])
    truth = labelled(["herpes", "eczema", "eczema"])
    for rule in ("lineage", "distribution"):
        prepared, placed, rollup = rolled(probs, [0.8, 0.5, 0.35], rule=rule)
        found = lineage_against(prepared, placed, truth, rollup)
        assert found["free"] == "distribution"
        assert (found["off_lineage"]["n"], found["off_lineage"]["of"]) == (2, 3)
        assert found["differ"]["n"] == 2
        assert (found["there"]["free"]["n"], found["there"]["own_ancestor"]["n"]) == (1, 1)
        assert {side: row["n"] for side, row in found["right"].items()} == {
            "lineage": 1,
            "free": 1,
        }
        assert (found["z"], found["method"]) == (0.0, "sign_flips")


# ---- the mask ----


def test_effects_of_a_mask_by_hand() -> None:
    """Herpes may not be said: lost where it is true, won where it was wrongly said."""
    probs = np.array(
        [
            [0.1, 0.0, 0.0, 0.4, 0.0, 0.5],  # truth herpes: right, and excluded
            [0.1, 0.0, 0.0, 0.4, 0.0, 0.5],  # truth tinea: corrected
            [0.4, 0.0, 0.0, 0.1, 0.0, 0.5],  # truth tinea: wrong, and wrong
            [0.0, 0.0, 0.0, 0.05, 0.0, 0.95],  # too little is kept
        ]
    )
    truth = labelled(["herpes", "tinea", "tinea", "herpes"])
    free, everything, _ = rolled(probs, [0.9, 0.6, 0.3])
    mask = Mask(exclude=("herpes",), min_kept_mass=0.1)
    prepared, placed, rollup = rolled(probs, [0.9, 0.6, 0.3], mask=mask)
    found = mask_effects(prepared, leaf_of(everything), placed, truth)
    assert {
        key: row["n"] for key, row in found.items() if isinstance(row, dict) and "n" in row
    } == {
        "truth_excluded": 2,
        "corrected": 1,
        "regressed": 2,
        "regressed_though_allowed": 0,
        "not_decided": 1,
    }
    assert (found["n_classes"], found["n_allowed"]) == (6, 5)
    assert found["kept_mass"]["mean"] == pytest.approx((0.5 + 0.5 + 0.5 + 0.05) / 4)
    whole = evaluate(prepared, placed, truth, rollup, before=leaf_of(everything))
    assert whole["mask"] == found
    assert evaluate(free, everything, truth, rolled(probs, [0.9, 0.6, 0.3])[2])["mask"] is None


# ---- confusions ----


def test_captured_confusions_by_hand_and_chance_by_counting_every_wrong_answer() -> None:
    true = np.array([0, 0, 3, 1])
    found = captured(true, np.array([2, 3, 5, 1]), np.arange(4), {"t": TAXONOMY})
    assert [(row["rank"], row["n_nodes"]) for row in found] == [("family", 4), ("group", 2)]
    assert [(row["captured"]["n"], row["captured"]["of"]) for row in found] == [(1, 3), (2, 3)]
    for row, rank in zip(found, (1, 2), strict=True):
        ancestor = TAXONOMY.ancestors[:, rank]
        each = [
            np.mean([ancestor[t] == ancestor[other] for other in range(6) if other != t])
            for t in true[:3]
        ]
        assert row["by_chance"] == pytest.approx(np.mean(each))


# ---- tiers ----


def test_the_mix_of_outcomes_by_hand() -> None:
    truth = labelled(
        ["eczema"] * 6,
        tier=["confident", "possible", "possible", "refer", "refer", "refer"],
        top1=[True, False, False, False, False, True],
        top3=[True, True, False, False, False, True],
    )
    placed = said(["eczema", "eczematous", "", "inflammatory", "viral", ""])
    found = outcome_mix(placed, truth, TAXONOMY)
    assert found is not None
    mix = {row["outcome"]: (row["without"]["n"], row["with"]["n"]) for row in found["mix"]}
    assert mix == {
        "confident_correct": (1, 1),
        "confident_wrong": (0, 0),
        "possible_top3": (1, 1),
        "possible_miss": (1, 1),
        "rolled_up_right": (0, 1),
        "rolled_up_wrong": (0, 1),
        "refer": (3, 1),
    }
    possible, refer = found["tiers"]
    assert (possible["tier"], possible["n"]) == ("possible", 2)
    assert {rank: row["n"] for rank, row in possible["right"].items()} == {
        "class": 0,
        "family": 1,
        "group": 0,
    }
    assert (refer["right"]["group"]["n"], refer["wrong"]["n"], refer["unplaced"]["n"]) == (1, 1, 1)
    assert refer["leaf_right"]["n"] == 1
    assert outcome_mix(placed, labelled(["eczema"] * 6), TAXONOMY) is None


def test_without_the_line_the_mix_is_the_tiers_own_and_both_add_up(
    world: tuple[Floats, Truth, pl.DataFrame],
) -> None:
    probs, truth, scored = world
    _, placed, _ = rolled(probs, [0.7, 0.6, 0.6])
    found = outcome_mix(placed, truth, TAXONOMY)
    assert found is not None
    mix = {row["outcome"]: row for row in found["mix"]}
    theirs = tier_report(scored, Thresholds(0.75, 0.5, 0.25))["outcomes"]
    assert {name: mix[name]["without"]["rate"] for name in theirs} == theirs
    for side in ("without", "with"):
        assert sum(row[side]["n"] for row in mix.values()) == len(truth)
    for tier in found["tiers"]:
        right = sum(row["n"] for row in tier["right"].values())
        assert right + tier["wrong"]["n"] + tier["unplaced"]["n"] == tier["n"]


# ---- label noise ----


def test_no_choice_of_wrong_labels_leaves_the_bounds_and_some_reach_them() -> None:
    """Every way to change one of five labels to any class."""
    labels = ["eczema", "contact", "tinea", "herpes", "eczema"]
    placed = said(["eczematous", "eczematous", "viral", "", "eczema"])

    def wrong(names: list[str]) -> int:
        right = is_right(placed.node, labelled(names).true, TAXONOMY)
        return int(((placed.node != UNPLACED) & ~right).sum())

    found = sensitivity({"wrong": (wrong(labels), 5)}, 5, target=0.5, etas=[0.2])
    low, high = (round(5 * found["bounds"][0][end]) for end in ("low", "high"))
    changed = [
        wrong([*labels[:at], name, *labels[at + 1 :]])
        for at, name in itertools.product(range(5), TAXONOMY.classes)
    ]
    assert (min(changed), max(changed)) == (low, high) == (0, 2)
    assert found["labels_to_target"] == 1  # 2 of 5 are within .5, 3 are not


def test_bounds_stay_within_what_can_be_counted() -> None:
    found = sensitivity({"accuracy": (9, 10), "never": (0, 0)}, 100, etas=[0.05])["bounds"]
    assert (found[0]["low"], found[0]["high"]) == (0.4, 1.0)
    assert (found[1]["observed"], found[1]["low"], found[1]["high"]) == (None, None, None)
    with pytest.raises(InputError, match="eta 2"):
        sensitivity({}, 1, etas=[2])


# ---- groups ----


def test_a_group_of_few_patients_is_counted_and_not_rated() -> None:
    truth = labelled(["eczema"] * 4 + ["tinea"] * 6, ["p"] * 4 + [f"q{at}" for at in range(6)])
    after = said(["eczema"] * 4 + ["infectious"] * 5 + [""])
    found = by_group(list(TAXONOMY.classes), truth.true, (after, after), truth, TAXONOMY)
    assert [(row["group"], row["n"], row["n_patients"]) for row in found] == [
        ("eczema", 4, 1),
        ("tinea", 6, 6),
    ]
    assert found[0]["right"] is found[0]["specificity"] is None
    assert found[0]["ranks"]["class"] == 4
    assert (found[1]["accuracy"]["n"], found[1]["accuracy"]["of"]) == (5, 5)
    assert found[1]["too_few"]


def test_each_node_of_the_tree_is_counted() -> None:
    truth = labelled(["eczema"] * 6 + ["tinea"])
    placed = said(["eczematous"] * 5 + ["viral", "viral"])
    found = {row["node"]: row for row in by_node(placed, truth, TAXONOMY)}
    assert list(found) == list(TAXONOMY.nodes)
    assert (found["eczematous"]["n"], found["eczematous"]["accuracy"]["n"]) == (5, 5)
    assert (found["viral"]["n"], found["viral"]["accuracy"]) == (2, None)  # two patients
    assert found["herpes"]["accuracy"]["rate"] is None
    assert sum(row["share"] for row in found.values()) == 1


# ---- the whole ----


def test_the_evaluation_is_plain_and_the_same_in_any_order(
    world: tuple[Floats, Truth, pl.DataFrame],
) -> None:
    probs, _, scored = world
    order = np.random.default_rng(0).permutation(len(probs))
    texts = []
    for at in (np.arange(len(probs)), order):
        truth = truth_of(scored[at], TAXONOMY.classes)
        prepared, placed, rollup = rolled(probs[at], [0.8, 0.7, 0.7])
        found = evaluate(prepared, placed, truth, rollup, taxonomies={"own": TAXONOMY})
        texts.append(json.dumps(found, allow_nan=False, sort_keys=True))
        n = len(truth)
        assert sum(row["share"]["n"] for row in found["transitions"]["kinds"]) == n
        assert sum(found["reasons"].values()) == n
        assert sum(row["n"] for row in found["by_rank"]) == found["after"]["placed"]["n"]
        for part in ("by_class", "by_confidence", "by_tier"):
            assert sum(row["n"] for row in found[part]) == n
            assert sum(row["right"]["n"] for row in found[part] if row["right"]) <= n
        assert found["by_side"] is None
    assert texts[0] == texts[1]


def test_on_side_b_the_evaluation_sees_what_was_certified(
    world: tuple[Floats, Truth, pl.DataFrame],
) -> None:
    probs, truth, _ = world
    config = RollupConfig(normalisation="none", thresholds=FitThresholds(target=0.2))
    prepared = prepare(probs, TAXONOMY.classes, config)
    fit = fit_thresholds(prepared, truth, TAXONOMY, config)
    rollup = RollUp(TAXONOMY, config, fit.thresholds)
    found = evaluate(prepared, rollup.applied(prepared), truth, rollup)
    a, b = found["by_side"]
    assert (a["n"], b["n"]) == (fit.n_a["images"], fit.n_b["images"])
    assert b["wrong"]["rate"] == fit.certificate["observed"]
    assert b["placed"]["rate"] == fit.certificate["placed"]
    assert [row["aim"] for row in found["by_rank"]] == [0.8] * 3
    allowed = int(0.2 * len(truth)) - found["after"]["wrong"]["n"]
    assert found["label_noise"]["labels_to_target"] == max(0, allowed)


def test_rows_that_do_not_match_are_refused(world: tuple[Floats, Truth, pl.DataFrame]) -> None:
    probs, truth, _ = world
    prepared, placed, rollup = rolled(probs[:10], [0.8, 0.7, 0.7])
    with pytest.raises(InputError, match="10 placed rows, 1000 labels"):
        evaluate(prepared, placed, truth, rollup)


def test_rows_without_probabilities_are_unplaced_before_and_after() -> None:
    probs = np.array([[np.nan] * 6, [0.9, 0.1, 0, 0, 0, 0]])
    prepared, placed, rollup = rolled(probs, [0.8, 0.7, 0.7])
    found = evaluate(prepared, placed, labelled(["eczema", "eczema"]), rollup)
    counts = {row["kind"]: row["share"]["n"] for row in found["transitions"]["kinds"]}
    assert (counts["still_unplaced"], counts["kept_right"]) == (1, 1)
    assert found["before"]["placed"]["n"] == 1
    assert [row["group"] for row in found["by_confidence"]] == ["0.9-1.0", "none"]
