"""Transfer from S3: all files in pieces, several at a time, hashed while later ones come.

Belongs: ranged GETs of one version, trying again, hashing in order.
Does not: which files (``prefix``), what survives a killed process (``partial``), trust (``store``).
Concept: a piece is asked for with ``IfMatch``, and its answer must say that it is that piece of
that object: status 206, this range, this ETag, this version. A body that is cut or stalls is asked
for again from the byte it reached. The files' hashes are computed here, in order, from what was
written, while later pieces are still on their way.
"""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from dagster_project.lib import files, s3
from dagster_project.lib.errors import InputError
from dagster_project.lib.model_store import partial as half
from dagster_project.lib.model_store.partial import Partial, Piece
from dagster_project.lib.model_store.prefix import THREADS, Head, Prefix, changed, one_version


@dataclass(frozen=True)
class Digests:
    """sha256 of a file as it was written, and the digest that S3 offers for it, if any."""

    sha256: str
    offered: str | None


@dataclass
class _Transfer:
    """What the threads share: where from, where to, and the first fault, which stops them all."""

    at: Prefix
    heads: Mapping[str, Head]
    partial: Partial
    on_bytes: Callable[[int], None]
    stop: threading.Event = field(default_factory=threading.Event)
    faults: list[BaseException] = field(default_factory=list)


class _StoppedError(Exception):
    """Another thread has failed."""


def download(
    at: Prefix, heads: Mapping[str, Head], partial: Partial, on_bytes: Callable[[int], None]
) -> dict[str, Digests]:
    """Complete the half download ``partial`` of ``heads``, and hash every file.

    Parameters
    ----------
    at, heads : which objects, in which version.
    partial : room for them, with the pieces that need not come again.
    on_bytes : called with the bytes that came since the last call, from several threads.

    Raises
    ------
    InputError
        Refused, changed meanwhile, cut more often than is worth trying, or not what was asked.
    """
    transfer = _Transfer(at, heads, partial, on_bytes)
    sizes = {name: head.bytes for name, head in heads.items()}
    with ThreadPoolExecutor(THREADS) as pool, _stopping(transfer, pool):
        coming = {
            piece: pool.submit(_fetch, transfer, piece)
            for piece in half.pieces(sizes)
            if piece not in partial.kept
        }
        return {name: _hash(transfer, name, coming) for name in heads}


@contextmanager
def _stopping(transfer: _Transfer, pool: ThreadPoolExecutor) -> Iterator[None]:
    """Stop all threads when the body fails, and raise what failed first."""
    try:
        yield
    except BaseException as error:
        transfer.stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        if isinstance(error, Exception) and transfer.faults:
            raise transfer.faults[0] from None
        raise


def _hash(transfer: _Transfer, name: str, coming: Mapping[Piece, Future[None]]) -> Digests:
    head, path = transfer.heads[name], transfer.partial.files / name
    sha256, other = hashlib.sha256(), _hasher(head.offers[0] if head.offers else "")
    for piece in half.pieces({name: head.bytes}):
        if piece in coming:
            coming[piece].result()
        for chunk in half.read_piece(path, piece):
            sha256.update(chunk)
            if other:
                other.update(chunk)
        half.start_writing_out(path, piece)
    offers_sha256 = head.offers is not None and head.offers[0] == "sha256"
    return Digests(sha256.hexdigest(), _offered(sha256 if offers_sha256 else other))


def _offered(hasher: _Hasher | None) -> str | None:
    return hasher.hexdigest() if hasher else None


class _Hasher(Protocol):
    def update(self, data: memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


class _Crc32:
    value = 0

    def update(self, data: memoryview, /) -> None:
        self.value = zlib.crc32(data, self.value)

    def hexdigest(self) -> str:
        return f"{self.value:08x}"


def _hasher(algorithm: str) -> _Hasher | None:
    """What computes the digest that S3 offers; sha256 is computed anyway."""
    if algorithm == "crc32":
        return _Crc32()
    return hashlib.md5(usedforsecurity=False) if algorithm == "md5" else None


def _fetch(transfer: _Transfer, piece: Piece) -> None:
    """Write one piece and say so in the journal; the first fault of all threads is kept."""
    try:
        where = f"{transfer.at.shown}, {piece.file}"
        with one_version(where):
            crc = _write(transfer, piece, where)
        half.record_piece(transfer.partial, piece, crc)
    except _StoppedError:
        raise
    except BaseException as error:
        transfer.faults.append(error)
        transfer.stop.set()
        raise


def _write(transfer: _Transfer, piece: Piece, where: str) -> int:
    """Fetch ``piece``, going on after each cut where it happened; its CRC-32."""
    crc, at, waits = 0, piece.start, s3.waits()
    handle = os.open(transfer.partial.files / piece.file, os.O_WRONLY)
    try:
        while at < piece.stop:
            begun = at
            try:
                for chunk in _body(transfer, Piece(piece.file, at, piece.stop), where):
                    _pwrite(handle, chunk, at)
                    crc = zlib.crc32(chunk, crc)
                    at += len(chunk)
                    transfer.on_bytes(len(chunk))
            except Exception as error:
                if not s3.transient(error):
                    raise
                if at - begun >= files.CHUNK:  # it did come on: not in vain
                    waits = s3.waits()
                wait = next(waits, None)
                if wait is None:
                    raise
                transfer.stop.wait(wait)
    finally:
        os.close(handle)
    return crc


def _pwrite(handle: int, chunk: bytes, at: int) -> None:
    view = memoryview(chunk)
    while view:
        n = os.pwrite(handle, view, at)
        view, at = view[n:], at + n


def _body(transfer: _Transfer, piece: Piece, where: str) -> Iterator[bytes]:
    """The bytes of ``piece`` as they come, all of them or an error."""
    if transfer.stop.is_set():
        raise _StoppedError
    head = transfer.heads[piece.file]
    answer = transfer.at.client.get_object(
        Bucket=transfer.at.bucket,
        Key=transfer.at.key + piece.file,
        Range=f"bytes={piece.start}-{piece.stop - 1}",
        IfMatch=head.etag,
    )
    body = answer["Body"]
    try:
        _check_answer(answer, piece, head, where)
        while chunk := body.read(files.CHUNK):
            if transfer.stop.is_set():
                raise _StoppedError
            yield chunk
    finally:
        body.close()


def _check_answer(answer: Any, piece: Piece, head: Head, where: str) -> None:
    """Refuse an answer that is not this piece of this object."""
    if (answer.get("ETag"), answer.get("VersionId")) != (head.etag, head.version_id):
        raise changed(where)
    status = answer["ResponseMetadata"]["HTTPStatusCode"]
    asked = f"bytes {piece.start}-{piece.stop - 1}/{head.bytes}"
    got = answer.get("ContentRange", "no range")
    length = piece.stop - piece.start
    if status != 206 or got != asked or answer["ContentLength"] != length:
        raise InputError(
            f"{where}: asked for {asked}, the server answered {status} with {got} "
            f"({answer['ContentLength']} bytes); it does not serve ranges as S3 does: use another"
        )
