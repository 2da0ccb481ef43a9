from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from dagster_project.lib import dataset as ds
from dagster_project.lib import model_store, tables
from dagster_project.lib.embedding_table import embeddings_beside
from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import (
    checkpoint,
    dump,
    gpu_lease,
    preprocess,
    questionnaire,
    segments,
)
from dagster_project.lib.inference.architectures import SiglipMetadata
from dagster_project.lib.inference.pictures import confidence_png
from dagster_project.lib.inference.plan import CODE_VERSION, shapings
from dagster_project.lib.probability_table import VIEWS, read_probabilities

UNREADABLE = 3
Planner = Callable[..., dump.DumpPlan]


def dumped(plan: dump.DumpPlan, folder: Path) -> pa.Table:
    """The table of a plan, run with the segments of ``folder``, which stay."""
    dump.run_dump(plan, folder, folder / "run.parquet")
    return tables.read_arrow(folder / "run.parquet")


def test_a_dump_agrees_with_one_image_at_a_time_by_hand(
    planner: Planner, dataset: tuple[Path, pl.DataFrame], artifact: Path, tmp_path: Path
) -> None:
    folder, rows = dataset
    dump.dump_to(planner(), tmp_path / "d.parquet", tmp_path / "segments")
    read = read_probabilities([tmp_path / "d.parquet"])
    assert read.frame["image_uuid"].to_list() == rows["image_uuid"].to_list()
    assert read.frame["patient_id"].to_list() == rows["patient_id"].to_list()
    assert read.classes == ("acne", "eczema", "scabies", "tinea", "vitiligo")

    from dagster_project.lib.inference.checkpoint import load_model

    model = load_model(artifact)
    for i in range(rows.height):
        if i == UNREADABLE:
            continue
        image = preprocess.decode(folder / rows["image_path"][i])
        pixels = preprocess.to_tensor(image, model.preprocess)[None]
        hidden = rows.with_columns(location_side=None, widespread_face=None)
        for frame, plain, tta in (
            (hidden, "probs_production_plain", "probs"),
            (rows, "probs_full_plain", "probs_full_tta"),
        ):
            features = torch.from_numpy(questionnaire.encode(model.schema, frame)[i : i + 1])
            with torch.inference_mode():
                upright = torch.sigmoid(model.module(pixels, features))[0].numpy()
                flipped = torch.sigmoid(model.module(pixels.flip(3), features))[0].numpy()
            np.testing.assert_allclose(read.views[plain][i], upright, atol=1e-6)
            np.testing.assert_allclose(read.views[tta][i], (upright + flipped) / 2, atol=1e-6)


def test_an_unreadable_image_is_a_row_with_its_error_and_the_rest_goes_on(
    planner: Planner, dataset: tuple[Path, pl.DataFrame], tmp_path: Path
) -> None:
    (dataset[0] / "images/07.png").unlink()
    table = dumped(planner(), tmp_path)
    errors = table.column("error").to_pylist()
    assert {i: e for i, e in enumerate(errors) if e} == {
        UNREADABLE: "not a picture in a known format",
        7: "no such file",
    }
    for view in VIEWS:
        values = table.column(view).to_pylist()
        assert [v is None for v in values] == [e is not None for e in errors]
        assert all(0 < p < 1 for v in values if v for p in v)


def test_a_dump_has_no_labels_even_if_the_rows_carry_them(planner: Planner, tmp_path: Path) -> None:
    out = tmp_path / "d.parquet"
    dump.dump_to(planner(), out, tmp_path / "segments")
    table = tables.read_arrow(out)
    assert table.column_names == ["image_uuid", "patient_id", *VIEWS, "error"]
    assert "label" not in " ".join(tables.metadata_of(table)).lower()


def test_metadata_says_of_what_and_how(planner: Planner, tmp_path: Path) -> None:
    plan = planner(n_shards=4, shard=2)
    metadata = tables.metadata_of(dumped(plan, tmp_path))
    assert json.loads(metadata.pop("classes")) == list(plan.spec.classes)
    assert json.loads(metadata.pop("null_fields")) == ["widespread_face", "location_side"]
    assert json.loads(metadata.pop("views")) == list(VIEWS)
    assert metadata == {
        "model_tree_hash": plan.tree_hash,
        "identity": plan.identity,
        "shard": "2",
        "n_shards": "4",
        "split": "test",
        "tta": "true",
        "dtype": "float32",
        "device": "cpu",
        "preprocess_digest": plan.identity_parts["preprocess"],
        "exif_orientation": "apply",
        "code_version": CODE_VERSION,
    }


