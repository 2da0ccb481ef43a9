from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.evidence.looks import count_look, read_looks

ROWS = [f"image_{i:04d}" for i in range(2000)]


def look(path: Path, labels: str, rows: list[str] = ROWS) -> int:
    return count_look(path, rows, {"label_version": labels, "policy": "p"})


def test_every_new_combination_is_one_more_look_and_the_same_again_is_none(tmp_path: Path) -> None:
    ledger = tmp_path / "store" / "looks.jsonl"
    assert [look(ledger, name) for name in "aabca"] == [1, 1, 2, 3, 1]
    assert len(read_looks(ledger)) == 3


def test_rows_that_changed_a_little_are_the_same_rows_and_others_are_not(tmp_path: Path) -> None:
    ledger = tmp_path / "looks.jsonl"
    assert look(ledger, "a") == 1
    assert look(ledger, "b", ROWS[40:]) == 2  # some images were found unusable
    assert look(ledger, "a", [f"other_{i}" for i in range(2000)]) == 1
    assert look(ledger, "a", list(reversed(ROWS))) == 1


def test_two_processes_do_not_lose_a_look(tmp_path: Path) -> None:
    ledger = tmp_path / "looks.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=look, args=(ledger, str(i))) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(read_looks(ledger)) == 6


@pytest.mark.parametrize("line", [b"{", b"\xff\xfe", b'{"look": 1, "rows": 5}', b"[1]", b"null"])
def test_a_spoilt_ledger_is_refused_by_row(tmp_path: Path, line: bytes) -> None:
    ledger = tmp_path / "looks.jsonl"
    look(ledger, "a")
    ledger.write_bytes(ledger.read_bytes() + line + b"\n")
    with pytest.raises(InputError, match=r"looks.jsonl row 2: not a look"):
        look(ledger, "b")


def test_the_ledger_names_no_image(tmp_path: Path) -> None:
    ledger = tmp_path / "looks.jsonl"
    look(ledger, "a")
    assert "image_" not in ledger.read_text()
