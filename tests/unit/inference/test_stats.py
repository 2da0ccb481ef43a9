from __future__ import annotations

from dagster_project.lib.inference.engine import Times
from dagster_project.lib.inference.stats import DumpStats


def stats(rows: int, seconds: float) -> DumpStats:
    times = Times(decode=1.0, transfer=0.5, model=8.0, write=0.25)
    return DumpStats(rows, seconds, times, "NVIDIA H100", "bfloat16", 64, 2, 4_200_000_000)


def test_the_note_says_where_the_time_went_and_on_what() -> None:
    assert stats(100, 10.0).note() == (
        "decode 10% transfer 5% model 80% write 2%; NVIDIA H100, bfloat16, batch 64, peak 4.2 GB"
    )


def test_facts_are_numbers_under_stable_names() -> None:
    facts = stats(100, 10.0).facts()
    assert facts["rows_per_second"] == 10.0
    assert facts["model_share"] == 0.8
    assert facts["peak_memory_gb"] == 4.2
    assert {"rows_computed", "decode_share", "batch_size", "device_name", "dtype"} <= facts.keys()


def test_before_the_first_row_there_is_no_rate() -> None:
    assert stats(0, 10.0).rows_per_second is None
    assert "rows_per_second" not in stats(0, 10.0).facts()