def test_without_tta_the_deployed_view_is_production_plain_at_half_the_passes(
    planner: Planner, encoder_passes: list[int], tmp_path: Path
) -> None:
    both = dumped(planner(), tmp_path)
    with_tta = sum(encoder_passes)
    encoder_passes.clear()
    plain = dumped(planner(tta=False), tmp_path)
    golden = 3  # cases that loading a model checks
    assert (with_tta - golden, sum(encoder_passes) - golden) == (26, 13)
    assert tables.metadata_of(plain)["tta"] == "false"
    assert "probs_full_tta" not in plain.column_names
    assert plain.column("probs").equals(plain.column("probs_production_plain"))
    assert plain.column("probs").equals(both.column("probs_production_plain"))


def test_the_batch_size_moves_probabilities_by_less_than_a_millionth(
    planner: Planner, tmp_path: Path
) -> None:
    rows = [
        np.array([p for p in dumped(planner(batch_size=b), tmp_path)["probs"].to_pylist() if p])
        for b in (1, 3, 64)
    ]
    assert np.abs(rows[0] - rows[1]).max() < 1e-6
    assert np.abs(rows[0] - rows[2]).max() < 1e-6


def test_the_same_plan_gives_the_same_bytes(planner: Planner, tmp_path: Path) -> None:
    for name in ("a", "b"):
        dump.dump_to(planner(), tmp_path / f"{name}.parquet", tmp_path / name)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_killed_dump_continues_with_the_same_bytes_and_only_the_rest_is_computed(
    planner: Planner,
    encoder_passes: list[int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    plan = planner()
    dump.dump_to(plan, tmp_path / "whole.parquet", tmp_path / "other")
    encoder_passes.clear()

    def killed_in_the_second_segment(done: int, total: int, note: str = "") -> None:
        if done > 5:
            raise KeyboardInterrupt

    out, pieces = tmp_path / "d.parquet", tmp_path / "segments"
    with pytest.raises(KeyboardInterrupt):
        dump.dump_to(plan, out, pieces, on_progress=killed_in_the_second_segment)
    assert not out.exists()
    encoder_passes.clear()
    seen: list[tuple[int, int]] = []

    def see(done: int, total: int, note: str = "") -> None:
        seen.append((done, total))

    dump.dump_to(plan, out, pieces, on_progress=see)
    # rows 0-4 are done (row 3 is unreadable); 9 rows remain, each encoded twice; 3 golden cases
    assert sum(encoder_passes) == 2 * 9 + 3
    assert seen[0] == (5, 14)
    assert seen[-1] == (14, 14)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not any(pieces.iterdir())


def test_a_torn_segment_and_one_of_another_layout_are_computed_again(
    planner: Planner, encoder_passes: list[int], tmp_path: Path
) -> None:
    plan = planner()
    whole = dumped(plan, tmp_path)
    torn = tmp_path / plan.identity / "000001.parquet"
    torn.write_bytes(torn.read_bytes()[:-9])
    encoder_passes.clear()
    assert dumped(plan, tmp_path).equals(whole)
    assert sum(encoder_passes) == 2 * 5 + 3
    encoder_passes.clear()
    dumped(planner(batch_size=2), tmp_path)
    assert sum(encoder_passes) == 2 * 13 + 3


def test_an_equal_dump_is_found_and_nothing_is_computed(
    planner: Planner, encoder_passes: list[int], tmp_path: Path
) -> None:
    out = tmp_path / "d.parquet"
    assert dump.published_identity(out) is None
    first = dump.dump_to(planner(), out, tmp_path / "segments")
    assert (first.reused, first.rows, first.failed) == (False, 14, 1)
    written = out.stat()
    assert dump.published_identity(out) == planner().identity
    encoder_passes.clear()
    second = dump.dump_to(planner(), out, tmp_path / "segments")
    assert (second.reused, second.rows, second.failed) == (True, 14, 1)
    assert encoder_passes == []
    assert out.stat() == written
    assert not dump.dump_to(planner(tta=False), out, tmp_path / "segments").reused


@pytest.mark.parametrize("embeddings", [False, True], ids=["alone", "with_embeddings"])
def test_an_equal_dump_elsewhere_is_copied_and_no_engine_is_built(
    planner: Planner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, embeddings: bool
) -> None:
    one, two = tmp_path / "one/d.parquet", tmp_path / "two/d.parquet"
    plan = planner(embeddings=embeddings)
    dump.dump_to(plan, one, tmp_path / "segments")
    two.parent.mkdir()
    embeddings_beside(two).write_bytes(b"of an older dump")
    monkeypatch.setattr(dump, "_engine", lambda *_: pytest.fail("an engine was built"))
    others = [tmp_path / "absent.parquet", embeddings_beside(two), one]
    found = dump.dump_to(plan, two, tmp_path / "segments", equals=others)
    assert (found.reused, found.copied_from, found.stats) == (True, one, None)
    assert (found.rows, found.failed) == (14, 1)
    assert two.read_bytes() == one.read_bytes()
    assert embeddings_beside(two).exists() == embeddings
    if embeddings:
        assert embeddings_beside(two).read_bytes() == embeddings_beside(one).read_bytes()
    again = dump.dump_to(plan, two, tmp_path / "segments", equals=others)
    assert (again.reused, again.copied_from) == (True, None)


def test_what_is_not_equal_elsewhere_is_not_copied(
    planner: Planner, encoder_passes: list[int], tmp_path: Path
) -> None:
    """Another identity, damaged pages, a folder: the dump is made."""
    other, torn = tmp_path / "other.parquet", tmp_path / "torn.parquet"
    dump.dump_to(planner(tta=False), other, tmp_path / "segments")
    dump.dump_to(planner(), torn, tmp_path / "segments")
    whole = torn.read_bytes()
    torn.write_bytes(whole[:4] + bytes(400) + whole[404:])
    encoder_passes.clear()
    out = tmp_path / "d.parquet"
    made = dump.dump_to(planner(), out, tmp_path / "segments", equals=[other, torn, tmp_path])
    assert (made.reused, made.copied_from, out.read_bytes()) == (False, None, whole)
    assert encoder_passes


def test_an_equal_dump_that_is_replaced_while_it_is_copied_is_not_taken(
    planner: Planner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
    dump.dump_to(planner(), one, tmp_path / "segments")
    dump.dump_to(planner(tta=False), other, tmp_path / "segments")
    whole, copyfile = one.read_bytes(), shutil.copyfile

    def replaced(source: Path, target: Path) -> None:
        copyfile(other, target)

    monkeypatch.setattr(shutil, "copyfile", replaced)
    out = tmp_path / "d.parquet"
    made = dump.dump_to(planner(), out, tmp_path / "segments", equals=[one])
    assert (made.reused, out.read_bytes()) == (False, whole)


def test_a_dump_with_damaged_pages_under_a_sound_footer_is_computed_again(
    planner: Planner, tmp_path: Path
) -> None:
    out = tmp_path / "d.parquet"
    dump.dump_to(planner(), out, tmp_path / "segments")
    whole = out.read_bytes()
    out.write_bytes(whole[:4] + bytes(400) + whole[404:])
    assert dump.published_identity(out) == planner().identity
    assert not dump.dump_to(planner(), out, tmp_path / "segments").reused
    assert out.read_bytes() == whole


def pretend(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Say that rows are computed on ``device``, whatever was asked for."""

    @contextmanager
    def lease(requested: str, dtype: str) -> Iterator[str]:
        yield device

    def load(folder: Path, **options: Any) -> Any:
        return replace(plain(folder), device="cpu")

    plain = checkpoint.load_model
    monkeypatch.setattr(gpu_lease, "lease_device", lease)
    monkeypatch.setattr(checkpoint, "load_model", load)


def test_an_equal_dump_of_another_device_is_kept_unless_a_device_is_asked_for(
    planner: Planner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out, pieces = tmp_path / "d.parquet", tmp_path / "segments"
    dump.dump_to(planner(), out, pieces)
    pretend("cuda", monkeypatch)
    assert dump.dump_to(planner(device="auto"), out, pieces).reused
    assert tables.read_metadata(out)["device"] == "cpu"
    assert not dump.dump_to(planner(device="cuda"), out, pieces).reused
    assert tables.read_metadata(out)["device"] == "cuda"


def test_segments_of_two_devices_never_meet_in_one_dump(
    planner: Planner,
    encoder_passes: list[int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    plan = planner(device="auto")
    dumped(plan, tmp_path)
    encoder_passes.clear()
    dumped(plan, tmp_path)
    assert encoder_passes == []
    pretend("cuda", monkeypatch)
    assert tables.metadata_of(dumped(plan, tmp_path))["device"] == "cuda"
    assert sum(encoder_passes) == 2 * 13 + 3


def test_a_file_that_is_no_dump_has_no_identity(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing PAR1")
    assert dump.published_identity(tmp_path / "x.parquet") is None
    pq.write_table(pl.DataFrame({"a": [1]}).to_arrow(), tmp_path / "y.parquet")
    assert dump.published_identity(tmp_path / "y.parquet") is None


def test_identity_ignores_labels_folders_and_other_shards_rows(
    planner: Planner, dataset: tuple[Path, pl.DataFrame]
) -> None:
    rows = dataset[1]
    shard = ds.shard_rows(rows, 0, 2)
    base = planner(shard, 0, 2).identity
    relabelled = shard.with_columns(label=pl.lit("acne"))
    assert planner(relabelled, 0, 2).identity == base
    assert planner(shard.drop("label"), 0, 2).identity == base
    other = rows.with_columns(
        age=pl.when(pl.int_range(pl.len()) % 2 == 1).then(None).otherwise("age")
    )
    assert not other.equals(rows)
    assert planner(ds.shard_rows(other, 0, 2), 0, 2).identity == base
    moved = dataset[0] / "moved"
    (dataset[0] / "images").rename(moved)
    elsewhere = shard.with_columns(pl.col("image_path").str.replace("images", "moved"))
    assert planner(elsewhere, 0, 2).identity == base


def _one_byte(folder: Path, rows: pl.DataFrame) -> pl.DataFrame:
    path = folder / "images/02.png"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    return rows


def _one_answer(folder: Path, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        age=pl.when(pl.col("image_uuid") == "u02").then(pl.lit("11")).otherwise("age")
    )


def _gone(folder: Path, rows: pl.DataFrame) -> pl.DataFrame:
    (folder / f"images/{UNREADABLE:02d}.png").unlink()
    return rows


@pytest.mark.parametrize(
    ("change", "part"),
    [
        pytest.param(_one_byte, "images", id="one image byte"),
        pytest.param(_gone, "images", id="an unreadable image vanished"),
        pytest.param(lambda _, rows: rows.reverse(), "images", id="order"),
        pytest.param(_one_answer, "questionnaire", id="one answer"),
    ],
)
def test_identity_changes_with_what_changes_the_output(
    planner: Planner,
    dataset: tuple[Path, pl.DataFrame],
    change: Callable[[Path, pl.DataFrame], pl.DataFrame],
    part: str,
) -> None:
    before = planner()
    after = planner(change(*dataset))
    assert after.identity != before.identity
    assert after.identity_parts[part] != before.identity_parts[part]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        pytest.param({"n_shards": 2}, "shard", id="number of shards"),
        pytest.param({"tta": False}, "views", id="views"),
        pytest.param({"dtype": "bfloat16"}, "dtype", id="dtype"),
        pytest.param({"null_fields": ("age",)}, "null_fields", id="null fields"),
    ],
)
def test_identity_changes_with_how_it_is_dumped(
    planner: Planner, options: dict[str, Any], part: str
) -> None:
    before, after = planner(), planner(**options)
    assert after.identity != before.identity
    changed = {k for k, v in after.identity_parts.items() if v != before.identity_parts[k]}
    assert changed == {part}


def test_speed_settings_are_no_part_of_the_identity(planner: Planner) -> None:
    assert planner(batch_size=7, segment_rows=9).identity == planner().identity


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"dtype": "float8"}, "dtype: got 'float8'", id="dtype"),
        pytest.param({"device": "tpu"}, "device: got 'tpu'", id="device"),
        pytest.param({"batch_size": 0}, "batch_size: got 0", id="batch size"),
        pytest.param({"null_fields": ("fever",)}, "'fever' not in the model's schema", id="null"),
        pytest.param({"shard": 2, "n_shards": 2}, "shard: got 2/2", id="shard"),
    ],
)
def test_wrong_options_are_refused_before_the_first_image(
    planner: Planner, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        planner(**options)


def test_a_plan_needs_the_columns_and_allowed_answers(
    planner: Planner, dataset: tuple[Path, pl.DataFrame]
) -> None:
    rows = dataset[1]
    with pytest.raises(InputError, match="lacks: 'cough'"):
        planner(rows.drop("cough"))
    with pytest.raises(InputError, match='image "u00", column age: got "old"'):
        planner(rows.with_columns(age=pl.lit("old")))


def test_a_shard_without_rows_is_an_empty_dump(planner: Planner, tmp_path: Path) -> None:
    rows = pl.DataFrame(
        schema=planner().rows.schema | dict.fromkeys(planner().spec.schema.names, pl.String)
    )
    out = tmp_path / "d.parquet"
    assert dump.dump_to(planner(rows, 9, 10), out, tmp_path / "segments").rows == 0
    assert confidence_png(out, "test shard 09")[:4] == b"\x89PNG"
    assert "probs" in tables.read_arrow(out).column_names


def test_an_image_that_changes_after_the_plan_stops_the_dump(
    planner: Planner, dataset: tuple[Path, pl.DataFrame], tmp_path: Path
) -> None:
    plan = planner()
    _one_byte(*dataset)
    with pytest.raises(InputError, match=r"images/02.png: the image changed"):
        dumped(plan, tmp_path)


def test_a_model_that_changes_after_the_plan_stops_the_dump(
    planner: Planner, artifact: Path, tmp_path: Path
) -> None:
    plan = planner()
    (artifact / "manifest.json").unlink()
    (artifact / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    with pytest.raises(InputError, match="tree hash is"):
        dumped(plan, tmp_path)


def test_an_output_that_is_not_finite_is_a_row_with_an_error(
    planner: Planner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = planner()

    def broken(plan: dump.DumpPlan, first: int, last: int) -> Any:
        production, full = shapings(plan, first, last)
        if first <= 2 < last:
            production[2 - first] = np.nan
        return production, full

    monkeypatch.setattr(dump, "shapings", broken)
    errors = dumped(plan, tmp_path).column("error").to_pylist()
    assert errors[2] == "the network's output is not finite"
    assert sum(e is not None for e in errors) == 2


def test_discarding_leaves_the_segments_of_other_dumps(planner: Planner, tmp_path: Path) -> None:
    one, two = planner(), planner(tta=False)
    dump.run_dump(one, tmp_path / "s", tmp_path / "one.parquet")
    dump.run_dump(two, tmp_path / "s", tmp_path / "two.parquet")
    segments.discard_segments(tmp_path / "s", one.identity)
    assert [p.name for p in (tmp_path / "s").iterdir()] == [two.identity]


class Memory:
    """A device that holds at most ``room`` images at a time."""

    def __init__(self, room: int, error: Exception) -> None:
        self.room, self.error = room, error
        self.sizes: list[int] = []

    def encode(self, plain: Any) -> Any:
        def encode_image(module: Any, pixel_values: torch.Tensor) -> torch.Tensor:
            if len(pixel_values) > self.room:
                raise self.error
            self.sizes.append(len(pixel_values))
            encoded: torch.Tensor = plain(module, pixel_values)
            return encoded

        return encode_image


OUT_OF_MEMORY = [
    pytest.param(torch.OutOfMemoryError("CUDA out of memory"), id="gpu"),
    pytest.param(RuntimeError("CUDA error: out of memory"), id="driver"),
    pytest.param(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), id="cublas"),
    pytest.param(RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), id="cpu"),
    pytest.param(MemoryError(), id="python"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_out_of_memory_halves_the_batch_keeps_it_small_and_says_so(
    planner: Planner,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    error: Exception,
) -> None:
    plan = planner(batch_size=14, segment_rows=14)
    roomy = dumped(plan, tmp_path / "roomy")
    memory = Memory(3, error)
    monkeypatch.setattr(SiglipMetadata, "encode_image", memory.encode(SiglipMetadata.encode_image))
    notes: list[str] = []
    out = tmp_path / "d.parquet"
    done = dump.dump_to(
        plan, out, tmp_path / "s", on_progress=lambda _, __, note="": notes.append(note)
    )
    assert done.stats is not None
    assert done.stats.batch_size == 3  # 13 readable images: 13, then 6, then 3 at a time
    assert "batch 3" in notes[-1]
    assert "out of memory with 13 images at a time; going on with 6" in caplog.text
    cramped = tables.read_arrow(out)
    for view in VIEWS:
        for a, b in zip(cramped[view].to_pylist(), roomy[view].to_pylist(), strict=True):
            assert (a is None) == (b is None)
            assert a is None or np.abs(np.subtract(a, b)).max() < 1e-6


def test_a_continued_dump_does_not_try_the_batch_that_did_not_fit_again(
    planner: Planner,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    plan = planner(batch_size=4, segment_rows=7)
    memory = Memory(2, torch.OutOfMemoryError("CUDA out of memory"))
    monkeypatch.setattr(SiglipMetadata, "encode_image", memory.encode(SiglipMetadata.encode_image))
    whole = dumped(plan, tmp_path / "a")
    caplog.clear()
    dumped(plan, tmp_path / "b")
    (tmp_path / "b" / plan.identity / "000001.parquet").unlink()
    caplog.clear()
    assert dumped(plan, tmp_path / "b").equals(whole)
    assert "out of memory" not in caplog.text


def test_out_of_memory_with_one_image_ends_the_dump_with_its_reason(
    planner: Planner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = planner()
    memory = Memory(0, torch.OutOfMemoryError("CUDA out of memory"))
    model = checkpoint.load_model(plan.model_dir)
    monkeypatch.setattr(checkpoint, "load_model", lambda *_, **__: model)
    monkeypatch.setattr(SiglipMetadata, "encode_image", memory.encode(SiglipMetadata.encode_image))
    with pytest.raises(InputError, match="out of memory on cpu with one image at a time"):
        dumped(plan, tmp_path)


def test_an_error_that_is_not_of_memory_is_not_hidden(
    planner: Planner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = planner()
    memory = Memory(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    model = checkpoint.load_model(plan.model_dir)
    monkeypatch.setattr(checkpoint, "load_model", lambda *_, **__: model)
    monkeypatch.setattr(SiglipMetadata, "encode_image", memory.encode(SiglipMetadata.encode_image))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        dumped(plan, tmp_path)


def test_progress_says_where_the_time_goes_and_on_what(planner: Planner, tmp_path: Path) -> None:
    notes: list[str] = []
    out = tmp_path / "d.parquet"
    done = dump.dump_to(
        planner(), out, tmp_path / "s", on_progress=lambda _, __, note="": notes.append(note)
    )
    pattern = r"decode \d+% transfer \d+% model \d+% write \d+%; .+, float32, batch 3, peak .* GB"
    assert all(re.fullmatch(pattern, note) for note in notes)
    stats = done.stats
    assert stats is not None
    assert stats.rows == 14
    assert stats.encoder_passes == 2
    assert stats.times.model > 0
    assert 0 < sum(stats.shares.values()) <= 1.01
    assert stats.facts()["rows_per_second"] == round(14 / stats.seconds, 1)


def test_planning_tells_how_many_images_are_hashed(
    artifact: Path, dataset: tuple[Path, pl.DataFrame]
) -> None:
    seen: list[tuple[int, int, str]] = []

    def see(done: int, total: int, note: str = "") -> None:
        seen.append((done, total, note))

    dump.plan_dump(
        model_dir=artifact,
        tree_hash="x",
        dataset_dir=dataset[0],
        rows=dataset[1],
        shard=0,
        n_shards=1,
        on_progress=see,
    )
    assert seen[0] == (0, 14, "hashing images")
    assert seen[-1][:2] == (14, 14)


KILLED = """
import os, signal, sys
from pathlib import Path
from dagster_project.lib import dataset, model_store
from dagster_project.lib.inference import dump
import polars as pl
model, data, rows, work, stop = (Path(a) for a in sys.argv[1:])
plan = dump.plan_dump(
    model_dir=model, tree_hash=model_store.read_artifact(model).tree_hash, dataset_dir=data,
    rows=pl.read_parquet(rows), shard=0, n_shards=1,
    options=dump.DumpOptions(segment_rows=5, batch_size=3, device="cpu"))
def die(done, total, note=""):
    if done >= int(str(stop)):
        os.kill(os.getpid(), signal.SIGKILL)
dump.dump_to(plan, work / "d.parquet", work / "segments", on_progress=die)
"""


@pytest.mark.parametrize("stop", [3, 8, 14])
def test_kill_9_loses_at_most_one_segment_and_the_bytes_are_the_same(
    planner: Planner,
    artifact: Path,
    dataset: tuple[Path, pl.DataFrame],
    encoder_passes: list[int],
    tmp_path: Path,
    stop: int,
) -> None:
    folder, rows = dataset
    rows.write_parquet(tmp_path / "rows.parquet")
    arguments = [artifact, folder, tmp_path / "rows.parquet", tmp_path, stop]
    command = [sys.executable, "-c", KILLED, *map(str, arguments)]
    killed = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "d.parquet").exists()
    plan = planner()
    kept = len(list((tmp_path / "segments").rglob("[0-9]*.parquet")))
    assert stop - 5 * kept <= 5  # rows that are lost
    dump.dump_to(plan, tmp_path / "d.parquet", tmp_path / "segments")
    readable = sum(i != UNREADABLE for i in range(5 * kept, 14))
    assert sum(encoder_passes) == 2 * readable + 3
    dump.dump_to(plan, tmp_path / "whole.parquet", tmp_path / "other")
    assert (tmp_path / "d.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_tf32_on_a_cpu_is_refused(planner: Planner, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tf32 is arithmetic of NVIDIA GPUs"):
        dumped(planner(dtype="tf32"), tmp_path)


def test_bfloat16_is_near_float32_and_recorded(planner: Planner, tmp_path: Path) -> None:
    exact = dumped(planner(), tmp_path / "a")
    half = dumped(planner(dtype="bfloat16"), tmp_path / "b")
    assert tables.metadata_of(half)["dtype"] == "bfloat16"
    pairs = zip(exact["probs"].to_pylist(), half["probs"].to_pylist(), strict=True)
    difference = max(np.abs(np.subtract(a, b)).max() for a, b in pairs if a)
    assert 0 < difference < 0.02


def test_the_model_is_the_one_that_was_hashed_even_if_the_link_to_it_flips(
    artifact: Path, dataset: tuple[Path, pl.DataFrame], tmp_path: Path
) -> None:
    link = tmp_path / "current"
    link.symlink_to(artifact)
    plan = dump.plan_dump(
        model_dir=link,
        tree_hash=model_store.read_artifact(link).tree_hash,
        dataset_dir=dataset[0],
        rows=dataset[1],
        shard=0,
        n_shards=1,
        options=dump.DumpOptions(device="cpu"),
    )
    link.unlink()
    link.symlink_to(tmp_path / "another")  # which is not even there
    assert len(dumped(plan, tmp_path)) == 14


def test_weights_that_change_between_hashing_and_loading_are_refused(
    planner: Planner, artifact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = planner()
    plain = model_store.read_artifact

    def then_replaced(folder: Path) -> Any:
        found = plain(folder)
        state = torch.load(artifact / "best_model.pt", weights_only=True)
        torch.save({k: v + 1 for k, v in state.items()}, artifact / "best_model.pt")
        return found

    monkeypatch.setattr(model_store, "read_artifact", then_replaced)
    with pytest.raises(InputError, match=r"best_model.pt: sha256 is"):
        dumped(plan, tmp_path)


def test_the_slower_of_two_writers_of_one_shard_ends_with_the_dump_of_the_faster(
    planner: Planner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A driver that nobody could kill finishes beside its retry, and removes the segments."""
    plan, out, pieces = planner(), tmp_path / "d.parquet", tmp_path / "segments"

    def other_finishes(done: int, total: int, note: str = "") -> None:
        if 8 <= done < total and not out.exists():  # its first segment is written
            dump.dump_to(plan, out, pieces)

    result = dump.dump_to(plan, out, pieces, on_progress=other_finishes)
    assert (result.rows, result.failed, result.reused) == (14, 1, True)
    assert not any(pieces.iterdir())
    assert tables.read_metadata(out)["identity"] == plan.identity
