from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dagster_project.lib import model_store
from dagster_project.lib.errors import InputError
from dagster_project.lib.model_store import artifact as art


def test_the_tree_hash_is_the_sha256_of_the_files_and_their_hashes(source: Path) -> None:
    found = model_store.read_artifact(source)
    hashes = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(source.iterdir())}
    text = json.dumps(hashes, sort_keys=True, separators=(",", ":"))
    assert found.tree_hash == hashlib.sha256(text.encode()).hexdigest()
    assert found.path == source.resolve()
    assert found.files.schema == {"file": pl.String, "sha256": pl.String, "bytes": pl.Int64}
    assert found.files["file"].to_list() == sorted(hashes)
    assert found.files["bytes"].to_list() == [
        len((source / n).read_bytes()) for n in sorted(hashes)
    ]
    assert model_store.tree_hash(found.files.reverse()) == found.tree_hash


def test_a_manifest_changes_no_hash_but_a_golden_file_does(source: Path) -> None:
    before = model_store.read_artifact(source).tree_hash
    (source / "notes.txt").write_text("not part of it")
    art.write_manifest(source)
    assert model_store.read_artifact(source).tree_hash == before
    (source / "manifest.json").unlink()
    (source / "golden.json").write_text("{}")
    assert model_store.read_artifact(source).tree_hash != before


def test_files_that_only_the_manifest_lists_belong_to_the_artifact(source: Path) -> None:
    (source / "tokenizer.bin").write_bytes(b"t")
    before = model_store.read_artifact(source)
    assert "tokenizer.bin" not in before.files["file"]
    listed = {n: {"sha256": s} for n, s in before.files.select("file", "sha256").iter_rows()}
    listed["tokenizer.bin"] = {"sha256": hashlib.sha256(b"t").hexdigest()}
    (source / "manifest.json").write_text(json.dumps({"files": listed}))
    assert "tokenizer.bin" in model_store.read_artifact(source).files["file"]


@pytest.mark.parametrize("name", ["best_model.pt", "config.json", "labels.txt"])
def test_a_missing_file_is_named(source: Path, name: str) -> None:
    (source / name).unlink()
    with pytest.raises(InputError, match=f"'{name}' is missing"):
        model_store.read_artifact(source)


def test_a_flipped_byte_of_the_same_size_is_named_with_both_hashes(source: Path) -> None:
    art.write_manifest(source)
    path = source / "best_model.pt"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    after = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(InputError, match=f"best_model.pt: sha256 is {after}, expected {before}"):
        model_store.read_artifact(source)


def _name(raw: dict[str, Any], name: str) -> None:
    raw["files"][name] = {"sha256": "0" * 64}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda m: m.clear(), "expected an object 'files'", id="no files"),
        pytest.param(lambda m: m["files"].pop("labels.txt"), "lists no 'labels.txt'", id="lacks"),
        pytest.param(
            lambda m: m["files"]["labels.txt"].update(sha256="abc"), "64 hex digits", id="short"
        ),
        pytest.param(lambda m: m["files"].update(x=3), "64 hex digits", id="no entry"),
        pytest.param(lambda m: _name(m, "../x"), "not a plain file name", id="leaves the folder"),
        pytest.param(lambda m: _name(m, "/etc/x"), "not a plain file name", id="absolute"),
        pytest.param(lambda m: _name(m, "manifest.json"), "not a plain file", id="itself"),
        pytest.param(lambda m: _name(m, ""), "not a plain file name", id="nameless"),
        pytest.param(lambda m: _name(m, "a\nb"), "not a plain file name", id="two lines"),
        pytest.param(lambda m: _name(m, "\udc80"), "not a plain file name", id="no unicode"),
        pytest.param(lambda m: _name(m, ".sync"), "not a plain file name", id="hidden"),
        pytest.param(lambda m: _name(m, "n" * 201), "not a plain file name", id="long"),
        pytest.param(lambda m: _name(m, "extra.bin"), "'extra.bin' is missing", id="absent file"),
    ],
)
def test_a_manifest_that_cannot_be_trusted_is_refused(
    source: Path, damage: Any, message: str
) -> None:
    art.write_manifest(source)
    raw = json.loads((source / "manifest.json").read_text())
    damage(raw)
    (source / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(InputError, match=message):
        model_store.read_artifact(source)


def test_a_folder_that_is_not_there_and_a_hash_that_was_never_synced(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        model_store.read_artifact(tmp_path / "x")
    with pytest.raises(InputError, match="sync it first"):
        model_store.published(tmp_path, "0" * 64)
    with pytest.raises(InputError, match="sync it first"):
        model_store.published(tmp_path, ".")
    with pytest.raises(InputError, match="sync one first"):
        model_store.current(tmp_path)
