"""The plan of a dump: everything that can go wrong cheaply, and the dump's identity.

Belongs: checking options, model files, questionnaire and images before the first forward pass.
Does not: the forward pass (``dump``); choosing which rows are a shard's (``dataset``).
Concept: two dumps with equal identity differ by float noise only (another batch size, device or
torch), so the second need not be computed.
Labels are no part of it and neither are other shards' rows: that is why new labels never cost GPU
time, and a new image costs one shard. The parts are kept in readable form, to answer "why is this
stale, and what would it cost?".
N = rows of the shard, F = questionnaire features.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from dagster_project.lib import files, tables
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.inference import checkpoint, preprocess, questionnaire
from dagster_project.lib.inference.checkpoint import ModelSpec
from dagster_project.lib.inference.gpu_lease import DEVICES
from dagster_project.lib.inference.precision import DTYPES
from dagster_project.lib.inference.questionnaire import FeatureSchema
from dagster_project.lib.inference.views import view_names
from dagster_project.lib.progress import OnProgress, silent

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

CODE_VERSION = "2"
"""Raise it whenever equal inputs would give other numbers than before."""
_HASHERS = 4
_CHUNK = 512
"""Rows that are hashed and encoded at a time: memory does not grow with the shard."""


@dataclass(frozen=True)
class DumpOptions:
    """How to dump.

    Attributes
    ----------
    null_fields : fields unknown in production; None means those of the five that the app does not
        collect which the model's schema has. Names that are given must be in the schema.
    tta : also see the flipped image; ``probs`` is then the mean of both.
    batch_size : images a forward pass.
    dtype : of weights and activations (``precision``); ``bfloat16`` moves probabilities by up to
        3e-3.
    device : ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.
    segment_rows : rows a segment, the most that a killed dump loses.
    embeddings : also keep the encoder's output of the unflipped image (``embedding_table``).
    """

    null_fields: tuple[str, ...] | None = None
    tta: bool = True
    batch_size: int = 64
    dtype: str = "float32"
    device: str = "auto"
    segment_rows: int = 512
    embeddings: bool = False


@dataclass(frozen=True)
class DumpPlan:
    """A checked dump, ready to run.

    Attributes
    ----------
    rows : (N,) ``image_uuid, image_path, patient_id, sha256`` (null where unreadable).
    answers : (N,) the questionnaire's columns as they are in the dataset, all allowed.
    null_fields : as they are used.
    identity : 16 hex digits over ``identity_parts``.
    """

    model_dir: Path
    tree_hash: str
    dataset_dir: Path
    spec: ModelSpec
    options: DumpOptions
    rows: pl.DataFrame
    split: str | None
    shard: int
    n_shards: int
    answers: pl.DataFrame
    null_fields: tuple[str, ...]
    identity: str
    identity_parts: Mapping[str, str]


def plan_dump(
    *,
    model_dir: Path,
    tree_hash: str,
    dataset_dir: Path,
    rows: pl.DataFrame,
    shard: int,
    n_shards: int,
    options: DumpOptions | None = None,
    on_progress: OnProgress = silent,
) -> DumpPlan:
    """Check everything that needs no network, and compute the identity.

    Parameters
    ----------
    model_dir, tree_hash : a verified artifact and its hash (``model_store``).
    dataset_dir : what ``image_path`` is relative to.
    rows : **this shard's** rows of ``dataset.dataset_index``; a label column is ignored.
    shard, n_shards : zero-based, for the record.
    on_progress : called with images hashed and images in all.

    Raises
    ------
    InputError
        Options out of range, an incomplete artifact, a field without a column, an answer that is
        not allowed. An unreadable image is none: it becomes a row with its error.
    """
    options = options or DumpOptions()
    model_dir = model_dir.resolve()  # `current` may flip to another model before it is loaded
    _check_options(options, shard, n_shards)
    spec = checkpoint.read_spec(model_dir)
    if not dataset_dir.is_dir():
        raise InputError(f"{dataset_dir}: no such dataset folder")
    tables.require_columns("manifest", rows.columns, ["image_uuid", "image_path", "patient_id"])
    null_fields = options.null_fields
    if null_fields is None:
        null_fields = questionnaire.production_null_fields(spec.schema)
    questionnaire.check_fields(spec.schema, rows.columns, null_fields)
    answers = rows.select("image_uuid", *spec.schema.names)
    digest = _digest_answers(spec.schema, answers)
    kept, images = _hash_images(dataset_dir, rows, on_progress)
    split = ",".join(rows["split"].unique().sort()) if "split" in rows.columns else None
    parts = {
        "model": tree_hash,
        "images": files.digest([split, images]),
        "questionnaire": digest,
        "preprocess": preprocess_digest(spec),
        "dtype": options.dtype,
        "views": ",".join(view_names(tta=options.tta)),
        "null_fields": ",".join(sorted(null_fields)),
        "shard": f"{shard}/{n_shards}",
        "code_version": CODE_VERSION,
        # only where they are asked for: dumps without stay what they are
        **({"embeddings": "float16"} if options.embeddings else {}),
    }
    return DumpPlan(
        model_dir=model_dir,
        tree_hash=tree_hash,
        dataset_dir=dataset_dir,
        spec=spec,
        options=options,
        rows=kept,
        split=split,
        shard=shard,
        n_shards=n_shards,
        answers=answers,
        null_fields=null_fields,
        identity=files.digest(parts),
        identity_parts=parts,
    )


def preprocess_digest(spec: ModelSpec) -> str:
    """16 hex digits over what is done to the pixels."""
    return files.digest(spec.config["preprocess"])


def shapings(
    plan: DumpPlan, first: int, last: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(last - first, F) float32 twice: the production-shaped and the full questionnaires."""
    answers = plan.answers[first:last]
    production = questionnaire.encode(plan.spec.schema, answers, null_fields=plan.null_fields)
    return production, questionnaire.encode(plan.spec.schema, answers)


