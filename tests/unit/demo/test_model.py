import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch

from dagster_project.lib import dataset
from dagster_project.lib.demo import tower
from dagster_project.lib.demo.classes import CLASSES
from dagster_project.lib.demo.world import World
from dagster_project.lib.inference import checkpoint, preprocess, questionnaire, views
from dagster_project.lib.inference.checkpoint import LoadedModel
from dagster_project.lib.model_store import artifact


@pytest.fixture(scope="module")
def model(world: World) -> LoadedModel:
    return checkpoint.load_model(world.model_bucket)


@pytest.fixture(scope="module")
def scored(world: World, model: LoadedModel, truth: pl.DataFrame) -> pl.DataFrame:
    """Test rows with their truth and the deployed view's probabilities."""
    index = dataset.split_rows(dataset.dataset_index(world.dataset_dir), "test")
    rows = index.join(truth, on="image_uuid", how="left", maintain_order="left")
    rows = rows.filter(~pl.col("is_unreadable"))
    return rows.with_columns(probs=pl.Series(deployed_view(world, model, rows)))


def deployed_view(world: World, model: LoadedModel, rows: pl.DataFrame) -> npt.NDArray[np.float32]:
    hidden = questionnaire.production_null_fields(model.schema)
    production = questionnaire.encode(model.schema, rows, null_fields=hidden)
    pixels = [
        preprocess.to_tensor(preprocess.decode(world.dataset_dir / p), model.preprocess)
        for p in rows["image_path"]
    ]
    answers = torch.from_numpy(production)
    with torch.inference_mode():
        found = views.compute_views(model.module, torch.stack(pixels), answers, answers, tta=True)
    probs: npt.NDArray[np.float32] = found["probs"].numpy()
    return probs


def accuracy(scored: pl.DataFrame, column: str) -> float:
    known = scored.filter(pl.col(column).is_not_null())
    guess = [CLASSES[int(i)] for i in known["probs"].to_numpy().argmax(axis=1)]
    return float(np.mean([g == k for g, k in zip(guess, known[column], strict=True)]))


def test_the_artifact_is_complete_and_passes_its_own_golden_cases(
    world: World, model: LoadedModel
) -> None:
    assert model.classes == CLASSES
    assert len(model.schema.fields) == 19
    assert (world.model_bucket / artifact.GOLDEN).is_file()
    assert (world.model_bucket / artifact.MANIFEST).is_file()


def test_the_model_is_far_better_than_guessing_the_commonest_class(scored: pl.DataFrame) -> None:
    counts = scored["given_label"].value_counts()["count"].to_list()
    commonest = max(counts) / scored.height
    assert accuracy(scored, "given_label") > 2 * commonest > 0


def test_the_model_agrees_more_with_the_truth_than_with_the_noisy_labels(
    scored: pl.DataFrame,
) -> None:
    assert accuracy(scored, "true_label") > accuracy(scored, "given_label")


def test_probabilities_are_spread_and_more_sure_where_right(scored: pl.DataFrame) -> None:
    top = scored["probs"].to_numpy().max(axis=1)
    assert np.quantile(top, 0.1) < 0.4
    assert np.quantile(top, 0.9) > 0.6
    ordered = scored.with_columns(top=pl.Series(top)).sort("top")
    half = scored.height // 2
    lower, upper = ordered[:half], ordered[half:]
    assert accuracy(upper, "true_label") > accuracy(lower, "true_label") + 0.1


def test_the_vision_tower_is_frozen_and_the_same_in_every_world(model: LoadedModel) -> None:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    fresh = SiglipVisionModel(SiglipVisionConfig(**tower.VISION))
    tower.set_rules(fresh)
    tower.load_pretrained(fresh, tower.read_pretrained())
    own = model.module.vision.state_dict()
    for key, value in fresh.state_dict().items():
        assert torch.equal(value, own[key]), key
