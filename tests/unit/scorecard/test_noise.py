"""Redrawn labels: where the noise comes from, and which verdicts it would turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from comparisons import difference

from dagster_project.lib.errors import InputError
from dagster_project.lib.scorecard.answers import Answers
from dagster_project.lib.scorecard.comparison import ClassDifference, Comparison, Verdict, Word
from dagster_project.lib.scorecard.noise import (
    Noise,
    _row,
    from_joint,
    from_reviews,
    noise_flips,
)
from dagster_project.lib.scorecard.rule import Rule
from dagster_project.lib.scorecard.verdict import judge

CLASSES = ("acne", "eczema", "warts")
NOBODY = pl.Series("image_uuid", [], dtype=pl.String)


def reviews(*pairs: tuple[str, str | None, str, int]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(given, cleaned) of ``given, label, status, how many``."""
    rows = [pair[:3] for pair in pairs for _ in range(pair[3])]
    given, label, status = zip(*rows, strict=True)
    ids = [f"i{at:04d}" for at in range(len(rows))]
    schema = {"image_uuid": pl.String, "label": pl.String, "status": pl.String}
    return (
        pl.DataFrame({"image_uuid": ids, "label": given}),
        pl.DataFrame({"image_uuid": ids, "label": label, "status": status}, schema=schema),
    )


MANY = (
    ("acne", "acne", "confirmed", 80),
    ("acne", "eczema", "corrected", 20),
    ("eczema", "eczema", "confirmed", 100),
    ("eczema", "warts", "tie", 50),
    ("warts", None, "not_usable", 9),
    ("warts", "warts", "given", 9),
)


def test_reviews_give_the_noise_that_was_counted_drawn_towards_the_rest() -> None:
    """acne: 80 of 100 stay, of all 180 of 200. (80 + 10 x 0.9) / 110 stay."""
    found = from_reviews(*reviews(*MANY), CLASSES)
    assert found is not None
    assert (found.n, found.decided.len()) == (200, 200)
    assert found.rate == pytest.approx(0.1)
    assert found.matrix[0] == pytest.approx([89 / 110, 21 / 110, 0.0])
    # every correction went to eczema: eczema itself has nowhere else to go, and warts does
    assert found.matrix[1] == pytest.approx([0, 1, 0])
    assert found.matrix[2] == pytest.approx([0, 0.1, 0.9])
    assert found.source == "200 decided reviews, as if picked blindly"


def test_too_few_decided_reviews_are_no_estimate() -> None:
    assert from_reviews(*reviews(("acne", "acne", "confirmed", 49)), CLASSES) is None
    assert from_reviews(*reviews(("acne", "acne", "confirmed", 50)), CLASSES) is not None


def test_a_review_stands_for_those_like_it_that_nobody_was_asked_about() -> None:
    """Right ones drawn at one in ten stand for nine; wrong ones at one half for one, or nobody."""
    given, cleaned = reviews(("acne", "acne", "confirmed", 50), ("acne", "warts", "corrected", 50))
    pi = [0.1] * 50 + [0.5] * 40 + [1.0] * 10
    found = from_reviews(given, cleaned.with_columns(inclusion_probability=pl.Series(pi)), CLASSES)
    assert found is not None
    assert found.n == 90
    assert found.rate == pytest.approx(40 / (50 * 9 + 40))
    assert found.decided.len() == 100
    assert "weighted" in found.source


def test_what_came_back_of_a_stratum_stands_for_all_of_it() -> None:
    """Half of the right ones came back, all of the wrong ones: 1/pi alone would not know."""
    given, cleaned = reviews(
        ("acne", "acne", "confirmed", 40),
        ("acne", "acne", "given", 159),
        ("acne", "acne", "confirmed", 1),
        ("acne", "warts", "corrected", 40),
        ("acne", "acne", "given", 10),
    )
    agrees, contradicts = "possible/agrees/clear", "possible/contradicts/clear"
    design: dict[str, list[Any]] = {
        "inclusion_probability": [80 / 200] * 200 + [40 / 50] * 50,
        "stratum": [agrees] * 200 + [contradicts] * 50,
        # the last confirmed one was asked by another packet, and stands for nobody here
        "asked": [True] * 80 + [False] * 120 + [True] * 40 + [False] * 10,
    }
    cleaned = cleaned.with_columns(**{name: pl.Series(column) for name, column in design.items()})
    found = from_reviews(given, cleaned.sample(fraction=1, shuffle=True, seed=1), CLASSES)
    assert found is not None
    assert found.n == 80
    assert found.rate == pytest.approx(40 * (50 / 40 - 1) / (160 + 10))
    assert found.decided.len() == 81


def test_reviews_are_joined_by_id() -> None:
    given, cleaned = reviews(*MANY)
    found = from_reviews(given.reverse(), cleaned.sample(fraction=1, shuffle=True, seed=1), CLASSES)
    straight = from_reviews(given, cleaned, CLASSES)
    assert found is not None
    assert straight is not None
    assert found.matrix.tolist() == straight.matrix.tolist()


def test_a_given_class_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InputError, match="unknown class"):
        from_reviews(*reviews(("acme", "acne", "corrected", 60)), CLASSES)