def _check_options(options: DumpOptions, shard: int, n_shards: int) -> None:
    for name, value, allowed in (
        ("dtype", options.dtype, DTYPES),
        ("device", options.device, DEVICES),
    ):
        if value not in allowed:
            raise InputError(f"dump, {name}: got {value!r}; allowed are {some(allowed, 4)}")
    for name in ("batch_size", "segment_rows"):
        if getattr(options, name) < 1:
            raise InputError(f"dump, {name}: got {getattr(options, name)}; at least 1")
    if not 0 <= shard < n_shards:
        raise InputError(f"dump, shard: got {shard}/{n_shards}; 0/{n_shards} is the first")


def _digest_answers(schema: FeatureSchema, answers: pl.DataFrame) -> str:
    """16 hex digits over the encoded answers; one that is not allowed is an error."""
    sink = hashlib.sha256()
    for first in range(0, answers.height, _CHUNK):
        sink.update(questionnaire.encode(schema, answers[first : first + _CHUNK]).tobytes())
    return sink.hexdigest()[:16]


def _hash_images(
    dataset_dir: Path, rows: pl.DataFrame, on_progress: OnProgress
) -> tuple[pl.DataFrame, str]:
    """The plan's rows, and 16 hex digits over ids, patients, contents and what is unreadable."""

    def content(path: str) -> tuple[str | None, str]:
        try:
            digest = files.sha256_bytes(preprocess.read_bytes(dataset_dir / path))
        except preprocess.DecodeError as error:
            return None, str(error)
        return digest, digest

    sink = hashlib.sha256()
    hashes = [pl.Series("sha256", [], dtype=pl.String)]
    with ThreadPoolExecutor(_HASHERS) as pool:
        for first in range(0, rows.height, _CHUNK):
            on_progress(first, rows.height, "hashing images")
            chunk = rows[first : first + _CHUNK]
            found = list(pool.map(content, chunk["image_path"]))
            names = chunk.select("image_uuid", "patient_id").iter_rows()
            for (uuid, patient), (_, text) in zip(names, found, strict=True):
                sink.update(files.canonical_json([uuid, patient, text]).encode())
            hashes.append(pl.Series("sha256", [digest for digest, _ in found], dtype=pl.String))
    on_progress(rows.height, rows.height, "hashing images")
    kept = rows.select("image_uuid", "image_path", "patient_id").with_columns(pl.concat(hashes))
    return kept, sink.hexdigest()[:16]
