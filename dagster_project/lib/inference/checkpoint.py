"""From an artifact's folder to a network that is ready, or a line that says why not.

Belongs: reading config, schema and classes; loading exactly the network's weights; writing an
artifact.
Does not: fetching or hashing artifacts (``model_store``), the file of weights
(``safe_checkpoint``), what the network computes (``architectures``), golden cases (``golden``).
Concept: a state dict that matches only in part is silently random, so the key and shape sets must
be equal; ``golden.json`` then says whether the whole path, pixels included, is the one that was
shipped.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dagster_project.lib import files
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.inference import preprocess as pre
from dagster_project.lib.inference import questionnaire, safe_checkpoint
from dagster_project.lib.inference.golden import check_golden, make_golden
from dagster_project.lib.inference.precision import dtype_name, torch_dtype
from dagster_project.lib.inference.preprocess import Preprocess
from dagster_project.lib.inference.questionnaire import FeatureSchema
from dagster_project.lib.model_store.artifact import GOLDEN, MANIFEST, REQUIRED, write_manifest
from dagster_project.lib.probability_table import read_classes
from dagster_project.lib.signature import require_signature

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dagster_project.lib.inference.pickle_grammar import TensorRef

WEIGHTS, CONFIG, SCHEMA, LABELS = REQUIRED
_WRAPPED = ("module.", "_orig_mod.")
_T = TypeVar("_T")


@dataclass(frozen=True)
class ModelSpec:
    """What an artifact says about itself, weights aside (cheap to read: no torch)."""

    config: Mapping[str, Any]
    schema: FeatureSchema
    classes: tuple[str, ...]
    preprocess: Preprocess


@dataclass(frozen=True)
class LoadedModel(ModelSpec):
    """A network in evaluation mode on its device, with what it needs to be fed.

    Attributes
    ----------
    module : an ``nn.Module`` that is an ``architectures.Network`` (Python's types cannot say both).
    dtype : of weights and activations, one of ``precision.DTYPES``.
    """

    module: Any
    device: str
    dtype: str = "float32"


def read_spec(folder: Path) -> ModelSpec:
    """Read and check ``config.json``, ``feature_schema.json`` and ``labels.txt``."""
    require_files(folder)
    config = files.read_json(folder / CONFIG)
    return ModelSpec(
        config,
        questionnaire.read_schema(folder / SCHEMA),
        read_classes(folder / LABELS),
        pre.parse_preprocess(config),
    )


def require_files(folder: Path) -> None:
    """Raise unless the four required files are regular files in ``folder``."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; sync a model artifact there first")
    # the weights need only be there: what else they may be is refused by name when they are opened
    missing = [
        name
        for name in REQUIRED
        if not (os.path.lexists(folder / name) if name == WEIGHTS else (folder / name).is_file())
    ]
    if missing:
        raise InputError(f"{folder}: a model artifact needs {some(missing, 4)}, which is missing")


def load_model(
    folder: Path,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    sha256: str | None = None,
    public_key: Path | None = None,
) -> LoadedModel:
    """Build the network that the artifact describes and load exactly its weights.

    Never executes anything of the checkpoint, never loads a part of it. Memory: the weights once,
    in ``dtype``; they are cast as they are read, whatever the file keeps them as.

    Parameters
    ----------
    device : ``cpu``, ``cuda`` or as torch names it.
    dtype : one of ``precision.DTYPES``; ``tf32`` keeps float32 weights.
    sha256 : of the weights, if the caller knows it: taken through the descriptor they are read by.
    public_key : PEM file of the signer; ``model.sig`` must then hold before anything is opened.

    Raises
    ------
    InputError
        The signature does not hold; a file is missing or broken; the weights have another sha256;
        keys or shapes are not exactly the network's; a value is not finite; a golden case differs
        by more than its tolerance.
    """
    from dagster_project.lib.inference import architectures

    dtype = dtype_name(dtype)
    if public_key is not None:
        signed = require_signature(folder, public_key).get(WEIGHTS)
        sha256 = sha256 or signed
    spec = read_spec(folder)
    n_features, n_classes = questionnaire.n_features(spec.schema), len(spec.classes)
    with architectures.without_weights():
        module = architectures.build(spec.config, n_features, n_classes)
    kept = torch_dtype(dtype)
    load_weights(module, folder / WEIGHTS, dtype=kept, sha256=sha256)
    module.eval().requires_grad_(requires_grad=False).to(device=device, dtype=kept)
    model = LoadedModel(
        spec.config, spec.schema, spec.classes, spec.preprocess, module, device, dtype
    )
    if (folder / GOLDEN).is_file():
        check_golden(model, files.read_json(folder / GOLDEN))
    return model


