"""Embeddings: a second file of the dump, as correct as the first, and never in its way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from dagster_project.lib import tables
from dagster_project.lib.embedding_table import (
    TOO_LARGE,
    dumped_embeddings,
    embeddings_beside,
    read_embeddings,
)
from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import checkpoint, dump, preprocess
from dagster_project.lib.inference.architectures import SiglipMetadata

UNREADABLE = 3
Planner = Callable[..., dump.DumpPlan]


def test_the_embedding_is_the_encoders_output_of_the_unflipped_image(
    planner: Planner, dataset: tuple[Path, pl.DataFrame], artifact: Path, tmp_path: Path
) -> None:
    out = tmp_path / "d.parquet"
    done = dump.dump_to(planner(embeddings=True), out, tmp_path / "segments")
    assert done.without_embedding == 1
    read = read_embeddings([embeddings_beside(out)])
    folder, rows = dataset
    readable = rows.filter(pl.int_range(pl.len()) != UNREADABLE)
    assert read.image_uuids.to_list() == readable["image_uuid"].to_list()
    assert read.missing == 1
    model = checkpoint.load_model(artifact)
    for i, path in enumerate(readable["image_path"]):
        image = preprocess.decode(folder / path)
        pixels = preprocess.to_tensor(image, model.preprocess)[None]
        with torch.inference_mode():
            pooled = model.module.encode_image(pixels)[0].numpy()
        np.testing.assert_allclose(read.values[i], pooled, rtol=1e-3, atol=1e-5)
    table = tables.read_arrow(embeddings_beside(out))
    assert table.column("error").to_pylist()[UNREADABLE] == "not a picture in a known format"
    assert str(table.schema.field("embedding").type.value_type) == "halffloat"


def test_the_probabilities_are_those_of_a_dump_without_and_hold_no_embedding(
    planner: Planner, tmp_path: Path
) -> None:
    for name, wanted in (("with", True), ("without", False)):
        dump.dump_to(planner(embeddings=wanted), tmp_path / f"{name}.parquet", tmp_path / name)
    found = [tables.read_arrow(tmp_path / f"{n}.parquet") for n in ("with", "without")]
    assert found[0].equals(found[1])
    assert not embeddings_beside(tmp_path / "without.parquet").exists()


def test_a_dump_without_embeddings_is_no_equal_of_one_with(
    planner: Planner, encoder_passes: list[int], tmp_path: Path
) -> None:
    out, pieces = tmp_path / "d.parquet", tmp_path / "segments"
    dump.dump_to(planner(), out, pieces)
    assert dumped_embeddings([out]) == []
    assert not dump.dump_to(planner(embeddings=True), out, pieces).reused
    assert dumped_embeddings([out]) == [embeddings_beside(out)]
    encoder_passes.clear()
    again = dump.dump_to(planner(embeddings=True), out, pieces)
    assert (again.reused, again.without_embedding, encoder_passes) == (True, 1, [])
    assert not dump.dump_to(planner(), out, pieces).reused
    assert not embeddings_beside(out).exists()


def test_identity_changes_with_the_option_and_stays_what_it_was_without(planner: Planner) -> None:
    without, with_them = planner(), planner(embeddings=True)
    assert without.identity != with_them.identity
    parts = dict(with_them.identity_parts)
    assert parts.pop("embeddings") == "float16"
    assert parts == without.identity_parts


@pytest.mark.parametrize("damage", ["removed", "torn", "of another dump"])
def test_embeddings_that_are_lost_are_made_again_with_the_same_bytes(
    planner: Planner, damage: str, tmp_path: Path
) -> None:
    out, pieces = tmp_path / "d.parquet", tmp_path / "segments"
    dump.dump_to(planner(embeddings=True), out, pieces)
    beside = embeddings_beside(out)
    whole = (out.read_bytes(), beside.read_bytes())
    if damage == "removed":
        beside.unlink()
    elif damage == "torn":
        beside.write_bytes(whole[1][:4] + bytes(200) + whole[1][204:])
    else:
        other = tables.with_metadata(tables.read_arrow(beside), {"identity": "0" * 16})
        tables.write_arrow(beside, other)
        assert dumped_embeddings([out]) == []
    assert not dump.dump_to(planner(embeddings=True), out, pieces).reused
    assert (out.read_bytes(), beside.read_bytes()) == whole


def test_a_killed_dump_continues_with_the_same_bytes_of_both_files(
    planner: Planner, encoder_passes: list[int], tmp_path: Path
) -> None:
    plan = planner(embeddings=True)
    dump.dump_to(plan, tmp_path / "whole.parquet", tmp_path / "other")

    def killed_in_the_second_segment(done: int, total: int, note: str = "") -> None:
        if done > 5:
            raise KeyboardInterrupt

    out, pieces = tmp_path / "d.parquet", tmp_path / "segments"
    with pytest.raises(KeyboardInterrupt):
        dump.dump_to(plan, out, pieces, on_progress=killed_in_the_second_segment)
    assert not embeddings_beside(out).exists()
    encoder_passes.clear()
    dump.dump_to(plan, out, pieces)
    assert sum(encoder_passes) == 2 * 9 + 3
    for made in (out, embeddings_beside(out)):
        name = made.name.replace("d.", "whole.")
        assert made.read_bytes() == (tmp_path / name).read_bytes()


def test_a_kill_between_the_two_files_leaves_no_dump_that_says_it_has_them(
    planner: Planner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out, pieces = tmp_path / "d.parquet", tmp_path / "segments"
    dump.dump_to(planner(), out, pieces)
    write = tables.write_arrow_parts

    def killed(path: Path, *rest: Any) -> None:
        if path == out:
            raise KeyboardInterrupt
        write(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(tables, "write_arrow_parts", killed)
        with pytest.raises(KeyboardInterrupt):
            dump.dump_to(planner(embeddings=True), out, pieces)
    assert dump.published_identity(out) == planner().identity
    assert dumped_embeddings([out]) == []
    assert not dump.dump_to(planner(embeddings=True), out, pieces).reused
    assert dumped_embeddings([out]) == [embeddings_beside(out)]


def test_a_value_too_large_for_half_precision_is_no_embedding_and_says_so(
    planner: Planner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = SiglipMetadata.encode_image

    def loud(self: SiglipMetadata, pixel_values: torch.Tensor) -> torch.Tensor:
        pooled = plain(self, pixel_values).clone()
        pooled[0, 0] = 70_000
        return pooled

    out = tmp_path / "d.parquet"
    plan = planner(embeddings=True, batch_size=20, segment_rows=20)
    with monkeypatch.context() as patch:
        # the golden cases are of the honest encoder
        load = checkpoint.load_model

        def loaded(*given: Any, **options: Any) -> Any:
            model = load(*given, **options)
            patch.setattr(SiglipMetadata, "encode_image", loud)
            return model

        patch.setattr(checkpoint, "load_model", loaded)
        done = dump.dump_to(plan, out, tmp_path / "segments")
    assert (done.failed, done.without_embedding) == (1, 2)
    table = tables.read_arrow(embeddings_beside(out))
    assert table.column("error").to_pylist()[0] == TOO_LARGE
    assert table.column("embedding").to_pylist()[0] is None
    assert read_embeddings([embeddings_beside(out)]).image_uuids[0] == "u01"


def test_an_encoder_that_sees_the_questionnaire_has_no_embedding_and_says_so(
    planner: Planner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    joint = SimpleNamespace(module=SimpleNamespace(encoder_sees_questionnaire=True))
    monkeypatch.setattr(checkpoint, "load_model", lambda *_, **__: joint)
    with pytest.raises(InputError, match="architecture siglip_metadata encodes image and quest"):
        dump.dump_to(planner(embeddings=True), tmp_path / "d.parquet", tmp_path / "segments")
    assert not (tmp_path / "d.parquet").exists()


def written(path: Path, rows: dict[str, Any], **metadata: str) -> Path:
    tables.write_arrow(path, tables.with_metadata(pl.DataFrame(rows).to_arrow(), metadata))
    return path


def test_shards_are_read_as_one_and_rows_without_direction_are_left_out(tmp_path: Path) -> None:
    a = written(tmp_path / "a.parquet", {"image_uuid": ["x", "y"], "embedding": [[1.0, 2], None]})
    b = written(tmp_path / "b.parquet", {"image_uuid": ["z", "w"], "embedding": [[0.0, 0], [3, 4]]})
    empty = {"image_uuid": ["v"], "embedding": pl.Series([None], dtype=pl.List(pl.Float32))}
    read = read_embeddings([a, b, written(tmp_path / "c.parquet", empty)])
    assert read.image_uuids.to_list() == ["x", "w"]
    assert read.values.tolist() == [[1, 2], [3, 4]]
    assert read.missing == 3


@pytest.mark.parametrize(
    ("rows", "metadata", "message"),
    [
        pytest.param({"image_uuid": ["y"]}, {}, "missing column 'embedding'", id="no column"),
        pytest.param(
            {"image_uuid": ["y"], "embedding": [1.0]}, {}, "expected lists, got double", id="number"
        ),
        pytest.param(
            {"image_uuid": ["y", "z"], "embedding": [[1.0], [1.0, 2]]},
            {},
            "row 1, column embedding: 1 numbers where others have 2",
            id="ragged",
        ),
        pytest.param(
            {"image_uuid": ["y"], "embedding": [[1.0, 2, 3]]}, {}, "'2', '3' numbers", id="width"
        ),
        pytest.param(
            {"image_uuid": ["x"], "embedding": [[1.0, 2]]}, {}, "'x' on more than one", id="twice"
        ),
        pytest.param(
            {"image_uuid": ["y"], "embedding": [[1.0, 2]]},
            {"model_tree_hash": "b"},
            "model_tree_hash differs",
            id="model",
        ),
    ],
)
def test_files_that_cannot_be_compared_are_refused(
    rows: dict[str, Any], metadata: dict[str, str], message: str, tmp_path: Path
) -> None:
    a = written(tmp_path / "a.parquet", {"image_uuid": ["x"], "embedding": [[1.0, 2]]})
    with pytest.raises(InputError, match=message):
        read_embeddings([a, written(tmp_path / "b.parquet", rows, **metadata)])


def test_files_without_any_embedding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no embedding files"):
        read_embeddings([])
    empty = {"image_uuid": ["v"], "embedding": pl.Series([None], dtype=pl.List(pl.Float32))}
    with pytest.raises(InputError, match="has no embedding"):
        read_embeddings([written(tmp_path / "c.parquet", empty)])
    zeros = written(tmp_path / "z.parquet", {"image_uuid": ["v"], "embedding": [[0.0, 0.0]]})
    with pytest.raises(InputError, match="no row has an embedding"):
        read_embeddings([zeros])