def answers(n: int = 600, *, wrong: int = 0) -> Answers:
    """``base`` finds every second acne and all else; ``better`` all; ``blind`` no warts.

    The first ``wrong`` labels are acne where all models see warts.
    """
    true = np.arange(n) % 3
    sure = np.full((n, 3), 0.05)
    sure[np.arange(n), true] = 0.9
    base, blind = sure.copy(), sure.copy()
    base[::6] = [0.1, 0.8, 0.1]
    blind[true == 2] = [0.1, 0.8, 0.1]
    labels = true.copy()
    for probs in (base, sure, blind):
        probs[:wrong] = [0.05, 0.05, 0.95]
    labels[:wrong] = 0
    return Answers(
        classes=CLASSES,
        image_uuid=pl.Series("image_uuid", [f"i{at:04d}" for at in range(n)]),
        patient=np.arange(n) // 3,
        n_patients=n // 3,
        patients_known=True,
        true=labels.astype(np.int64),
        probs={"base": base, "better": sure, "blind": blind},
    )


def measured(found: Answers, config: str, half: float) -> Comparison:
    """A comparison of these answers with all intervals of one width."""

    def recalls(name: str) -> list[float]:
        hit = found.probs[name].argmax(axis=1) == found.true
        return [float(hit[found.true == k].mean()) for k in range(3)]

    before, after = recalls("base"), recalls(config)
    hits = [(found.probs[c].argmax(axis=1) == found.true).mean() for c in (config, "base")]
    balanced = float(np.mean(after) - np.mean(before))
    measures = {
        **{name: difference(float(hits[0] - hits[1]), half) for name in ("top1", "top3")},
        **{name: difference(balanced, half) for name in ("balanced_accuracy", "macro_f1")},
        **{name: difference(-0.05, half) for name in ("brier", "nll")},
    }
    classes = []
    for at, name in enumerate(CLASSES):
        step = after[at] - before[at]
        p = 1e-6 if step else None
        d = difference(step, half)
        n = int((found.true == at).sum())
        classes.append(ClassDifference(name, n, n, n, before[at], after[at], d, "normal", p))
    return Comparison("base", config, measures, tuple(classes))


def flips(
    found: Answers, noise: Noise, half: float = 0.02, draws: int = 60
) -> dict[str, dict[str, object]]:
    compared = {name: measured(found, name, half) for name in ("better", "blind")}
    said = {name: judge(c, Rule()) for name, c in compared.items()}
    rows = noise_flips(found, "base", said, compared, Rule(), noise, draws=draws)
    return {str(row["config"]): row for row in rows}


def symmetric(eta: float, decided: pl.Series = NOBODY) -> Noise:
    matrix = np.full((3, 3), eta / 2) + np.eye(3) * (1 - 1.5 * eta)
    return Noise(CLASSES, matrix, eta, 100, "a test", decided)


def test_without_noise_every_verdict_stands_in_all_draws() -> None:
    found = flips(answers(), symmetric(0.0))
    assert [(r["word"], r["flips"], r["share_other"]) for r in found.values()] == [
        ("KEEP", "stands", 0.0),
        ("REJECT", "stands", 0.0),
    ]
    assert found["better"]["sentence"] == (
        "KEEP stands: with labels redrawn at 0.0 % wrong (a test) 100 % of draws say the same."
    )


def test_labels_that_were_all_decided_cannot_flip_anything() -> None:
    rows = answers()
    found = flips(rows, symmetric(0.6, rows.image_uuid))
    assert [row["share_other"] for row in found.values()] == [0.0, 0.0]


def test_heavy_noise_turns_a_keep_and_a_collapse_survives_light_noise() -> None:
    light, heavy = flips(answers(), symmetric(0.05)), flips(answers(), symmetric(0.66))
    assert light["blind"]["flips"] == "stands"
    assert heavy["better"]["flips"] == "would"
    assert heavy["better"]["would_flip"] is True
    shares = heavy["better"]["shares"]
    assert isinstance(shares, dict)
    assert sum(shares.values()) == pytest.approx(1)
    assert str(heavy["better"]["sentence"]).startswith("KEEP would flip: with labels redrawn at 66")


@pytest.mark.parametrize(
    ("same", "flips"),
    [
        pytest.param(95, "stands", id="exactly_five_per_cent_otherwise"),
        pytest.param(94, "could", id="more_than_that"),
        pytest.param(50, "could", id="exactly_half"),
        pytest.param(49, "would", id="more_than_half"),
    ],
)
def test_a_verdict_could_flip_above_a_twentieth_and_would_above_half(same: int, flips: str) -> None:
    said: dict[Word, int] = {"KEEP": same, "NEUTRAL": 100 - same, "REJECT": 0}
    row = _row("better", "KEEP", said, symmetric(0.1))
    assert (row["flips"], row["would_flip"]) == (flips, flips == "would")


def test_the_same_rows_give_the_same_draws() -> None:
    assert flips(answers(), symmetric(0.3)) == flips(answers(), symmetric(0.3))