def load_weights(
    module: nn.Module, path: Path, *, dtype: torch.dtype, sha256: str | None = None
) -> None:
    """Give ``module``, built without weights, exactly those in ``path``, cast to ``dtype``."""
    with safe_checkpoint.open_checkpoint(path, sha256=sha256) as checkpoint:
        _check_state(normalised_keys(checkpoint.tensors), module.state_dict())
        state = normalised_keys(safe_checkpoint.read_tensors(checkpoint, dtype))
    module.load_state_dict(state, strict=True, assign=True)


def normalised_keys(state: Mapping[str, _T]) -> dict[str, _T]:
    """Keys without the levels that wrappers add, and without transformers 4's ``vision_model.``.

    ``module.`` (DataParallel) and ``_orig_mod.`` (torch.compile) come off the front, in any order;
    transformers 5 dropped ``vision_model.`` inside ``SiglipVisionModel``. Two keys that would
    become one are refused.

    >>> list(normalised_keys({"module._orig_mod.vision.vision_model.head.probe": None}))
    ['vision.head.probe']
    """
    out: dict[str, _T] = {}
    for key, value in state.items():
        name = key
        while name.startswith(_WRAPPED):
            name = name.split(".", 1)[1]
        if name.startswith("vision.vision_model."):
            name = "vision." + name.removeprefix("vision.vision_model.")
        if name in out:
            raise InputError(f'{WEIGHTS}: two keys mean "{name}"; save the state dict once')
        out[name] = value
    return out


def save_artifact(
    folder: Path,
    module: nn.Module,
    *,
    config: Mapping[str, Any],
    schema: Mapping[str, Any],
    classes: Sequence[str],
) -> None:
    """Write a whole artifact: weights, config, schema, labels, golden cases, then the manifest.

    Parameters
    ----------
    module : as built by ``architectures.build(config, ...)``.
    config, schema : the JSON objects of ``config.json`` and ``feature_schema.json``.
    classes : K names, in the order of the outputs.

    Equal arguments give equal bytes.
    """
    import torch

    (folder / MANIFEST).unlink(missing_ok=True)
    state = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    sink = io.BytesIO()  # not a path: torch writes a file's name into the archive
    torch.save(state, sink)
    with files.publish(folder / WEIGHTS) as temp:
        temp.write_bytes(sink.getvalue())
    files.write_json(folder / CONFIG, config)
    # not sorted: people read the questions in the order that they are asked
    files.write_text(folder / SCHEMA, json.dumps(schema, indent=2) + "\n")
    files.write_text(folder / LABELS, "".join(f"{name}\n" for name in classes))
    spec = read_spec(folder)
    model = LoadedModel(
        spec.config, spec.schema, spec.classes, spec.preprocess, module.eval(), "cpu"
    )
    files.write_json(folder / GOLDEN, make_golden(model))
    write_manifest(folder)


def _check_state(state: Mapping[str, TensorRef], wanted: Mapping[str, torch.Tensor]) -> None:
    """Raise unless keys and shapes are exactly the network's; nothing has been read yet."""
    missing = [k for k in wanted if k not in state]
    unexpected = [k for k in state if k not in wanted]
    if missing or unexpected:
        raise InputError(
            f"{WEIGHTS}: {len(missing)} of {len(wanted)} keys missing ({some(missing) or 'none'}), "
            f"{len(unexpected)} unexpected ({some(unexpected) or 'none'}); "
            "config.json must describe this checkpoint"
        )
    shapes = [
        f"{k} {ref.shape} not {tuple(wanted[k].shape)}"
        for k, ref in state.items()
        if ref.shape != tuple(wanted[k].shape)
    ]
    if shapes:
        raise InputError(f"{WEIGHTS}: {len(shapes)} tensors of another shape: {some(shapes)}")
