"""Dividing patients: by the name alone, and in little memory however many there are."""

from __future__ import annotations

import hashlib
import tracemalloc

import polars as pl

from dagster_project.lib.evidence.division import in_first


def test_the_side_is_that_of_the_names_hash_in_the_order_of_rows() -> None:
    patients = pl.Series("any", [f"p{number % 37}" for number in range(100)])
    first = [int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) for name in patients]
    assert in_first(patients, 0.3).tolist() == [number < 0.3 * 2.0**64 for number in first]


def test_millions_of_patients_cost_bytes_and_no_dictionary_of_names() -> None:
    patients = pl.Series([f"patient-{number}" for number in range(60_000)])
    tracemalloc.start()
    try:
        in_first(patients, 0.5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * len(patients)  # of names in a dictionary: 200
