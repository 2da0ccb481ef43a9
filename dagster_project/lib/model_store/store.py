"""Sync: bring an artifact here, and let readers see it only when it is whole and verified.

Belongs: the order of asking, fetching, verifying, publishing, flipping; one sync at a time.
Does not: S3 (``prefix``, ``parts``) and folders (``folder``), hashes and manifests (``artifact``),
what survives a killed process (``partial``) or a finished one (``record``).
Concept: content-addressed folders and one relative link. ``DEST/<tree-hash>/`` never changes
once it is there; ``DEST/current`` flips to it in one step. A failed sync leaves both as they were.
All that is not for readers lies in ``DEST/.sync``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from dagster_project.lib import files, s3
from dagster_project.lib.errors import InputError
from dagster_project.lib.model_store import artifact as art
from dagster_project.lib.model_store import folder as folders
from dagster_project.lib.model_store import partial as half
from dagster_project.lib.model_store import parts, prefix
from dagster_project.lib.model_store import record as records
from dagster_project.lib.model_store.artifact import MANIFEST, Artifact
from dagster_project.lib.model_store.parts import Digests
from dagster_project.lib.model_store.prefix import Head, Prefix
from dagster_project.lib.model_store.record import Record
from dagster_project.lib.progress import OnProgress, silent
from dagster_project.lib.signature import SIGNATURE, require_signature

OnNote = Callable[[str], None]
"""Called with a line that a person should see: a wait, a resumed download, no network."""
_OWN = ".sync"


@dataclass(frozen=True)
class Synced(Artifact):
    """An artifact, and what it took to have it here.

    Attributes
    ----------
    bytes_fetched : that came in this call; 0 if the artifact was here already.
    seconds : of the whole call, waiting for another sync included.
    offline : the source could not be reached; this is what it held when last seen.
    """

    bytes_fetched: int = 0
    seconds: float = 0.0
    offline: bool = False


@dataclass(frozen=True)
class _Job:
    """What the steps of one call share."""

    dest: Path
    source: str
    on_progress: OnProgress
    on_note: OnNote
    fast: bool
    public_key: Path | None

    @property
    def asides(self) -> tuple[str, ...]:
        """Files that are kept with an artifact and are no part of its hash."""
        return (MANIFEST,) if self.public_key is None else (MANIFEST, SIGNATURE)

    @property
    def record(self) -> Path:
        return self.dest / _OWN / "sources" / f"{files.digest(self.source)}.json"

    @property
    def partials(self) -> Path:
        return self.dest / _OWN / "partial" / files.digest(self.source)


def sync(
    model_uri: str,
    dest: Path,
    *,
    on_progress: OnProgress = silent,
    on_note: OnNote = lambda _: None,
    fast: bool = False,
    public_key: Path | None = None,
    point: bool = True,
) -> Synced:
    """Publish the artifact at ``model_uri`` as ``dest/<tree-hash>/`` and point ``current`` at it.

    1. The versions of the objects, the manifest, or the hashes of a folder's files say what is
       wanted.
    2. An equal artifact here is hashed again; if it is intact, nothing is transferred.
    3. Otherwise all files are fetched aside, hashed and compared.
    4. The folder appears in one rename; with ``public_key`` its ``model.sig`` must hold; then the
       link flips.

    Parameters
    ----------
    model_uri : ``s3://bucket/prefix/`` or a folder.
    dest : folder of published artifacts; made if absent.
    on_progress : called with bytes fetched so far and in all; never when nothing is.
    on_note : called with lines for a person.
    fast : from S3, believe an artifact whose files' size, times and inode are as they were when
        last hashed.
    public_key : PEM file of who must have signed the artifact (``lib.signature``).
    point : False leaves ``current`` as it is: a checkpoint beside the model in service.

    Raises
    ------
    InputError
        Not reachable, incomplete, bytes that are not those of the manifest or the record, or
        a signature that is wanted and missing or wrong.
    """
    started = time.monotonic()
    at = _open(model_uri)
    source = at.identity if isinstance(at, Prefix) else f"folder {at.resolve()}"
    job = _Job(dest, source, on_progress, on_note, fast, public_key)
    with _alone(job):
        synced = _from_s3(job, at) if isinstance(at, Prefix) else _from_folder(job, at)
        if public_key is not None:
            require_signature(synced.path, public_key)
        if point:
            _flip(dest / art.CURRENT, synced.tree_hash)
        shutil.rmtree(job.partials, ignore_errors=True)
    return replace(synced, seconds=time.monotonic() - started)


def _open(model_uri: str) -> Prefix | Path:
    """Where ``model_uri`` points; a folder must be there."""
    if model_uri.startswith("s3://"):
        return prefix.open_prefix(model_uri)
    if "://" in model_uri:
        raise InputError(f"{s3.shown(model_uri)}: expected s3://bucket/prefix/ or a folder")
    folders.names_in(Path(model_uri))
    return Path(model_uri)


@contextmanager
def _alone(job: _Job) -> Iterator[None]:
    """Hold the lock of ``dest``, which the kernel frees when its holder is killed."""
    own = job.dest / _OWN
    files.make_folder(own)
    handle = os.open(own / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            job.on_note(f"another sync is writing to {job.dest}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _from_s3(job: _Job, at: Prefix) -> Synced:
    record = records.read_record(job.record)
    try:
        now = prefix.heads(at, [*job.asides, *(record.files if record else ())])
    except s3.UnreachableError as error:
        return _offline(job, record, error)
    if record and _unchanged(job, record, now):
        known = _known(job, record, fast=job.fast)
        if known:
            return known
    texts = {name: prefix.text_of(at, name, now[name]) for name in job.asides if name in now}
    manifest = art.manifest_in(at.shown, texts[MANIFEST]) if MANIFEST in texts else None
    if manifest and manifest.keys() - now.keys():
        first, now = now, prefix.heads(at, [*job.asides, *manifest])
        if any(now.get(name) != first[name] for name in texts):
            raise prefix.changed(f"{at.shown}, {MANIFEST}")
    names = art.artifact_files(at.shown, now, manifest)
    wanted = {name: now[name] for name in names}
    whole = None
    if manifest and _vouched(record, wanted, manifest):
        whole = _whole(job.dest / art.hash_of(manifest))
    if whole:
        _adopt(job, whole.path, texts)
        _remember(job, now, whole, texts)
        return whole
    expected = manifest if manifest is not None else _recorded(record, wanted)
    return _fetch(job, at, now, wanted, expected=expected, texts=texts)


def _unchanged(job: _Job, record: Record, now: Mapping[str, Head]) -> bool:
    """Whether the objects are in the versions of the record, and there are no others."""
    if MANIFEST in record.files:  # it lists what belongs; a golden.json beside it may not
        belongs = {*record.files, *job.asides}
        now = {name: head for name, head in now.items() if name in belongs}
    return now == record.heads


def _vouched(
    record: Record | None, wanted: Mapping[str, Head], manifest: Mapping[str, str]
) -> bool:
    """Whether it is known without fetching that the objects are what the manifest lists.

    A manifest that was left behind when the weights were replaced would else hide the new ones.
    """
    recorded = _recorded(record, wanted)
    return all(
        manifest[name] == recorded.get(name) or head.offers == ("sha256", manifest[name])
        for name, head in wanted.items()
    )


def _keep_beside(folder: Path, texts: Mapping[str, bytes]) -> None:
    """Write manifest and signature into a folder."""
    for name, text in texts.items():
        with files.publish(folder / name) as temp:
            temp.write_bytes(text)


def _adopt(job: _Job, folder: Path, texts: Mapping[str, bytes]) -> None:
    """Bring manifest and signature into a published folder, once they are seen to hold there.

    Without a key they decide nothing, and a folder in force is left alone: its signature may cover
    the manifest that it has.
    """
    kept = {name: (folder / name).read_bytes() for name in job.asides if (folder / name).exists()}
    if job.public_key is None or kept == texts:
        return
    tried = job.partials / "signed"
    shutil.rmtree(tried, ignore_errors=True)
    shutil.copytree(folder, tried, copy_function=os.link, ignore=lambda *_: job.asides)
    _keep_beside(tried, texts)
    require_signature(tried, job.public_key)
    _keep_beside(folder, texts)
    for name in kept.keys() - texts.keys():
        (folder / name).unlink()


def _known(job: _Job, record: Record, *, fast: bool) -> Synced | None:
    """The recorded artifact if it is here and intact: hashed, or with ``fast`` looked at."""
    folder = job.dest / record.tree_hash
    stats = records.stats_of(folder)
    if fast and stats and stats == record.stats:
        return Synced(folder.resolve(), record.tree_hash, record.table)
    whole = _whole(folder)
    if whole and stats != record.stats:
        records.write_record(job.record, records.with_stats(record, stats))
    return whole


def _whole(folder: Path) -> Synced | None:
    """The published artifact in ``folder`` if its bytes are still those of its name."""
    try:
        found = art.read_artifact(folder)
    except InputError:  # absent or altered: fetched anew
        return None
    if found.tree_hash != folder.name:
        return None
    return Synced(found.path, found.tree_hash, found.files)


def _offline(job: _Job, record: Record | None, error: s3.UnreachableError) -> Synced:
    """What this very source held when last seen, if that is here and hashes to its name."""
    known = _known(job, record, fast=False) if record else None
    if not known:
        raise error
    job.on_note(f"{error}; offline, using what was synced from there before: {known.path}")
    return replace(known, offline=True)


def _recorded(record: Record | None, wanted: Mapping[str, Head]) -> dict[str, str]:
    """``{file: sha256}`` of the objects that are in a version whose bytes were recorded."""
    seen = record.files if record else {}
    return {
        name: seen[name].sha256 for name in wanted.keys() & seen if seen[name].head == wanted[name]
    }


def _fetch(
    job: _Job,
    at: Prefix,
    now: Mapping[str, Head],
    wanted: Mapping[str, Head],
    *,
    expected: Mapping[str, str],
    texts: Mapping[str, bytes],
) -> Synced:
    """Fetch, verify and publish ``wanted``; ``now`` is all that was seen at the source."""
    sizes = {name: head.bytes for name, head in wanted.items()}
    versions = {name: [head.etag, head.version_id] for name, head in wanted.items()}
    own = job.partials / files.digest([sizes, versions])
    for other in job.partials.iterdir() if job.partials.is_dir() else ():
        if other != own:  # of a version that is gone: it would hold the room of this one
            shutil.rmtree(other)
    partial = half.prepare(own, sizes)
    kept = sum(piece.stop - piece.start for piece in partial.kept)
    missing = sum(sizes.values()) - kept
    if kept:
        job.on_note(f"going on with a download that was cut: {missing} bytes are missing")
    digests = parts.download(at, wanted, partial, _counter(missing, job.on_progress))
    hashes = {name: digest.sha256 for name, digest in digests.items()}
    try:
        art.check_hashes(at.shown, hashes, expected)
        _check_offered(at.shown, wanted, digests, known=expected)
    except InputError:
        shutil.rmtree(partial.folder)  # or the same bytes would be kept, and refused, for ever
        raise
    if prefix.heads(at, now) != now:
        raise prefix.changed(at.shown)
    _keep_beside(partial.files, texts)
    table = art.file_table(hashes, sizes)
    tree = art.tree_hash(table)
    fetched = Synced((job.dest / tree).resolve(), tree, table, bytes_fetched=missing)
    # first the record: it is no use to a reader, and a sync killed here ends with what is fetched
    _remember(job, now, fetched, texts, looks=partial.files)
    _publish(job, partial.files, tree, texts)
    return fetched


def _check_offered(
    where: str,
    wanted: Mapping[str, Head],
    digests: Mapping[str, Digests],
    *,
    known: Mapping[str, str],
) -> None:
    """At first sight, hold the bytes against the digest that S3 has of them, where it has one."""
    for name, head in wanted.items():
        if name in known or head.offers is None or digests[name].offered == head.offers[1]:
            continue
        algorithm, digest = head.offers
        raise InputError(
            f"{where}, {name}: {algorithm} is {digests[name].offered}, S3 says {digest}; the body "
            "was altered: run it again (a server whose ETag is no MD5 needs a manifest.json)"
        )


def _remember(
    job: _Job,
    now: Mapping[str, Head],
    artifact: Artifact,
    texts: Mapping[str, bytes],
    *,
    looks: Path | None = None,
) -> None:
    """Record which versions were seen, and the sha256 of their bytes."""
    hashes = dict(artifact.files.select("file", "sha256").iter_rows())
    hashes |= {name: files.sha256_bytes(text) for name, text in texts.items()}
    heads = {name: head for name, head in now.items() if name in hashes}
    record = records.make_record(job.source, artifact.tree_hash, heads, hashes)
    stats = records.stats_of(looks or artifact.path)
    records.write_record(job.record, records.with_stats(record, stats))


def _from_folder(job: _Job, source: Path) -> Synced:
    present, texts = folders.names_in(source), folders.texts_of(source, job.asides)
    manifest = art.manifest_in(str(source), texts[MANIFEST]) if MANIFEST in texts else None
    names = art.artifact_files(str(source), present, manifest)
    expected = folders.hash_files(source, names)
    art.check_hashes(str(source), expected, manifest or {})
    known = _whole(job.dest / art.hash_of(expected))
    if known:
        _adopt(job, known.path, texts)
        return known
    shutil.rmtree(job.partials, ignore_errors=True)
    sizes = folders.sizes_of(source, names)
    partial = half.prepare(job.partials / "copy", sizes)
    count = _counter(sum(sizes.values()), job.on_progress)
    hashes = {n: folders.copy_file(source / n, partial.files / n, count) for n in names}
    art.check_hashes(str(source), hashes, expected)
    _keep_beside(partial.files, texts)
    table = art.file_table(hashes, sizes)
    tree = art.tree_hash(table)
    _publish(job, partial.files, tree, texts)
    return Synced((job.dest / tree).resolve(), tree, table, bytes_fetched=sum(sizes.values()))


def _publish(job: _Job, fetched: Path, tree: str, texts: Mapping[str, bytes]) -> None:
    """Make ``fetched`` the folder ``dest/<tree>``, unless an intact one is there.

    An altered one is put aside first: for that moment readers find no folder, never a mixture.
    """
    folder = job.dest / tree
    if folder.exists():
        if _whole(folder):
            _adopt(job, folder, texts)
            return
        aside = job.partials / "altered"
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
    files.move_folder(fetched, folder)


def _flip(link: Path, tree: str) -> None:
    if not (link.is_symlink() and link.readlink() == Path(tree)):
        files.point(link, tree)


def _counter(total: int, on_progress: OnProgress) -> Callable[[int], None]:
    done, lock = 0, threading.Lock()

    def count(n_bytes: int) -> None:
        nonlocal done
        with lock:
            done = min(done + n_bytes, total)
            on_progress(done, total)

    return count
