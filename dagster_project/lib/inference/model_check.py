"""Whether an artifact on this machine can be used: signature, hashes, weights, golden cases.

Belongs: the order of the checks, and one line for each folder.
Does not: the checks themselves (``model_store``, ``checkpoint``, ``golden``), printing (``cli``).
Concept: one folder that is refused says nothing about the next, so all are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dagster_project.lib import model_store
from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import checkpoint
from dagster_project.lib.signature import require_signature

_SHOWN = 12
_NO_HASH = "-" * _SHOWN


@dataclass(frozen=True)
class Verdict:
    """What was found in one folder.

    Attributes
    ----------
    tree_hash : None if the files did not get as far as one.
    reason : why the artifact is refused; None if it is not.
    """

    folder: Path
    tree_hash: str | None
    reason: str | None

    def line(self) -> str:
        """``folder  start of the tree hash  ok``, or the reason in place of ``ok``."""
        found = self.tree_hash[:_SHOWN] if self.tree_hash else _NO_HASH
        return f"{self.folder}  {found}  {self.reason or 'ok'}"


def check_models(folders: Sequence[Path], public_key: Path | None = None) -> Iterator[Verdict]:
    """Check each artifact as a dump on the CPU would: nothing of it is executed."""
    for folder in folders:
        yield check_model(folder, public_key)


def check_model(folder: Path, public_key: Path | None = None) -> Verdict:
    """The signature if a key is given, hashes against the manifest, weights, golden cases."""
    tree_hash = None
    try:
        if public_key is not None:
            require_signature(folder, public_key)
        artifact = model_store.read_artifact(folder)
        tree_hash = artifact.tree_hash
        hashes = dict(zip(artifact.files["file"], artifact.files["sha256"], strict=True))
        checkpoint.load_model(folder, sha256=hashes[checkpoint.WEIGHTS])
    except InputError as error:
        return Verdict(folder, tree_hash, _below(folder, str(error)))
    except OSError as error:
        return Verdict(folder, tree_hash, f"{error.filename}: {error.strerror}")
    return Verdict(folder, tree_hash, None)


def _below(folder: Path, message: str) -> str:
    """``message`` without the folder that the line already begins with."""
    for shown in (str(folder), str(folder.resolve())):
        for mark in (": ", ", "):
            message = message.removeprefix(shown + mark)
    return message