def test_differences_move_as_a_loop_over_the_rows_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle measures each redrawn labelling row by row, with no shared code."""
    from dagster_project.lib.scorecard import noise as module

    rows = answers(60, wrong=5)
    redrawn = list(module._redrawn(rows, symmetric(0.4), 3, 1))
    seen: list[Comparison] = []

    def keep(comparison: Comparison, rule: Rule) -> Verdict:
        seen.append(comparison)
        return Verdict("NEUTRAL", "")

    monkeypatch.setattr(module, "judge", keep)
    compared = {"better": measured(rows, "better", 0.02)}
    noise_flips(
        rows,
        "base",
        {"better": Verdict("KEEP", "")},
        compared,
        Rule(),
        symmetric(0.4),
        draws=3,
        seed=1,
    )
    start = compared["better"]
    for true, moved in zip(redrawn, seen, strict=True):
        for measure, own in ORACLES.items():
            now = own(rows, "better", true) - own(rows, "base", true)
            was = own(rows, "better", rows.true) - own(rows, "base", rows.true)
            step = now - was
            for end in ("estimate", "low", "high"):
                got = getattr(moved.differences[measure], end)
                assert got - getattr(start.differences[measure], end) == pytest.approx(step)
        for k, each in enumerate(moved.per_class):
            want = recall_of(rows, "better", true, k) - recall_of(rows, "base", true, k)
            assert each.difference.estimate == pytest.approx(want)


def recall_of(found: Answers, config: str, true: np.ndarray, k: int) -> float:
    rows = [i for i in range(len(found)) if true[i] == k]
    return sum(int(found.probs[config][i].argmax()) == k for i in rows) / len(rows)


def top1(found: Answers, config: str, true: np.ndarray) -> float:
    hits = sum(int(found.probs[config][i].argmax()) == int(true[i]) for i in range(len(found)))
    return hits / len(found)


def balanced(found: Answers, config: str, true: np.ndarray) -> float:
    return sum(recall_of(found, config, true, k) for k in range(3)) / 3


def brier(found: Answers, config: str, true: np.ndarray) -> float:
    total = 0.0
    for i, probs in enumerate(found.probs[config]):
        total += sum((p - (k == true[i])) ** 2 for k, p in enumerate(probs))
    return total / len(found)


def nll(found: Answers, config: str, true: np.ndarray) -> float:
    total = 0.0
    for i, probs in enumerate(found.probs[config]):
        total -= sum(np.log(p if k == true[i] else 1 - p) for k, p in enumerate(probs))
    return total / len(found)


ORACLES: dict[str, Callable[[Answers, str, np.ndarray], float]] = {
    "top1": top1,
    "balanced_accuracy": balanced,
    "brier": brier,
    "nll": nll,
}


def test_redrawn_labels_follow_the_matrix_and_leave_decided_rows_alone() -> None:
    from dagster_project.lib.scorecard.noise import _redrawn

    rows = answers(3000)
    matrix = np.array([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.2, 0.2, 0.6]])
    decided = rows.image_uuid.head(300)
    noise = Noise(CLASSES, matrix, 0.2, 1, "a test", decided)
    counts = np.zeros((3, 3))
    for true in _redrawn(rows, noise, 20, 5):
        assert (true[:300] == rows.true[:300]).all()
        np.add.at(counts, (rows.true[300:], true[300:]), 1)
    # 18,000 draws a class: three standard errors are 0.011
    assert counts / counts.sum(axis=1, keepdims=True) == pytest.approx(matrix, abs=0.011)
    assert (counts == 0).tolist() == (matrix == 0).tolist()


def test_a_tied_answer_is_nobodys_even_after_a_redraw() -> None:
    from dagster_project.lib.scorecard.noise import _Tally

    rows = answers(3)
    tied = Answers(**{**rows.__dict__, "probs": {"base": np.full((3, 3), 0.5)}})
    assert _Tally(tied, "base").measure(np.array([0, 1, 2]))["top1"] == 0


def test_the_joint_finds_what_a_sure_model_contradicts_and_leaves_out_what_was_decided() -> None:
    rows = answers(wrong=30)
    found = from_joint(rows, "better")
    assert found.rate == pytest.approx(30 / 600, abs=0.005)
    assert found.matrix[0, 2] == pytest.approx(30 / int((rows.true == 0).sum()), abs=0.02)
    assert found.matrix.sum(axis=1) == pytest.approx(1)
    assert (found.n, found.source) == (600, "the confident joint of better")
    cured = from_joint(rows, "better", decided=rows.image_uuid.head(30))
    assert (cured.n, cured.rate, cured.decided.len()) == (570, 0.0, 30)


def test_a_joint_of_nothing_is_no_noise() -> None:
    rows = answers(6)
    found = from_joint(rows, "base", decided=rows.image_uuid)
    assert (found.n, found.rate, found.matrix.tolist()) == (0, 0.0, np.eye(3).tolist())


def test_noise_of_other_classes_is_refused() -> None:
    other = Noise(("acne", "eczema"), np.eye(2), 0.0, 1, "a test", NOBODY)
    with pytest.raises(InputError, match="other classes"):
        noise_flips(answers(6), "base", {}, {}, Rule(), other)
