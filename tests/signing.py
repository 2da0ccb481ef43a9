"""Signing an artifact as the OpenSSF model-signing tool does, for tests."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PRIVATE = ec.generate_private_key(ec.SECP256R1())


def write_key(path: Path, private: Any = PRIVATE) -> Path:
    path.write_bytes(
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return path


def statement_of(folder: Path) -> dict[str, Any]:
    names = sorted(path.name for path in folder.iterdir() if path.name != "model.sig")
    digests = {name: hashlib.sha256((folder / name).read_bytes()) for name in names}
    whole = hashlib.sha256(b"".join(digest.digest() for digest in digests.values()))
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": folder.name, "digest": {"sha256": whole.hexdigest()}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "resources": [
                {"name": name, "algorithm": "sha256", "digest": digest.hexdigest()}
                for name, digest in digests.items()
            ],
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
        },
    }


def sign(
    folder: Path,
    *,
    private: ec.EllipticCurvePrivateKey = PRIVATE,
    change: Callable[[dict[str, Any]], object] = lambda _: None,
) -> None:
    """Write ``model.sig`` over the folder as it is, its statement changed before it is signed."""
    statement = statement_of(folder)
    change(statement)
    payload = json.dumps(statement).encode()
    kind = "application/vnd.in-toto+json"
    text = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    digest = {256: hashes.SHA256(), 384: hashes.SHA384()}[private.key_size]
    signed = private.sign(text, ec.ECDSA(digest))
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": kind,
        "signatures": [{"sig": base64.b64encode(signed).decode(), "keyid": ""}],
    }
    media = "application/vnd.dev.sigstore.bundle.v0.3+json"
    bundle = {"mediaType": media, "verificationMaterial": {}, "dsseEnvelope": envelope}
    (folder / "model.sig").write_text(json.dumps(bundle))
