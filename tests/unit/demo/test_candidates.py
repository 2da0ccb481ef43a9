import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional

from dagster_project.lib import files
from dagster_project.lib.demo import model, tower
from dagster_project.lib.demo.candidates import CANDIDATES, DEPLOYED, Recipe, write_checkpoints
from dagster_project.lib.demo.classes import CLASSES, frequencies
from dagster_project.lib.demo.world import World
from dagster_project.lib.inference import architectures, checkpoint
from dagster_project.lib.scorecard.answers import Answers
from dagster_project.lib.scorecard.checkpoints import read_checkpoints
from dagster_project.lib.scorecard.paired import compare
from dagster_project.lib.scorecard.rule import Rule
from dagster_project.lib.scorecard.verdict import judge

FOCAL, CLASS_BALANCED, SMOOTHED = CANDIDATES
LOGITS = torch.tensor([[2.0, -1.0, 0.5], [-3.0, 0.0, 4.0]])
TARGET = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def long_tail(n: int, seed: int) -> model._Training:
    """Drawn features in place of encoded pictures: each class has its channel, and much noise."""
    rng = np.random.default_rng(seed)
    target = rng.choice(len(CLASSES), n, p=frequencies())
    pooled = rng.normal(0, 0.35, (n, tower.WIDTH)).astype(np.float32)
    pooled[np.arange(n), target] += 1
    pooled[:, : tower.CONCEPTS] = 3 * pooled[:, : tower.CONCEPTS] - 3
    answers = torch.zeros(n, 1)
    return model._Training(
        torch.from_numpy(pooled),
        answers,
        answers,
        torch.from_numpy(target),
        torch.arange(n) % 6 == 0,
    )


@pytest.fixture(scope="module")
def answers() -> Answers:
    """What heads fitted by each recipe say of rows that were not fitted, three rows a patient."""
    fitted, fresh = long_tail(2000, seed=1), long_tail(1701, seed=2)
    module = architectures.build(model.CONFIG, 1, len(CLASSES)).eval().requires_grad_(False)
    probs = {}
    with torch.random.fork_rng(devices=[]), model._one_thread():
        for recipe in (DEPLOYED, CLASS_BALANCED, SMOOTHED):
            torch.manual_seed(3)
            model._fit_head(module, fitted, recipe)
            with torch.no_grad():
                logits = module.head_logits(fresh.pooled, fresh.production)
            probs[recipe.name] = logits.sigmoid().numpy()
    return Answers(
        classes=CLASSES,
        image_uuid=pl.Series([f"i{row:04d}" for row in range(1701)]),
        patient=np.arange(1701) // 3,
        n_patients=567,
        patients_known=True,
        true=fresh.target.numpy(),
        probs=probs,
    )


def test_every_candidate_is_a_whole_artifact_on_the_deployed_tower(world: World) -> None:
    deployed = checkpoint.load_model(world.model_bucket)
    heads = [deployed.module.head.weight]
    for recipe in CANDIDATES:
        found = checkpoint.load_model(world.candidates / recipe.name)
        assert found.classes == CLASSES
        for key, value in deployed.module.vision.state_dict().items():
            assert torch.equal(value, found.module.vision.state_dict()[key]), key
        assert not any(torch.equal(found.module.head.weight, other) for other in heads)
        heads.append(found.module.head.weight)
    assert sorted(p.name for p in world.candidates.iterdir()) == sorted(r.name for r in CANDIDATES)


def test_the_deployed_model_does_not_depend_on_which_others_are_fitted_before_it(
    world: World, tmp_path: Path
) -> None:
    folders = {SMOOTHED: tmp_path / "other", DEPLOYED: tmp_path / "deployed"}
    for folder in folders.values():
        folder.mkdir()
    model.fit_models(world.dataset_dir, folders, seed=world.seed)
    ours = files.sha256_file(tmp_path / "deployed" / "manifest.json")
    assert ours == files.sha256_file(world.model_bucket / "manifest.json")


def test_balanced_drawing_gains_on_average_and_is_rejected_for_a_common_class(
    answers: Answers,
) -> None:
    found = compare(answers, DEPLOYED.name)["class_balanced"]
    assert (found.differences["balanced_accuracy"].low or 0) > 0
    verdict = judge(found, Rule())
    assert verdict.word == "REJECT"
    assert "eczema_uns" in verdict.fallen


