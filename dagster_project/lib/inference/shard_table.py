"""The table of a dump: its columns, what it says of itself, and its rows.

Belongs: the written form of a shard, in one place for pieces and whole.
Does not: computing values (``engine``), files (``segments``, ``lib.tables``), reading a table back
(``probability_table``, ``embedding_table``).
Concept: a piece holds probabilities and, where they are asked for, embeddings; published, they are
two files.
N = rows, K = classes, D = width of the encoder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dagster_project.lib import tables
from dagster_project.lib.embedding_table import EMBEDDING, TOO_LARGE
from dagster_project.lib.inference import views
from dagster_project.lib.inference.plan import CODE_VERSION, preprocess_digest

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from dagster_project.lib.inference.decoding import Span
    from dagster_project.lib.inference.plan import DumpPlan


def schema(plan: DumpPlan, kind: str | None = None) -> pa.Schema:
    """``image_uuid, patient_id``, the views as fixed-size lists of K float32, ``error``.

    With ``kind``, the device that computed it, the schema carries what the file says of itself.
    """
    import pyarrow as pa

    view = pa.list_(pa.field("element", pa.float32()), len(plan.spec.classes))
    columns = pa.schema(
        [
            ("image_uuid", pa.string()),
            ("patient_id", pa.string()),
            *((name, view) for name in views.view_names(tta=plan.options.tta)),
            ("error", pa.string()),
        ]
    )
    return columns if kind is None else columns.with_metadata(_metadata(plan, kind))


def piece_schema(plan: DumpPlan) -> pa.Schema:
    """The columns of a piece: :func:`schema`, and the embedding (a list) where it is asked for."""
    import pyarrow as pa

    columns = schema(plan)
    if not plan.options.embeddings:
        return columns
    return columns.append(pa.field(EMBEDDING, pa.list_(pa.float16())))


def embedding_schema(plan: DumpPlan, kind: str) -> pa.Schema:
    """``image_uuid, embedding`` (D float16 or null), ``error`` (why there is none)."""
    import pyarrow as pa

    columns = pa.schema(
        [
            ("image_uuid", pa.string()),
            (EMBEDDING, pa.list_(pa.float16())),
            ("error", pa.string()),
        ]
    )
    return columns.with_metadata(_metadata(plan, kind))


def embedding_rows(piece: pa.Table) -> pa.Table:
    """The part of a piece that is published as :func:`embedding_schema`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lost = pc.and_(pc.is_null(piece.column(EMBEDDING)), pc.is_null(piece.column("error")))
    reason = pc.if_else(lost, pa.scalar(TOO_LARGE), piece.column("error"))
    table = piece.select(["image_uuid", EMBEDDING])
    return table.append_column("error", reason).replace_schema_metadata(None)


def rows_table(
    plan: DumpPlan,
    span: Span,
    values: Mapping[str, npt.NDArray[np.float32]],
    errors: Sequence[str | None],
    embeddings: npt.NDArray[np.float16] | None = None,
) -> pa.Table:
    """Rows [first, last) of the plan.

    Parameters
    ----------
    values : ``{view: (rows, K) float32}``; what stands where there is an error becomes null.
    errors : why a row has no probabilities, or None.
    embeddings : (rows, D); a row that is not finite becomes null. None: no row has one.
    """
    import pyarrow as pa

    rows = plan.rows[span[0] : span[1]]
    failed = pa.array([error is not None for error in errors])
    lists = [
        pa.FixedSizeListArray.from_arrays(
            pa.array(matrix.ravel()), len(plan.spec.classes), mask=failed
        )
        for matrix in values.values()
    ]
    columns = [
        pa.array(rows["image_uuid"].to_list(), pa.string()),
        pa.array(rows["patient_id"].to_list(), pa.string()),
        *lists,
        pa.array(errors, pa.string()),
    ]
    if plan.options.embeddings:
        columns.append(_embedding_lists(embeddings, errors))
    return pa.Table.from_arrays(columns, schema=piece_schema(plan))


def _embedding_lists(
    embeddings: npt.NDArray[np.float16] | None, errors: Sequence[str | None]
) -> pa.Array:
    import pyarrow as pa

    if embeddings is None:
        return pa.nulls(len(errors), pa.list_(pa.float16()))
    failed = np.array([error is not None for error in errors])
    lacking = failed | ~np.isfinite(embeddings).all(axis=1)
    lengths = np.where(lacking, 0, embeddings.shape[1])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat = pa.array(embeddings[~lacking].ravel(), pa.float16())
    return pa.ListArray.from_arrays(offsets, flat, mask=pa.array(lacking))


def joined(parts: Sequence[pa.Table], metadata: Mapping[str, str]) -> pa.Table:
    """One table of several, in one chunk, so that equal rows give equal bytes."""
    import pyarrow as pa

    return tables.with_metadata(pa.concat_tables(parts).combine_chunks(), metadata)


def _metadata(plan: DumpPlan, kind: str) -> dict[str, str]:
    metadata = {
        "classes": json.dumps(plan.spec.classes),
        "model_tree_hash": plan.tree_hash,
        "identity": plan.identity,
        "shard": str(plan.shard),
        "n_shards": str(plan.n_shards),
        "tta": "true" if plan.options.tta else "false",
        "dtype": plan.options.dtype,
        "device": kind,
        "null_fields": json.dumps(plan.null_fields),
        "views": json.dumps(views.view_names(tta=plan.options.tta)),
        "preprocess_digest": preprocess_digest(plan.spec),
        "exif_orientation": "apply" if plan.spec.preprocess.upright else "ignore",
        "code_version": CODE_VERSION,
    }
    return metadata if plan.split is None else {**metadata, "split": plan.split}
