"""Signed artifacts: exactly the signed files, by exactly this key, before anything is opened."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from signing import PRIVATE, sign, write_key

from dagster_project import cli
from dagster_project.lib import signature
from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import checkpoint

CONTENTS = {"best_model.pt": b"weights", "config.json": b"{}", "labels.txt": b"a\nb\n"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    for name, content in CONTENTS.items():
        (made / name).write_bytes(content)
    sign(made)
    return made


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_key(tmp_path / "key.pem")


def test_a_signed_folder_gives_its_signed_hashes(folder: Path, key: Path) -> None:
    expected = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
    assert signature.require_signature(folder, key) == expected


def test_a_longer_curve_signs_with_its_longer_hash(folder: Path, tmp_path: Path) -> None:
    private = ec.generate_private_key(ec.SECP384R1())
    sign(folder, private=private)
    assert signature.require_signature(folder, write_key(tmp_path / "k.pem", private))


def _bundle(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads((folder / "model.sig").read_text())
    change(value)
    (folder / "model.sig").write_text(json.dumps(value))


def _reworded(bundle: dict[str, Any]) -> None:
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload + b" ").decode()


def _twice(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["signatures"] *= 2


def _pipe(folder: Path) -> None:
    (folder / "model.sig").unlink()
    os.mkfifo(folder / "model.sig")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda f: (f / "model.sig").unlink(), "has no model.sig", id="unsigned"),
        pytest.param(_pipe, "not a regular file", id="pipe"),
        pytest.param(
            lambda f: (f / "best_model.pt").write_bytes(b"weightS"),
            "'best_model.pt' is not what was signed",
            id="altered",
        ),
        pytest.param(
            lambda f: (f / "labels.txt").unlink(), "'labels.txt' is missing", id="missing"
        ),
        pytest.param(
            lambda f: (f / "golden.json").write_text("{}"), "'golden.json' is here and", id="added"
        ),
        pytest.param(
            lambda f: (f / ".gitattributes").write_text(""), "'.gitattributes' is here", id="hidden"
        ),
        pytest.param(lambda f: (f / "sub").mkdir(), "'sub' is no regular file", id="folder"),
        pytest.param(
            lambda f: (f / "x").symlink_to("config.json"), "'x' is no regular file", id="link"
        ),
        pytest.param(lambda f: (f / "model.sig").write_text("x"), "not JSON", id="text"),
        pytest.param(lambda f: (f / "model.sig").write_text("{}"), "KeyError", id="no bundle"),
        pytest.param(lambda f: _bundle(f, _reworded), "not signed with the key", id="reworded"),
        pytest.param(lambda f: _bundle(f, _twice), "not a model-signing", id="two signatures"),
        pytest.param(
            lambda f: _bundle(f, lambda b: b.update(mediaType="x")), "is of 'x'", id="media"
        ),
        pytest.param(
            lambda f: sign(f, private=ec.generate_private_key(ec.SECP256R1())),
            "not signed with the key of key.pem",
            id="another key",
        ),
    ],
)
def test_what_is_not_exactly_what_was_signed_is_refused(
    folder: Path, key: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        signature.require_signature(folder, key)
    assert "\n" not in str(caught.value)


def _resources(statement: dict[str, Any]) -> list[dict[str, Any]]:
    found = statement["predicate"]["resources"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda s: s.update(predicateType="x"), "states .*'x'", id="predicate"),
        pytest.param(lambda s: s.update(_type="x"), "states 'x'", id="type"),
        pytest.param(lambda s: s.update(subject=[]), "not a statement", id="no subject"),
        pytest.param(
            lambda s: s["predicate"]["serialization"].update(method="shards"),
            "'shards'",
            id="shards",
        ),
        pytest.param(lambda s: _resources(s).append(_resources(s)[0]), "twice", id="twice"),
        pytest.param(lambda s: _resources(s).reverse(), "its own sum", id="order"),
        pytest.param(
            lambda s: _resources(s)[0].update(name="../best_model.pt"), "no plain file", id="path"
        ),
        pytest.param(
            lambda s: _resources(s)[0].update(algorithm="md5"), "no plain file and", id="md5"
        ),
    ],
)
def test_a_signed_statement_of_another_form_is_refused(
    folder: Path, key: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    sign(folder, change=change)
    with pytest.raises(InputError, match=message):
        signature.require_signature(folder, key)


def test_a_key_that_is_none_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        signature.require_signature(folder, tmp_path / "absent.pem")
    (tmp_path / "text.pem").write_text("key")
    with pytest.raises(InputError, match="not a public key in PEM form"):
        signature.require_signature(folder, tmp_path / "text.pem")
    other = write_key(tmp_path / "rsa.pem", rsa.generate_private_key(65537, 2048))
    with pytest.raises(InputError, match="not an elliptic-curve key"):
        signature.require_signature(folder, other)


def test_without_cryptography_the_extra_is_named(
    folder: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(InputError, match=r"pip install 'tier-refit\[signing\]'"):
        signature.require_signature(folder, key)


def test_nothing_of_an_unsigned_artifact_is_opened(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.setattr(checkpoint, "read_spec", lambda _: pytest.fail("opened"))
    with pytest.raises(InputError, match=r"has no model\.sig"):
        checkpoint.load_model(folder, public_key=key)
    monkeypatch.setenv("MODEL_PUBLIC_KEY", str(key))
    assert cli.main(["check-model", str(folder)]) == 2
    assert "has no model.sig" in capsys.readouterr().out


@pytest.mark.skipif(
    shutil.which("model_signing") is None, reason="the model_signing command is not installed"
)
def test_what_model_signing_signs_is_accepted(folder: Path, key: Path, tmp_path: Path) -> None:
    """Run where the reference tool is on PATH (pip install model-signing pyOpenSSL)."""
    private = tmp_path / "private.pem"
    private.write_bytes(
        PRIVATE.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    where = ["--signature", str(folder / "model.sig")]
    tool = ["model_signing", "sign", "key", str(folder), *where, "--private_key", str(private)]
    (folder / "model.sig").unlink()
    subprocess.run(tool, check=True, capture_output=True)
    assert set(signature.require_signature(folder, key)) == set(CONTENTS)
    (folder / "config.json").write_text("{ }")
    with pytest.raises(InputError, match=r"'config\.json' is not what was signed"):
        signature.require_signature(folder, key)
