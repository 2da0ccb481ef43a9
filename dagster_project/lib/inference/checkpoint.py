"""From an artifact's folder to a network that is ready, or a line that says why not.

Belongs: reading config, schema and classes; loading weights safely and exactly; golden cases;
writing an artifact.
Does not: fetching or hashing artifacts (``model_store``), what the network computes
(``architectures``).
Concept: a state dict that matches only in part is silently random, so the key and shape sets must
be equal; ``golden.json`` then says whether the whole path, pixels included, is the one that was
shipped.

``golden.json``: ``{"tolerance": t, "cases": [{"image_png_base64", "metadata", "probs"}]}``:
the sigmoid outputs of the plain view (no flip) of an embedded picture with these answers (a field
left out is unknown).
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib import files
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.inference import preprocess as pre
from dagster_project.lib.inference import questionnaire
from dagster_project.lib.inference.preprocess import Preprocess
from dagster_project.lib.inference.questionnaire import FeatureSchema
from dagster_project.lib.model_store.artifact import GOLDEN, MANIFEST, REQUIRED, write_manifest
from dagster_project.lib.probability_table import read_classes

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    from dagster_project.lib.inference.architectures import SiglipMetadata

WEIGHTS, CONFIG, SCHEMA, LABELS = REQUIRED
WRAPPERS = ("model", "state_dict", "ema")
"""Keys under which training scripts put the state dict."""
GOLDEN_TOLERANCE = 1e-4


@dataclass(frozen=True)
class ModelSpec:
    """What an artifact says about itself, weights aside (cheap to read: no torch)."""

    config: Mapping[str, Any]
    schema: FeatureSchema
    classes: tuple[str, ...]
    preprocess: Preprocess


@dataclass(frozen=True)
class LoadedModel(ModelSpec):
    """A network in evaluation mode on its device, with what it needs to be fed."""

    module: SiglipMetadata
    device: str


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
    missing = [name for name in REQUIRED if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder}: a model artifact needs {some(missing, 4)}, which is missing")


def load_model(folder: Path, *, device: str = "cpu", dtype: str = "float32") -> LoadedModel:
    """Build the network that the artifact describes and load exactly its weights.

    Never executes the checkpoint (``weights_only=True``), never loads a part of it.

    Raises
    ------
    InputError
        A file is missing or broken; keys or shapes are not exactly the network's; a value is
        not finite; a golden case differs by more than its tolerance.
    """
    from dagster_project.lib.inference import architectures

    spec = read_spec(folder)
    module = architectures.build(
        spec.config, questionnaire.n_features(spec.schema), len(spec.classes)
    )
    state = normalised_keys(_state_dict(folder / WEIGHTS))
    _check_state(state, module.state_dict())
    module.load_state_dict(state)
    module.eval().requires_grad_(False).to(device)
    model = LoadedModel(spec.config, spec.schema, spec.classes, spec.preprocess, module, device)
    if (folder / GOLDEN).is_file():
        check_golden(model, files.read_json(folder / GOLDEN))
    from dagster_project.lib.inference.precision import torch_dtype

    module.to(torch_dtype(dtype))
    return model


def normalised_keys(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Keys without ``module.`` (DataParallel) and without transformers 4's ``vision_model.``.

    transformers 5 dropped that level inside ``SiglipVisionModel``. Two keys that would become one
    are refused.

    >>> list(normalised_keys({"module.vision.vision_model.head.probe": None}))
    ['vision.head.probe']
    """
    out: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        name = key.removeprefix("module.")
        if name.startswith("vision.vision_model."):
            name = "vision." + name.removeprefix("vision.vision_model.")
        if name in out:
            raise InputError(f'{WEIGHTS}: two keys mean "{name}"; save the state dict once')
        out[name] = value
    return out


