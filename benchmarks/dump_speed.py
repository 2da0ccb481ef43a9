"""The dump against the forward passes alone: what decoding, hashing and writing cost.

Run ``python benchmarks/dump_speed.py``. The yardstick is the same network with the same batch,
dtype, threads and views on tensors that are already in memory. Each pair is measured in one
process, one after the other; ratios of pairs.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import MID_SIZE, make_artifact, make_dataset, spread
from result import report

from dagster_project.lib import dataset, model_store
from dagster_project.lib.inference import checkpoint, dump, preprocess, views
from dagster_project.lib.inference.plan import shapings

PAIRS = 5
BATCH = 32
CASES = {"600 x 450": (450, 600, 192), "12 megapixels": (3000, 4000, 64)}


def planned(model: Path, data: Path, **options: Any) -> dump.DumpPlan:
    """A plan over the whole test split, on the CPU unless another device is asked for."""
    rows = dataset.split_rows(dataset.dataset_index(data), "test")
    return dump.plan_dump(
        model_dir=model,
        tree_hash=model_store.read_artifact(model).tree_hash,
        dataset_dir=data,
        rows=rows,
        shard=0,
        n_shards=1,
        options=dump.DumpOptions(**{"batch_size": BATCH, "device": "cpu", **options}),
    )


def forward_rows_per_second(plan: dump.DumpPlan, rows: int) -> float:
    """Rows a second of the views of one batch that is in memory, again and again."""
    model = checkpoint.load_model(plan.model_dir)
    size = plan.spec.preprocess.size
    pixels = torch.randint(0, 256, (BATCH, size, size, 3), dtype=torch.uint8)
    normal = preprocess.normalise(pixels, plan.spec.preprocess)
    production, full = (torch.from_numpy(answers) for answers in shapings(plan, 0, BATCH))
    with torch.inference_mode():
        views.compute_views(model.module, normal, production, full, tta=True)
        start = time.perf_counter()
        for _ in range(rows // BATCH):
            views.compute_views(model.module, normal, production, full, tta=True)
    return rows / (time.perf_counter() - start)


def main() -> None:
    """Print ratios for small and large photographs."""
    lines = []
    with tempfile.TemporaryDirectory() as temp:
        work = Path(temp)
        make_artifact(work / "model", MID_SIZE)
        for name, (height, width, rows) in CASES.items():
            data = work / name.replace(" ", "_")
            make_dataset(data, rows, height, width)
            steady, whole, rates, note = [], [], [], ""
            for pair in range(PAIRS):
                begin = time.perf_counter()
                plan = planned(work / "model", data)
                out = work / f"{pair}.parquet"
                done = dump.dump_to(plan, out, work / "segments")
                seconds = time.perf_counter() - begin
                yardstick = forward_rows_per_second(plan, rows)
                if done.stats is None or done.stats.rows_per_second is None:
                    raise RuntimeError("the dump computed nothing")
                out.unlink()
                steady.append(done.stats.rows_per_second / yardstick)
                whole.append(rows / seconds / yardstick)
                rates.append(done.stats.rows_per_second)
                note = done.stats.note().partition(";")[0]
            lines.append(
                {
                    "photographs": name,
                    "rows": rows,
                    "dump, rows/s": spread(rates),
                    "dump / forward": spread(steady),
                    "with planning and loading": spread(whole),
                    "where the time goes": note,
                }
            )
    report("dump_speed", lines)


if __name__ == "__main__":
    main()
