"""The dump against what people would otherwise write, on the same photographs and network.

Run ``python benchmarks/dump_peers.py``. Rivals: the original way (one dump a shaping of the
questionnaire, each with two encoder passes); transformers' image processor with a loop over
batches; a loop in timm's style that keeps everything in memory and sorts it out at the end. All
give TTA probabilities; the dump gives four views, hashes every picture, and publishes.
Ratios of medians, the rivals in turn.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import MID_SIZE, make_artifact, make_dataset
from dump_speed import BATCH, planned
from PIL import Image
from result import report
from transformers import SiglipImageProcessor

from dagster_project.lib.inference import checkpoint, dump, preprocess
from dagster_project.lib.inference.checkpoint import LoadedModel
from dagster_project.lib.inference.plan import shapings

ROWS = 128
ROUNDS = 5


def tta(model: LoadedModel, pixels: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Mean of the sigmoids of the images and their mirror images."""
    plain, flipped = (model.module(p, features) for p in (pixels, pixels.flip(-1)))
    return torch.as_tensor((plain.sigmoid() + flipped.sigmoid()) / 2)


def ours(plan: dump.DumpPlan, work: Path) -> None:
    """The dump, loading and publishing included."""
    out = work / "ours.parquet"
    dump.dump_to(plan, out, work / "segments")
    out.unlink()


def two_dumps(plan: dump.DumpPlan, work: Path) -> None:
    """One dump a shaping: everything is decoded and encoded twice."""
    del work
    for shaping in (0, 1):
        model = checkpoint.load_model(plan.model_dir)
        answers = torch.from_numpy(shapings(plan, 0, plan.rows.height)[shaping])
        rows = []
        with torch.inference_mode():
            for start in range(0, plan.rows.height, BATCH):
                paths = plan.rows["image_path"][start : start + BATCH]
                pictures = [
                    preprocess.resize(
                        preprocess.decode(plan.dataset_dir / path), plan.spec.preprocess
                    )
                    for path in paths
                ]
                pixels = preprocess.normalise(
                    torch.from_numpy(np.stack(pictures)), plan.spec.preprocess
                )
                rows.append(tta(model, pixels, answers[start : start + BATCH]).numpy())
        np.concatenate(rows)


def processor_loop(plan: dump.DumpPlan, work: Path) -> None:
    """The image processor of transformers, a batch at a time."""
    del work
    size = plan.spec.preprocess.size
    processor = SiglipImageProcessor(size={"height": size, "width": size})
    model = checkpoint.load_model(plan.model_dir)
    answers = torch.from_numpy(shapings(plan, 0, plan.rows.height)[0])
    rows = []
    with torch.inference_mode():
        for start in range(0, plan.rows.height, BATCH):
            paths = plan.rows["image_path"][start : start + BATCH]
            pictures = [Image.open(plan.dataset_dir / path).convert("RGB") for path in paths]
            pixels = processor(images=pictures, return_tensors="pt")["pixel_values"]
            rows.append(tta(model, pixels, answers[start : start + BATCH]).numpy())
    np.concatenate(rows)


def loader_loop(plan: dump.DumpPlan, work: Path) -> None:
    """A DataLoader with workers, every result kept until the end, as in timm's inference script."""
    del work
    spec = plan.spec.preprocess
    paths = [plan.dataset_dir / path for path in plan.rows["image_path"]]

    class Pictures(torch.utils.data.Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> torch.Tensor:
            image = Image.open(paths[index]).convert("RGB")
            small = image.resize((spec.size, spec.size), Image.Resampling.BICUBIC)
            pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255
            return (pixels - 0.5) / 0.5

    model = checkpoint.load_model(plan.model_dir)
    answers = torch.from_numpy(shapings(plan, 0, plan.rows.height)[0])
    kept = []
    loader = torch.utils.data.DataLoader(Pictures(), batch_size=BATCH, num_workers=2)
    with torch.inference_mode():
        for number, pixels in enumerate(loader):
            start = number * BATCH
            kept.append(tta(model, pixels, answers[start : start + BATCH]))
    torch.cat(kept).numpy()


RIVALS: dict[str, Callable[[dump.DumpPlan, Path], None]] = {
    "tier-refit dump, four views": ours,
    "one dump a shaping (the original way)": two_dumps,
    "transformers' processor, a batch loop": processor_loop,
    "a DataLoader, everything kept in memory": loader_loop,
}


def main() -> None:
    """Print rows/s and core-seconds a row of each."""
    wall: dict[str, list[float]] = {name: [] for name in RIVALS}
    cores: dict[str, list[float]] = {name: [] for name in RIVALS}
    with tempfile.TemporaryDirectory() as temp:
        work = Path(temp)
        make_artifact(work / "model", MID_SIZE)
        make_dataset(work / "data", ROWS, 450, 600)
        plan = planned(work / "model", work / "data")
        for number in range(ROUNDS + 1):
            for name, rival in RIVALS.items():
                start, used = time.perf_counter(), _core_seconds()
                rival(plan, work)
                if number:  # the first round warms up
                    wall[name].append(time.perf_counter() - start)
                    cores[name].append(_core_seconds() - used)
    best = next(iter(RIVALS))
    report(
        "dump_peers",
        [
            {
                "": name,
                "rows/s": round(ROWS / statistics.median(wall[name]), 1),
                "core-seconds a row": round(statistics.median(cores[name]) / ROWS, 3),
                "dump is x times faster": _ratio(wall[name], wall[best]),
                "x fewer core-seconds": _ratio(cores[name], cores[best]),
            }
            for name in RIVALS
        ],
    )


def _ratio(theirs: list[float], mine: list[float]) -> float:
    return round(statistics.median(t / m for t, m in zip(theirs, mine, strict=True)), 2)


def _core_seconds() -> float:
    """Of this process and of the worker processes it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


if __name__ == "__main__":
    main()
