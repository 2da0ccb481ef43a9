"""The signature of a model artifact: who vouches for exactly these files.

Belongs: verifying ``model.sig`` with a public key before anything of the artifact is opened.
Does not: making signatures (the ``model_signing`` command does), which files an artifact needs
(``model_store``), what they say (``inference``).
Concept: the OpenSSF model-signing bundle. It is a sigstore bundle with a DSSE envelope around an
in-toto statement that lists each file with its sha256: our manifest, signed. The statement is read
only after its signature holds, and the folder must hold exactly the files it lists: what the
signer's tool ignores (``.gitattributes`` and the like) is refused, because a reader may not.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.lib import files
from dagster_project.lib.errors import InputError, some

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

SIGNATURE = "model.sig"
MAX_BYTES = 4 << 20
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
_HEX = frozenset("0123456789abcdef")


def require_signature(folder: Path, public_key: Path) -> dict[str, str]:
    """Raise unless ``folder/model.sig`` is by the holder of ``public_key`` and fits every file.

    Parameters
    ----------
    public_key : PEM file of an elliptic-curve key (P-256, P-384 or P-521).

    Returns
    -------
    ``{file: sha256}``, signed and just compared with the bytes here; without ``model.sig`` itself.

    Raises
    ------
    InputError
        No signature, one by another key, or a file that is altered, missing or not covered.
    """
    key = _read_key(public_key)
    payload = _verified_payload(_read_bundle(folder / SIGNATURE), key, public_key)
    signed = _signed_files(payload)
    present = _present(folder)
    extra = sorted(present - signed.keys())
    missing = sorted(signed.keys() - present)
    if extra or missing:
        fault = f"{some(extra)} is here and not signed" if extra else f"{some(missing)} is missing"
        raise InputError(f"{folder}, {SIGNATURE}: {fault}; sign or fetch the artifact again")
    altered = [name for name in sorted(signed) if files.sha256_file(folder / name) != signed[name]]
    if altered:
        raise InputError(
            f"{folder}, {SIGNATURE}: {some(altered)} is not what was signed; fetch it again"
        )
    return signed


def _read_key(path: Path) -> ec.EllipticCurvePublicKey:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        raise InputError(
            "MODEL_PUBLIC_KEY is set and cryptography is not installed; "
            "pip install 'tier-refit[signing]'"
        ) from None
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: public key cannot be read ({error.strerror})") from None
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(f"{path}: not a public key in PEM form; give the signer's") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.key_size not in (256, 384, 521):
        raise InputError(f"{path}: not an elliptic-curve key of 256, 384 or 521 bits")
    return key


def _read_bundle(path: Path) -> dict[str, Any]:
    try:
        found = path.lstat()
    except OSError:
        raise InputError(
            f"{path.parent}: has no {SIGNATURE} and MODEL_PUBLIC_KEY is set; have it signed"
        ) from None
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
        raise InputError(f"{path}: not a regular file of at most {MAX_BYTES} bytes")
    return files.read_json(path)


def _verified_payload(
    bundle: Mapping[str, Any], key: ec.EllipticCurvePublicKey, key_path: Path
) -> bytes:
    """The signed bytes, once the signature over them holds."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        envelope = bundle["dsseEnvelope"]
        kinds = (bundle["mediaType"], envelope["payloadType"])
        payload = base64.b64decode(envelope["payload"], validate=True)
        [entry] = envelope["signatures"]
        signature = base64.b64decode(entry["sig"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{SIGNATURE}: not a model-signing bundle ({error!r})") from None
    if kinds != (BUNDLE, PAYLOAD):
        raise InputError(f"{SIGNATURE}: is of {some(kinds)}; {some((BUNDLE, PAYLOAD))} is read")
    signed = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)
    digest = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[key.key_size]
    try:
        key.verify(signature, signed, ec.ECDSA(digest))
    except InvalidSignature:
        raise InputError(
            f"{SIGNATURE}: not signed with the key of {key_path.name}, or altered since; "
            "fetch it again, or check MODEL_PUBLIC_KEY"
        ) from None
    return payload


def _signed_files(payload: bytes) -> dict[str, str]:
    """``{file: sha256}`` of a verified statement."""
    try:
        statement = json.loads(payload)
        kinds = (statement["_type"], statement["predicateType"])
        [subject] = statement["subject"]
        method = statement["predicate"]["serialization"]
        resources = [
            (str(r["name"]), str(r["digest"]), r["algorithm"])
            for r in statement["predicate"]["resources"]
        ]
        whole, how = subject["digest"]["sha256"], (method["method"], method["hash_type"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{SIGNATURE}: not a statement about a model ({error!r})") from None
    if kinds != (STATEMENT, PREDICATE) or how != ("files", "sha256"):
        raise InputError(f"{SIGNATURE}: states {some((*kinds, *how), 4)}; sign by files, sha256")
    for name, digest, algorithm in resources:
        plain = Path(name).name == name and name not in ("", ".", "..", SIGNATURE)
        if not plain or algorithm != "sha256" or len(digest) != 64 or not _HEX.issuperset(digest):
            raise InputError(f"{SIGNATURE}: lists {name[:80]!r} of no plain file and sha256")
    found = {name: digest for name, digest, _ in resources}
    together = hashlib.sha256(b"".join(bytes.fromhex(d) for _, d, _ in resources)).hexdigest()
    if len(found) != len(resources) or together != whole:
        raise InputError(f"{SIGNATURE}: lists a file twice, or contradicts its own sum")
    return found


def _present(folder: Path) -> set[str]:
    """Names in ``folder`` but for the signature; all must be regular files."""
    try:
        with os.scandir(folder) as entries:
            found = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror})") from None
    strange = [name for name, is_regular in found.items() if not is_regular]
    if strange:
        raise InputError(f"{folder}: {some(strange)} is no regular file, so not what was signed")
    return set(found) - {SIGNATURE}
