"""A signed artifact: its signature travels with it, and nothing unsigned comes into force."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from signing import sign, write_key

from dagster_project.lib import model_store
from dagster_project.lib.errors import InputError
from dagster_project.lib.model_store import artifact as art
from dagster_project.lib.signature import SIGNATURE, require_signature

Sync = Callable[..., model_store.Synced]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_key(tmp_path / "key.pem")


def test_the_signature_comes_along_and_an_unchanged_artifact_costs_heads(
    stored: Any, source: Path, sync: Sync, key: Path
) -> None:
    sign(source)
    stored.put_folder(source)
    first = sync(stored, public_key=key)
    assert first.tree_hash == model_store.read_artifact(source).tree_hash
    assert require_signature(first.path, key)
    stored.proxy.clear()
    assert sync(stored, public_key=key).bytes_fetched == 0
    assert {r.method for r in stored.proxy.requests} == {"HEAD"}


def test_a_key_that_is_set_later_brings_the_signature_and_not_the_weights_where_hashes_are_known(
    stored: Any, source: Path, sync: Sync, key: Path
) -> None:
    sign(source)
    stored.put_folder(source)
    assert not (sync(stored).path / SIGNATURE).exists()
    stored.proxy.clear()
    found = sync(stored, public_key=key)
    assert require_signature(found.path, key)
    weights = stored.proxy.count("GET", "best_model.pt")
    assert weights == (0 if (source / "manifest.json").exists() else 1)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "altered since"])
def test_what_is_not_signed_does_not_come_into_force(
    stored: Any, source: Path, sync: Sync, key: Path, tmp_path: Path, signed: bool
) -> None:
    if signed:
        sign(source)
        (source / "labels.txt").write_text("other\nclasses\n")
        (source / "manifest.json").unlink(missing_ok=True)
        stored.delete("manifest.json")
        stored.put_folder(source)
    with pytest.raises(InputError, match=r"has no model.sig|not what was signed|is missing"):
        sync(stored, public_key=key)
    assert not (tmp_path / "m" / "current").exists()


def test_a_new_signature_over_the_same_files_replaces_the_old_one(
    bucket: Any, source: Path, sync: Sync, key: Path
) -> None:
    sign(source)
    bucket.put_folder(source)
    first = sync(bucket, public_key=key)
    old = (first.path / SIGNATURE).read_bytes()
    sign(source)  # ECDSA signatures of equal bytes differ
    bucket.put_folder(source)
    second = sync(bucket, public_key=key)
    assert (second.tree_hash, second.path) == (first.tree_hash, first.path)
    assert (second.path / SIGNATURE).read_bytes() != old


def test_a_signed_folder_is_synced_with_its_signature(
    source: Path, key: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"has no model.sig and MODEL_PUBLIC_KEY is set"):
        model_store.sync(str(source), tmp_path / "m", public_key=key)
    sign(source)
    found = model_store.sync(str(source), tmp_path / "m", public_key=key)
    assert require_signature(found.path, key)
    assert model_store.current(tmp_path / "m") == found.path


def test_a_signature_that_does_not_hold_leaves_the_artifact_in_force_as_it_was(
    bucket: Any, source: Path, sync: Sync, key: Path
) -> None:
    art.write_manifest(source)
    sign(source)
    bucket.put_folder(source)
    first = sync(bucket, public_key=key)
    before = {p.name: p.read_bytes() for p in first.path.iterdir()}
    sign(source, private=ec.generate_private_key(ec.SECP256R1()))
    bucket.put_folder(source)
    with pytest.raises(InputError, match="not signed with the key"):
        sync(bucket, public_key=key)
    assert {p.name: p.read_bytes() for p in first.path.iterdir()} == before
    assert require_signature(first.path, key)


def test_without_the_key_a_reformatted_manifest_does_not_break_a_signed_artifact(
    bucket: Any, source: Path, sync: Sync, key: Path
) -> None:
    art.write_manifest(source)
    sign(source)
    bucket.put_folder(source)
    first = sync(bucket, public_key=key)
    bucket.put("manifest.json", (source / "manifest.json").read_bytes() + b"\n")
    assert sync(bucket).path == first.path
    assert require_signature(first.path, key)
