"""The dump: a shard's images and questionnaires in, four views of probabilities out.

Belongs: running a plan with resume, publishing its table, reusing an equal one, here or elsewhere.
Does not: checks and identity (``plan``), pixels (``decoding``), the device (``engine``), what the
table looks like (``shard_table``), labels (a dump has none).
Concept: rows are computed in fixed batches inside fixed segments, so an interrupted dump gives
the bytes of an uninterrupted one. Rows are independent up to float noise: another batch size
moves a probability by less than 1e-6 in float32. One segment is in memory at a time, so a dump of
100,000 rows needs no more than one of 10,000. Embeddings are a second file, published first: where
the probabilities are new, so are they.
N = rows, K = classes, D = width of the encoder.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dagster_project.lib import files, model_store, tables
from dagster_project.lib.embedding_table import EMBEDDING, embeddings_beside
from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import (
    checkpoint,
    decoding,
    gpu_lease,
    precision,
    segments,
    shard_table,
    views,
)
from dagster_project.lib.inference.plan import DumpOptions, DumpPlan, plan_dump, shapings
from dagster_project.lib.inference.preprocess import DecodeError
from dagster_project.lib.inference.segments import discard_segments
from dagster_project.lib.progress import OnProgress, silent

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from dagster_project.lib.inference.decoding import Span
    from dagster_project.lib.inference.engine import Engine, Pending
    from dagster_project.lib.inference.preprocess import Pixels
    from dagster_project.lib.inference.stats import DumpStats

__all__ = [
    "DumpOptions",
    "DumpPlan",
    "Dumped",
    "discard_segments",
    "dump_to",
    "plan_dump",
    "published_identity",
    "run_dump",
]

_BATCH_SIZE = "batch_size"


@dataclass(frozen=True)
class Dumped:
    """A published dump.

    Attributes
    ----------
    path : its parquet file.
    rows, failed : images, and how many of them have an error in place of probabilities.
    without_embedding : images that have none; None where none were asked for.
    reused : an equal dump was there already, and was left as it is or copied.
    copied_from : where the equal dump lay that this is a copy of; None where it is no copy.
    stats : how it went; None where nothing had to be computed.
    """

    path: Path
    rows: int
    failed: int
    without_embedding: int | None
    reused: bool
    stats: DumpStats | None
    copied_from: Path | None = None


class _VanishedError(InputError):
    """Segments that were there are not: whoever published the same dump has removed them."""


def dump_to(
    plan: DumpPlan,
    out: Path,
    segments_dir: Path,
    *,
    equals: Sequence[Path] = (),
    on_progress: OnProgress = silent,
) -> Dumped:
    """Publish the dump at ``out``, or find an equal one there or elsewhere.

    Equal has the same identity and, where one is asked for, the same kind of device.

    Parameters
    ----------
    equals : dumps that may be equal, of other models by name: the first that is becomes ``out`` by
        a copy, without a forward pass. Any may be missing, damaged or something else.
    """
    found = _found(plan, out, equals)
    stats = None
    if found is None:
        try:
            stats = run_dump(plan, segments_dir, out, on_progress=on_progress)
        except (_VanishedError, FileNotFoundError):
            # a retry beside a driver that nobody could kill: the other one was faster
            found = _found(plan, out, equals)
            if found is None:
                raise
        discard_segments(segments_dir, plan.identity)
    without = _n_failed(embeddings_beside(out)) if plan.options.embeddings else None
    rows, failed = plan.rows.height, _n_failed(out)
    if found is None:
        return Dumped(out, rows, failed, without, reused=False, stats=stats)
    copied_from = None if found == out else found
    on_progress(rows, rows, "an equal dump was there")
    return Dumped(out, rows, failed, without, reused=True, stats=None, copied_from=copied_from)


def _found(plan: DumpPlan, out: Path, equals: Sequence[Path]) -> Path | None:
    """Where an equal dump was; one that was not at ``out`` is there now, too."""
    if _published(plan, out):
        return out
    return next(
        (path for path in equals if _published(plan, path) and _copied(plan, path, out)), None
    )


def _copied(plan: DumpPlan, source: Path, out: Path) -> bool:
    """Publish a copy of the dump at ``source``, the probabilities last as :func:`_publish` does.

    False if it was replaced or removed meanwhile.
    """
    pairs = [(source, out)]
    if plan.options.embeddings:
        pairs.insert(0, (embeddings_beside(source), embeddings_beside(out)))
    try:
        for path, target in pairs:
            with files.publish(target) as temp:
                shutil.copyfile(path, temp)
                if published_identity(temp) != plan.identity:
                    raise _VanishedError(f"{path}: another dump meanwhile")
    except (_VanishedError, FileNotFoundError):
        return False
    if not plan.options.embeddings:
        embeddings_beside(out).unlink(missing_ok=True)
    return True


def _published(plan: DumpPlan, out: Path) -> bool:
    """Whether an equal dump is at ``out``, every page of which is sound."""
    if published_identity(out) != plan.identity:
        return False
    beside = embeddings_beside(out)
    if plan.options.embeddings and published_identity(beside) != plan.identity:
        return False
    try:
        if plan.options.device not in ("auto", tables.read_metadata(out).get("device")):
            return False
        for path in (out, beside) if plan.options.embeddings else (out,):
            for _ in tables.read_arrow_parts(path):
                pass
    except InputError:  # gone, or a sound footer over damaged pages: computed again
        return False
    return True


def _n_failed(path: Path) -> int:
    parts = tables.read_arrow_parts(path, ["error"])
    return sum(len(part) - part.column("error").null_count for part in parts)


def published_identity(path: Path) -> str | None:
    """The identity in the footer of a dump, or None if there is no readable dump at ``path``."""
    if not path.is_file():
        return None
    try:
        return tables.read_metadata(path).get("identity")
    except InputError:
        return None


def run_dump(
    plan: DumpPlan, segments_dir: Path, out: Path, *, on_progress: OnProgress = silent
) -> DumpStats | None:
    """Compute what is not yet in ``segments_dir/<identity>/`` and publish the whole dump.

    Parameters
    ----------
    plan : from :func:`plan_dump`.
    segments_dir : finished pieces; :func:`discard_segments` once the result is published.
    out : parquet file of (N,) rows in the plan's order: ``image_uuid, patient_id``, the views as
        fixed-size lists of K float32 (null where there is an error), ``error``. No labels.
        Key-value metadata says of what and how. Embeddings, where they are asked for, lie beside
        it (``embedding_table``); older ones are removed where they are not.
    on_progress : called with rows done, rows in all, and where the time goes.

    Returns
    -------
    How it went; None if every segment was there.

    Raises
    ------
    InputError
        The artifact or an image is no longer what was planned; no GPU where one was asked for.
    """
    folder = segments_dir / plan.identity
    options = plan.options
    with gpu_lease.lease_device(options.device, options.dtype) as kind:
        if kind == "cpu" and options.dtype == "tf32":
            raise InputError("dtype tf32 is arithmetic of NVIDIA GPUs; use float32 on a CPU")
        pieces = _Pieces(plan, folder, kind)
        with precision.arithmetic(options.dtype):
            stats = _compute(pieces, on_progress)
    _publish(pieces, out)
    return stats


def _publish(pieces: _Pieces, out: Path) -> None:
    """Write the file of probabilities last: it is what says that a dump is there."""
    plan, beside = pieces.plan, embeddings_beside(out)
    if plan.options.embeddings:
        rows = (shard_table.embedding_rows(piece) for piece in pieces.all())
        tables.write_arrow_parts(beside, shard_table.embedding_schema(plan, pieces.kind), rows)
    columns = shard_table.schema(plan, pieces.kind)
    parts = (piece.select(columns.names) for piece in pieces.all())
    tables.write_arrow_parts(out, columns, parts)
    if not plan.options.embeddings:
        beside.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Pieces:
    """The segments of one dump on one kind of device."""

    plan: DumpPlan
    folder: Path
    kind: str

    @property
    def spans(self) -> list[Span]:
        return _spans(0, self.plan.rows.height, self.plan.options.segment_rows)

    @property
    def layout(self) -> str:
        """What decides which rows share a forward pass, and the kind of device it runs on."""
        options = self.plan.options
        return f"{options.segment_rows} rows, batches of {options.batch_size}, {self.kind}"

    def read(self, number: int, span: Span) -> pa.Table | None:
        """A finished piece, else None."""
        ids = self.plan.rows["image_uuid"][span[0] : span[1]].to_list()
        schema = shard_table.piece_schema(self.plan)
        return segments.read_segment(self.folder, number, ids, layout=self.layout, schema=schema)

    def all(self) -> Iterator[pa.Table]:
        """Every piece in turn; all must be there."""
        for number, span in enumerate(self.spans):
            table = self.read(number, span)
            if table is None:
                raise _VanishedError(f"{self.folder}: a segment vanished meanwhile; dump again")
            yield table


def _compute(pieces: _Pieces, on_progress: OnProgress) -> DumpStats | None:
    """Compute the segments that are not there."""
    from dagster_project.lib.inference.architectures import sized_threads
    from dagster_project.lib.inference.stats import Report

    plan = pieces.plan
    todo: dict[int, Span] = {}
    batch_size = plan.options.batch_size
    for number, span in enumerate(pieces.spans):
        found = pieces.read(number, span)
        if found is None:
            todo[number] = span
        else:  # memory was short when this piece was made: it would be again
            batch_size = min(batch_size, int(tables.metadata_of(found)[_BATCH_SIZE]))
    if not todo:
        return None
    engine = _engine(plan, pieces.kind, batch_size)
    rows = plan.rows.height
    report = Report(engine, rows - sum(b - a for a, b in todo.values()), rows, on_progress)
    batches = [part for span in todo.values() for part in _spans(*span, plan.options.batch_size)]
    with (
        sized_threads(engine.model.module),
        decoding.read_ahead(plan, batches, decoding.n_decoders(pieces.kind)) as images,
    ):
        for number, span in todo.items():
            table = _piece(plan, engine, span, images, report.show)
            begin = time.perf_counter()
            segments.write_segment(pieces.folder, number, table, layout=pieces.layout)
            engine.times.write += time.perf_counter() - begin
    return report.stats()


def _engine(plan: DumpPlan, kind: str, batch_size: int) -> Engine:
    from dagster_project.lib.inference.engine import Engine

    found = model_store.read_artifact(plan.model_dir)
    if found.tree_hash != plan.tree_hash:
        raise InputError(
            f"{plan.model_dir}: tree hash is {found.tree_hash}, planned was {plan.tree_hash}"
        )
    hashes = dict(found.files.select("file", "sha256").iter_rows())
    model = checkpoint.load_model(
        plan.model_dir,
        device=kind,
        dtype=plan.options.dtype,
        sha256=hashes[checkpoint.WEIGHTS],  # of the very bytes that are loaded
    )
    if plan.options.embeddings and model.module.encoder_sees_questionnaire:
        raise InputError(
            f"{plan.model_dir}: architecture {plan.spec.config['architecture']} encodes image and "
            "questionnaire together, so an image has no embedding of its own; dump without them"
        )
    return Engine(model, plan.options.tta, batch_size, plan.options.embeddings)


@dataclass(frozen=True)
class _Batch:
    """Rows under way: which, why some have no picture, and what the device is computing."""

    span: Span
    errors: list[str | None]
    pending: Sequence[Pending]


def _piece(
    plan: DumpPlan,
    engine: Engine,
    span: Span,
    images: Iterator[Sequence[Pixels | DecodeError]],
    on_rows: Callable[[int], None],
) -> pa.Table:
    """One segment; while the device works on a batch, the next is prepared."""
    parts: list[pa.Table] = []
    under_way: list[_Batch] = []

    def finish() -> None:
        batch = under_way.pop()
        parts.append(_finished(plan, engine, batch))
        on_rows(batch.span[1] - batch.span[0])

    for rows in _spans(*span, plan.options.batch_size):
        started = _started(plan, engine, rows, images)
        if under_way:
            finish()
        under_way.append(started)
    finish()
    return shard_table.joined(parts, {_BATCH_SIZE: str(engine.batch_size)})


def _started(
    plan: DumpPlan, engine: Engine, span: Span, images: Iterator[Sequence[Pixels | DecodeError]]
) -> _Batch:
    """Start the next batch; unreadable pictures are left out of it, not out of the table."""
    begin = time.perf_counter()
    found = next(images)
    engine.times.decode += time.perf_counter() - begin
    errors = [str(image) if isinstance(image, DecodeError) else None for image in found]
    usable = [image for image in found if not isinstance(image, DecodeError)]
    if not usable:
        return _Batch(span, errors, ())
    good = np.flatnonzero([error is None for error in errors])
    production, full = (answers[good] for answers in shapings(plan, *span))
    return _Batch(span, errors, engine.submit(np.stack(usable), production, full))


def _finished(plan: DumpPlan, engine: Engine, batch: _Batch) -> pa.Table:
    """The rows of a batch that was started; waits until it is computed."""
    names = views.view_names(tta=plan.options.tta)
    shape = (len(batch.errors), len(plan.spec.classes))
    values = {name: np.zeros(shape, dtype=np.float32) for name in names}
    errors = batch.errors
    embeddings: npt.NDArray[np.float16] | None = None
    if batch.pending:
        good = np.flatnonzero([error is None for error in errors])
        found = engine.collect(batch.pending)
        pooled = found.pop(EMBEDDING, None)
        if pooled is not None:
            embeddings = np.full((len(errors), pooled.shape[1]), np.nan, dtype=np.float16)
            embeddings[good] = pooled
        for name, computed in found.items():
            values[name][good] = computed
    finite = np.all([np.isfinite(values[name]).all(axis=1) for name in names], axis=0)
    for row in np.flatnonzero(~finite):
        errors[row] = "the network's output is not finite"
    return shard_table.rows_table(plan, batch.span, values, errors, embeddings)


def _spans(first: int, last: int, size: int) -> list[Span]:
    return [(start, min(start + size, last)) for start in range(first, last, size)]