def save_artifact(
    folder: Path,
    module: SiglipMetadata,
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


def make_golden(model: LoadedModel, *, n_cases: int = 3, seed: int = 0) -> dict[str, Any]:
    """Golden cases of ``model``: seeded pictures of unequal sides, answers from its schema."""
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(n_cases):
        png = _picture(rng, 40 + 8 * number, 56)
        answers = {f.name: _answer(f, number) for f in model.schema.fields} if number else {}
        probs = _plain(model, png, answers)
        cases.append(
            {
                "image_png_base64": base64.b64encode(png).decode(),
                "metadata": answers,
                "probs": [round(float(p), 7) for p in probs],
            }
        )
    return {"tolerance": GOLDEN_TOLERANCE, "cases": cases}


def check_golden(model: LoadedModel, golden: Mapping[str, Any]) -> None:
    """Raise unless ``model`` reproduces every golden case within the file's tolerance."""
    try:
        tolerance = float(golden["tolerance"])
        cases = [
            (base64.b64decode(c["image_png_base64"]), c["metadata"], [float(p) for p in c["probs"]])
            for c in golden["cases"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{GOLDEN}: not of the documented form ({error!r})") from None
    for number, (png, answers, expected) in enumerate(cases, start=1):
        got = _plain(model, png, answers)
        if len(expected) != len(got):
            raise InputError(f"{GOLDEN} case {number}: {len(expected)} probs, {len(got)} classes")
        difference = float(np.abs(got - np.asarray(expected)).max())
        if not difference <= tolerance:
            raise InputError(
                f"{GOLDEN} case {number}: probabilities differ by {difference:.2g}, allowed "
                f"{tolerance:g}; weights, pooling or preprocess are not those it was made with"
            )


def _plain(model: LoadedModel, png: bytes, answers: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    import torch

    from dagster_project.lib.inference.architectures import sized_threads

    names = model.schema.names
    row = {name: None if answers.get(name) is None else str(answers[name]) for name in names}
    frame = pl.DataFrame({"image_uuid": ["golden"], **{n: [v] for n, v in row.items()}})
    features = torch.from_numpy(questionnaire.encode(model.schema, frame))
    try:
        pixels = pre.to_tensor(pre.decode(png), model.preprocess)[None]
    except pre.DecodeError as error:
        raise InputError(f"{GOLDEN}: a picture cannot be used: {error}") from None
    with sized_threads(model.module), torch.inference_mode():
        logits = model.module(pixels.to(model.device), features.to(model.device))
        probs: npt.NDArray[np.float32] = torch.sigmoid(logits[0].float()).cpu().numpy()
    return probs


def _picture(rng: np.random.Generator, height: int, width: int) -> bytes:
    from PIL import Image

    coarse = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    sink = io.BytesIO()
    smooth.save(sink, "PNG")
    return sink.getvalue()


def _answer(field: questionnaire.Field, number: int) -> str:
    if field.range is not None:
        low, high = field.range
        return f"{low + (high - low) * number / (number + 1):g}"
    if field.type == "boolean":
        return "true" if number % 2 else "false"
    return field.values[number % len(field.values)]


def _state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint, perhaps one level down; anything else is refused."""
    import pickle

    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        AssertionError,
        ImportError,
    ) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{path.name}: not a loadable state dict ({reason[0][:200]})") from None
    wrapped = [
        k for k in WRAPPERS if isinstance(loaded, Mapping) and isinstance(loaded.get(k), Mapping)
    ]
    if len(wrapped) > 1:
        raise InputError(f"{path.name}: {some(wrapped)} are both there; save only the one to use")
    state = loaded[wrapped[0]] if wrapped else loaded
    if not isinstance(state, Mapping) or not state:
        raise InputError(f"{path.name}: expected a state dict, got {type(state).__name__}")
    strange = [k for k, v in state.items() if not isinstance(k, str) or type(v) is not torch.Tensor]
    if strange:
        raise InputError(f"{path.name}: {some(strange)} is not a plain tensor; save a state dict")
    return dict(state)


def _check_state(state: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    import torch

    missing = [k for k in wanted if k not in state]
    unexpected = [k for k in state if k not in wanted]
    if missing or unexpected:
        raise InputError(
            f"{WEIGHTS}: {len(missing)} of {len(wanted)} keys missing ({some(missing) or 'none'}), "
            f"{len(unexpected)} unexpected ({some(unexpected) or 'none'}); "
            "config.json must describe this checkpoint"
        )
    shapes = [
        f"{k} {tuple(v.shape)} not {tuple(wanted[k].shape)}"
        for k, v in state.items()
        if v.shape != wanted[k].shape
    ]
    if shapes:
        raise InputError(f"{WEIGHTS}: {len(shapes)} tensors of another shape: {some(shapes)}")
    kinds = [k for k, v in state.items() if not v.is_floating_point() or v.layout != torch.strided]
    if kinds:
        raise InputError(f"{WEIGHTS}: {len(kinds)} tensors are not dense floats: {some(kinds)}")
    broken = [k for k, v in state.items() if not torch.isfinite(v).all()]
    if broken:
        raise InputError(f"{WEIGHTS}: {len(broken)} tensors have NaN or infinity: {some(broken)}")
