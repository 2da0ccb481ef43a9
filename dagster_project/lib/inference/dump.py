"""The dump: a shard's images and questionnaires in, four views of probabilities out.

Belongs: running a plan with resume, assembling the table, publishing it, reusing an equal one.
Does not: checks and identity (``plan``), the views (``views``), labels (a dump has none).
Concept: rows are computed in fixed batches inside fixed segments, so an interrupted dump gives
the bytes of an uninterrupted one. Rows are independent up to float noise: another batch size
moves a probability by less than 1e-6 in float32.
N = rows, K = classes.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dagster_project.lib import files, model_store, tables
from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import checkpoint, gpu_lease, preprocess, segments, views
from dagster_project.lib.inference.plan import (
    CODE_VERSION,
    DumpOptions,
    DumpPlan,
    plan_dump,
    preprocess_digest,
)
from dagster_project.lib.inference.preprocess import DecodeError
from dagster_project.lib.inference.segments import discard_segments
from dagster_project.lib.progress import OnProgress, silent

if TYPE_CHECKING:
    import pyarrow as pa

    from dagster_project.lib.inference.checkpoint import LoadedModel
    from dagster_project.lib.inference.preprocess import Pixels

__all__ = [
    "DumpOptions",
    "DumpPlan",
    "discard_segments",
    "dump_to",
    "plan_dump",
    "published_identity",
    "run_dump",
]

Span = tuple[int, int]
"""Rows [first, last) of the plan."""
_DECODERS = 2
_BATCHES_AHEAD = 2


def dump_to(
    plan: DumpPlan, out: Path, segments_dir: Path, *, on_progress: OnProgress = silent
) -> tuple[pa.Table, bool]:
    """Publish the dump at ``out``, or find an equal one there.

    Equal has the same identity and, where one is asked for, the same kind of device.

    Returns
    -------
    The table, and whether it was already there (then nothing was computed).
    """
    found = _published(plan, out)
    if found is not None:
        on_progress(plan.rows.height, plan.rows.height)
        return found, True
    table = run_dump(plan, segments_dir, on_progress=on_progress)
    tables.write_arrow(out, table)
    discard_segments(segments_dir, plan.identity)
    return table, False


def _published(plan: DumpPlan, out: Path) -> pa.Table | None:
    if published_identity(out) != plan.identity:
        return None
    try:
        table = tables.read_arrow(out)
    except InputError:  # a sound footer over damaged pages: computed again
        return None
    asked = plan.options.device
    return table if asked in ("auto", tables.metadata_of(table).get("device")) else None


def published_identity(path: Path) -> str | None:
    """The identity in the footer of a dump, or None if there is no readable dump at ``path``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError, ValueError):
        return None
    identity = metadata.get(b"identity")
    return identity.decode() if identity else None


def run_dump(plan: DumpPlan, segments_dir: Path, *, on_progress: OnProgress = silent) -> pa.Table:
    """Compute what is not yet in ``segments_dir/<identity>/`` and return the whole dump.

    Parameters
    ----------
    plan : from :func:`plan_dump`.
    segments_dir : finished pieces; :func:`discard_segments` once the result is published.
    on_progress : called with rows done and rows in all.

    Returns
    -------
    (N,) rows in the plan's order: ``image_uuid, patient_id``, the views as fixed-size lists of K
    float32 (null where there is an error), ``error``. No labels. Key-value metadata says of what
    and how.

    Raises
    ------
    InputError
        The artifact or an image is no longer what was planned; no GPU where one was asked for.
    """
    folder = segments_dir / plan.identity
    spans = _spans(0, plan.rows.height, plan.options.segment_rows)
    with gpu_lease.lease_device(plan.options.device) as device:
        found = (_read(plan, folder, n, span, device) for n, span in enumerate(spans))
        todo = {n: spans[n] for n, part in enumerate(found) if part is None}
        if todo:
            _compute(plan, folder, todo, device, on_progress)
    return _compact(plan, folder, spans, device)


def _compute(
    plan: DumpPlan, folder: Path, todo: dict[int, Span], device: str, on_progress: OnProgress
) -> None:
    import torch

    from dagster_project.lib.inference.architectures import sized_threads

    found = model_store.read_artifact(plan.model_dir).tree_hash
    if found != plan.tree_hash:
        raise InputError(f"{plan.model_dir}: tree hash is {found}, planned was {plan.tree_hash}")
    model = checkpoint.load_model(plan.model_dir, device=device)
    model.module.to(getattr(torch, plan.options.dtype))
    done = plan.rows.height - sum(last - first for first, last in todo.values())
    batches = {n: _spans(first, last, plan.options.batch_size) for n, (first, last) in todo.items()}
    on_progress(done, plan.rows.height)
    with (
        sized_threads(model.module),
        ThreadPoolExecutor(_DECODERS) as pool,
        torch.inference_mode(),
    ):
        images = _read_ahead(plan, [span for spans in batches.values() for span in spans], pool)
        for number, spans in batches.items():
            parts = []
            for span in spans:
                parts.append(_batch(plan, model, span, next(images)))
                done += span[1] - span[0]
                on_progress(done, plan.rows.height)
            table = _concatenated(parts)
            segments.write_segment(folder, number, table, layout=_layout(plan, device))


