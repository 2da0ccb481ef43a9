from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dagster_project.lib import model_store
from dagster_project.lib.errors import InputError
from dagster_project.lib.model_store import artifact as art
from dagster_project.lib.model_store import source as sources

URI = "s3://bucket/models/v1/"


@pytest.mark.parametrize("uri", [URI, URI.rstrip("/")])
def test_an_artifact_in_s3_is_the_artifact_of_the_folder(
    source: Path, s3: Any, tmp_path: Path, uri: str
) -> None:
    art.write_manifest(source)
    s3.put(source)
    s3.put(source, "models/v1/older/")
    counts: list[tuple[int, int]] = []
    found = model_store.sync(uri, tmp_path / "m", on_progress=lambda *c: counts.append(c))
    assert found.tree_hash == model_store.read_artifact(source).tree_hash
    assert (found.path / "best_model.pt").read_bytes() == (source / "best_model.pt").read_bytes()
    total = found.files["bytes"].sum()
    assert counts[-1] == (total, total)


def test_a_large_object_comes_in_ranged_parts(
    source: Path, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "S3_PART", 3000)
    s3.put(source)
    found = model_store.sync(URI, tmp_path / "m")
    assert found.tree_hash == model_store.read_artifact(source).tree_hash
    assert s3.gets.count("bucket/models/v1/best_model.pt") == 4


def test_with_a_manifest_an_equal_artifact_transfers_the_manifest_only(
    source: Path, s3: Any, tmp_path: Path
) -> None:
    art.write_manifest(source)
    s3.put(source)
    model_store.sync(URI, tmp_path / "m")
    s3.gets.clear()
    model_store.sync(URI, tmp_path / "m")
    assert s3.gets == ["bucket/models/v1/manifest.json"]


def test_a_body_that_is_not_the_manifests_is_refused_and_nothing_is_published(
    source: Path, s3: Any, tmp_path: Path
) -> None:
    art.write_manifest(source)
    s3.put(source)
    key = "bucket/models/v1/best_model.pt"
    s3.objects[key] = s3.objects[key][::-1]
    with pytest.raises(InputError, match=f"{URI}, best_model.pt: sha256 is [0-9a-f]+, expected"):
        model_store.sync(URI, tmp_path / "m")
    assert list((tmp_path / "m").iterdir()) == []


def test_a_replaced_checkpoint_of_the_same_size_is_fetched(
    source: Path, s3: Any, tmp_path: Path
) -> None:
    s3.put(source)
    first = model_store.sync(URI, tmp_path / "m")
    s3.objects["bucket/models/v1/best_model.pt"] = first.path.joinpath(
        "best_model.pt"
    ).read_bytes()[::-1]
    second = model_store.sync(URI, tmp_path / "m")
    assert second.tree_hash != first.tree_hash
    assert model_store.current(tmp_path / "m") == second.path


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        pytest.param((404, "NoSuchBucket"), "no such bucket", id="bucket"),
        pytest.param((403, "AccessDenied"), "access denied", id="denied"),
        pytest.param((403, "SignatureDoesNotMatch"), "the secret is wrong", id="secret"),
        pytest.param((403, "InvalidAccessKeyId"), "access key is not known", id="key id"),
        pytest.param((403, "RequestTimeTooSkewed"), "clock is wrong", id="clock"),
        pytest.param((400, "Strange"), "S3 answered Strange", id="anything else"),
    ],
)
def test_what_s3_refuses_is_one_line_without_a_secret(
    s3: Any, tmp_path: Path, refuse: tuple[int, str], message: str
) -> None:
    s3.refuse = refuse
    with pytest.raises(InputError, match=message) as caught:
        model_store.sync(URI, tmp_path / "m")
    assert "\n" not in str(caught.value)
    assert "very-secret" not in str(caught.value)
    assert str(caught.value).startswith(URI)


def test_a_wrong_prefix_and_a_wrong_bucket_are_named(s3: Any, tmp_path: Path, source: Path) -> None:
    s3.put(source)
    with pytest.raises(InputError, match="s3://bucket/other/: nothing there"):
        model_store.sync("s3://bucket/other/", tmp_path / "m")
    with pytest.raises(InputError, match="s3://elsewhere/x: there is no such bucket"):
        model_store.sync("s3://elsewhere/x", tmp_path / "m")


def test_no_credentials_and_no_server_are_one_line(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:hidden@127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(InputError, match="check the network") as caught:
        model_store.sync(URI, tmp_path / "m")
    assert "hidden" not in str(caught.value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(InputError, match="no credentials"):
        model_store.sync(URI, tmp_path / "m")
