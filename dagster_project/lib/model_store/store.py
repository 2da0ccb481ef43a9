"""Sync: bring an artifact here, and let readers see it only when it is whole and verified.

Belongs: the order of fetch, verify, publish, flip.
Does not: S3 and folders (``source``), hashes and manifests (``artifact``).
Concept: content-addressed folders and one relative link. ``DEST/<tree-hash>/`` never changes
once it is there; ``DEST/current`` flips to it in one step. A failed sync leaves both as they were.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from dagster_project.lib import files
from dagster_project.lib.errors import InputError
from dagster_project.lib.model_store import artifact as art
from dagster_project.lib.model_store.artifact import Artifact
from dagster_project.lib.model_store.source import Source, open_source
from dagster_project.lib.progress import OnProgress, silent


def sync(model_uri: str, dest: Path, *, on_progress: OnProgress = silent) -> Artifact:
    """Publish the artifact at ``model_uri`` as ``dest/<tree-hash>/`` and point ``current`` at it.

    1. The manifest, or the hashes of a folder's files, say what is wanted, where they can.
    2. An equal artifact here is hashed again; if it is intact, nothing is copied.
    3. Otherwise all files are fetched beside it, hashed and compared.
    4. The folder appears in one rename, then the link flips.

    Parameters
    ----------
    model_uri : ``s3://bucket/prefix/`` or a folder.
    dest : folder of published artifacts; made if absent.
    on_progress : called with bytes fetched so far and in all; (0, 0) ... when nothing is.

    Raises
    ------
    InputError
        Not reachable, incomplete, or bytes that are not those of the manifest.
    """
    source = open_source(model_uri)
    dest.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=dest, prefix=".incoming.") as temp:
        incoming = Path(temp)
        manifest = _fetch_manifest(source, incoming)
        expected = manifest or _folder_hashes(source)
        known = _intact(dest / art.hash_of(expected)) if expected else None
        artifact = known or _fetch_and_publish(source, incoming, dest, manifest, on_progress)
    files.point(dest / art.CURRENT, artifact.tree_hash)
    return artifact


def _fetch_manifest(source: Source, incoming: Path) -> dict[str, str] | None:
    """The source's manifest, which is kept with the artifact; None if it has none."""
    if art.MANIFEST not in source.sizes:
        return None
    source.fetch(art.MANIFEST, incoming / art.MANIFEST, lambda _: None)
    return art.read_manifest(incoming / art.MANIFEST)


def _folder_hashes(source: Source) -> dict[str, str] | None:
    """``{file: sha256}`` of a source that is a folder without a manifest; hashing it is cheap."""
    folder = Path(source.uri)
    if not folder.is_dir():
        return None
    names = art.artifact_files(source.uri, source.sizes, None)
    return {name: files.sha256_file(folder / name) for name in names}


def _intact(folder: Path) -> Artifact | None:
    """The published artifact in ``folder`` if its bytes are still those of its name."""
    try:
        artifact = art.read_artifact(folder)
    except InputError:  # absent or altered: fetched anew
        return None
    return artifact if artifact.tree_hash == folder.name else None


def _fetch_and_publish(
    source: Source,
    incoming: Path,
    dest: Path,
    manifest: Mapping[str, str] | None,
    on_progress: OnProgress,
) -> Artifact:
    names = art.artifact_files(source.uri, source.sizes, manifest)
    count = _counter(sum(source.sizes[name] for name in names), on_progress)
    for name in names:
        source.fetch(name, incoming / name, count)
    try:
        fetched = art.read_artifact(incoming)
    except InputError as error:
        raise InputError(str(error).replace(str(incoming.resolve()), source.uri)) from None
    folder = dest / fetched.tree_hash
    _put_aside(folder, incoming)
    with files.publish_folder(folder) as temp:
        for name in [*names, *([art.MANIFEST] if manifest else [])]:
            (incoming / name).rename(temp / name)
    return Artifact(folder.resolve(), fetched.tree_hash, fetched.files)


def _put_aside(folder: Path, incoming: Path) -> None:
    """Move a published folder out of the way if its bytes were altered; it goes with ``incoming``.

    Readers find no folder for the moment until the verified one appears, and never a mixture.
    """
    if folder.exists() and _intact(folder) is None:
        shutil.move(folder, incoming / "altered")


def _counter(total: int, on_progress: OnProgress) -> Callable[[int], None]:
    done = 0

    def count(n_bytes: int) -> None:
        # Called from several threads; a lost update only makes the bar inexact.
        nonlocal done
        done += n_bytes
        on_progress(min(done, total), total)

    return count
