"""The table of a dump: its columns, what it says of itself, and its rows.

Belongs: the written form of a shard, in one place for pieces and whole.
Does not: computing values (``engine``), files (``segments``, ``lib.tables``), reading a table back
(``probability_table``).
N = rows, K = classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dagster_project.lib import tables
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


def rows_table(
    plan: DumpPlan,
    span: Span,
    values: Mapping[str, npt.NDArray[np.float32]],
    errors: Sequence[str | None],
) -> pa.Table:
    """Rows [first, last) of the plan.

    Parameters
    ----------
    values : ``{view: (rows, K) float32}``; what stands where there is an error becomes null.
    errors : why a row has no probabilities, or None.
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
    return pa.Table.from_arrays(columns, schema=schema(plan))


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