def test_a_candidate_is_judged_by_its_answers_and_not_by_its_name(answers: Answers) -> None:
    swapped = {
        "deployed": answers.probs["deployed"],
        "class_balanced": answers.probs["smoothed"],
        "smoothed": answers.probs["class_balanced"],
    }
    found = compare(replace(answers, probs=swapped), DEPLOYED.name)
    words = {name: judge(comparison, Rule()).word for name, comparison in found.items()}
    assert words == {"class_balanced": "NEUTRAL", "smoothed": "REJECT"}


def test_without_a_lever_the_loss_is_plain_binary_cross_entropy() -> None:
    plain = functional.binary_cross_entropy_with_logits(LOGITS, TARGET)
    assert torch.equal(model._loss(LOGITS, TARGET, DEPLOYED), plain)
    ones = torch.ones(2, 1)
    assert torch.equal(model._loss(LOGITS, TARGET, DEPLOYED, ones), plain)


def test_focal_loss_is_the_formula_of_its_paper() -> None:
    p = LOGITS.double().sigmoid()
    p_true = torch.where(TARGET == 1, p, 1 - p)
    expected = (-((1 - p_true) ** 2) * p_true.log()).mean()
    assert model._loss(LOGITS.double(), TARGET.double(), FOCAL).item() == pytest.approx(
        expected.item(), rel=1e-9
    )


def test_smoothing_spreads_its_share_over_all_classes() -> None:
    target = functional.one_hot(torch.tensor([0]), len(CLASSES)).double()
    logits = torch.zeros(1, len(CLASSES), dtype=torch.float64)
    logits[0, 0] = 1.5
    logits[0, 1:] = -2.0
    p = logits.sigmoid()
    wanted = torch.full_like(p, 0.1 / len(CLASSES))
    wanted[0, 0] += 0.9
    expected = -(wanted * p.log() + (1 - wanted) * (1 - p).log()).mean()
    assert model._loss(logits, target, SMOOTHED).item() == pytest.approx(expected.item(), rel=1e-9)


def test_a_weight_of_rows_counts_in_every_loss() -> None:
    weight = torch.tensor([[1.0], [0.0]])
    for recipe in (DEPLOYED, FOCAL):
        first = model._loss(LOGITS[:1], TARGET[:1], recipe)
        both = model._loss(LOGITS, TARGET, recipe, weight)
        assert both.item() == pytest.approx(first.item() / 2, rel=1e-6)


def training(counts: list[int], held_out: int) -> model._Training:
    target = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    last = torch.arange(len(target)) >= len(target) - held_out
    none = torch.zeros(len(target), 0)
    return model._Training(none, none, none, target, last)


@pytest.mark.parametrize(
    ("recipe", "low", "high"),
    [
        pytest.param(CLASS_BALANCED, 0.45, 0.55, id="balanced"),
        pytest.param(DEPLOYED, 0, 0.1, id="as is"),
    ],
)
def test_an_epoch_has_each_class_as_often_as_the_recipe_wants(
    recipe: Recipe, low: float, high: float
) -> None:
    rows = training([3800, 200], held_out=0)
    fitted = torch.arange(4000)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        epoch = model._epoch(fitted, model._row_weights(rows, recipe), recipe)
    assert len(epoch) == 4000
    assert low < float((rows.target[epoch] == 1).float().mean()) < high
    assert (len(set(epoch.tolist())) == 4000) == (recipe is DEPLOYED)


def test_rows_are_weighed_by_the_counts_of_fitted_patients_only() -> None:
    rows = training([8, 4, 1], held_out=3)  # held out: two of the second class and the third one
    weight = model._row_weights(rows, CLASS_BALANCED)
    assert weight.tolist() == [1 / 8] * 8 + [1 / 2] * 4 + [1.0]


def test_the_checkpoints_file_lists_every_candidate_under_the_rule_in_words(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "candidates").symlink_to(world.candidates)
    path = tmp_path / "checkpoints.toml"
    write_checkpoints(path, seed=7)
    found = read_checkpoints(path)
    assert found.rule == Rule()
    assert Rule(**tomllib.loads(path.read_text())["rule"]) == Rule()
    assert [(e.name, e.changed, e.seed) for e in found.entries] == [
        (recipe.name, recipe.changed, 7) for recipe in CANDIDATES
    ]
    assert all((Path(e.model) / "best_model.pt").is_file() for e in found.entries)