def _batch(
    plan: DumpPlan, model: LoadedModel, span: Span, images: Sequence[Pixels | DecodeError]
) -> pa.Table:
    """The rows of one forward pass; unreadable images are left out of it, not out of the table."""
    import torch

    errors = [str(image) if isinstance(image, DecodeError) else None for image in images]
    usable = [image for image in images if not isinstance(image, DecodeError)]
    names = views.view_names(tta=plan.options.tta)
    width = len(plan.spec.classes)
    values = {name: np.zeros((len(images), width), dtype=np.float32) for name in names}
    if usable:
        good = np.flatnonzero([error is None for error in errors])
        device, dtype = model.device, getattr(torch, plan.options.dtype)
        pixels = torch.from_numpy(np.stack(usable)).to(device)
        answers = [
            torch.from_numpy(shaping[span[0] : span[1]][good]).to(device)
            for shaping in (plan.production, plan.full)
        ]
        computed = views.compute_views(
            model.module,
            preprocess.normalise(pixels, model.preprocess).to(dtype),
            *answers,
            tta=plan.options.tta,
        )
        for name in names:
            values[name][good] = computed[name]
    finite = np.all([np.isfinite(values[name]).all(axis=1) for name in names], axis=0)
    for row in np.flatnonzero(~finite):
        errors[row] = "the network's output is not finite"
    return _table(plan, span, values, errors)


def _table(
    plan: DumpPlan,
    span: Span,
    values: dict[str, np.ndarray[tuple[int, int], np.dtype[np.float32]]],
    errors: Sequence[str | None],
) -> pa.Table:
    import pyarrow as pa

    rows = plan.rows[span[0] : span[1]]
    failed = pa.array([error is not None for error in errors])
    width = len(plan.spec.classes)
    lists = [
        pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), width, mask=failed)
        for matrix in values.values()
    ]
    columns = [
        pa.array(rows["image_uuid"].to_list(), pa.string()),
        pa.array(rows["patient_id"].to_list(), pa.string()),
        *lists,
        pa.array(errors, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=_schema(plan))


def _schema(plan: DumpPlan) -> pa.Schema:
    import pyarrow as pa

    view = pa.list_(pa.field("element", pa.float32()), len(plan.spec.classes))
    return pa.schema(
        [
            ("image_uuid", pa.string()),
            ("patient_id", pa.string()),
            *((name, view) for name in views.view_names(tta=plan.options.tta)),
            ("error", pa.string()),
        ]
    )


def _compact(plan: DumpPlan, folder: Path, spans: Sequence[Span], device: str) -> pa.Table:
    found = [_read(plan, folder, n, span, device) for n, span in enumerate(spans)]
    parts = [part for part in found if part is not None]
    if len(parts) != len(spans):
        raise InputError(f"{folder}: segments vanished while they were joined; dump again")
    table = _concatenated(parts) if parts else _schema(plan).empty_table()
    metadata = {
        "classes": json.dumps(plan.spec.classes),
        "model_tree_hash": plan.tree_hash,
        "identity": plan.identity,
        "shard": str(plan.shard),
        "n_shards": str(plan.n_shards),
        "tta": "true" if plan.options.tta else "false",
        "dtype": plan.options.dtype,
        "device": device,
        "null_fields": json.dumps(plan.null_fields),
        "views": json.dumps(views.view_names(tta=plan.options.tta)),
        "preprocess_digest": preprocess_digest(plan.spec),
        "code_version": CODE_VERSION,
    }
    split = {} if plan.split is None else {"split": plan.split}
    return tables.with_metadata(table, metadata | split)


def _concatenated(parts: Sequence[pa.Table]) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables(parts).combine_chunks()


def _read(plan: DumpPlan, folder: Path, number: int, span: Span, device: str) -> pa.Table | None:
    ids = plan.rows["image_uuid"][span[0] : span[1]].to_list()
    layout, schema = _layout(plan, device), _schema(plan)
    return segments.read_segment(folder, number, ids, layout=layout, schema=schema)


def _layout(plan: DumpPlan, device: str) -> str:
    """What decides which rows share a forward pass, and the kind of device that it runs on."""
    return f"{plan.options.segment_rows} rows, batches of {plan.options.batch_size}, {device}"


def _spans(first: int, last: int, size: int) -> list[Span]:
    return [(start, min(start + size, last)) for start in range(first, last, size)]


def _read_ahead(
    plan: DumpPlan, spans: Sequence[Span], pool: ThreadPoolExecutor
) -> Iterator[list[Pixels | DecodeError]]:
    """The resized images of each span in turn, decoded while the network works on earlier ones."""
    pending: deque[list[Future[Pixels | DecodeError]]] = deque()
    waiting = iter(spans)
    for _ in spans:
        while len(pending) <= _BATCHES_AHEAD and (span := next(waiting, None)) is not None:
            rows = plan.rows[span[0] : span[1]].iter_rows(named=True)
            pending.append(
                [pool.submit(_load, plan, row["image_path"], row["sha256"]) for row in rows]
            )
        yield [future.result() for future in pending.popleft()]


def _load(plan: DumpPlan, image_path: str, sha256: str | None) -> Pixels | DecodeError:
    """One resized image, or why there is none; other bytes than those planned are an error."""
    try:
        data = preprocess.read_bytes(plan.dataset_dir / image_path)
    except DecodeError as error:
        if sha256 is None:
            return error
        raise InputError(f"{image_path}: the image vanished during the dump; dump again") from None
    if files.sha256_bytes(data) != sha256:
        raise InputError(f"{image_path}: the image changed during the dump; dump again")
    try:
        return preprocess.resize(preprocess.decode(data), plan.spec.preprocess)
    except DecodeError as error:
        return error
