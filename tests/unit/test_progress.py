"""Progress: plain lines off a terminal, few of them, with a rate a person can read."""

from __future__ import annotations

import sys
import time

import pytest

from dagster_project.lib import progress


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", made)
    return made


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert out == ""  # results go to stdout, and nothing else does
    return err.splitlines()


@pytest.mark.parametrize(
    ("seconds", "rate"),
    [
        pytest.param(1, "640 rows/s", id="fast"),
        pytest.param(64, "10 rows/s", id="ten"),
        pytest.param(100, "6.4 rows/s", id="slow"),
        pytest.param(3200, "0.2 rows/s", id="very_slow"),
        pytest.param(12_800, "20 s/row", id="crawling"),
    ],
)
def test_a_rate_is_readable_at_every_speed(
    clock: Clock, capsys: pytest.CaptureFixture[str], seconds: float, rate: str
) -> None:
    with progress.bar("dump test") as show:
        clock.now += seconds
        show(640, 640)
    assert lines(capsys) == [f"dump test: 640/640 rows, {rate}"]


def test_off_a_terminal_there_is_a_line_every_few_seconds_and_one_at_the_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.bar("dump") as show:
        for done in range(101):
            show(done, 100, "model 93 %")
            clock.now += 0.125
    assert lines(capsys) == [
        "dump: 40/100 rows, 8.0 rows/s, 8 s left, model 93 %",
        "dump: 80/100 rows, 8.0 rows/s, 2 s left, model 93 %",
        "dump: 100/100 rows, 8.0 rows/s, model 93 %",
    ]


def test_what_was_found_finished_is_no_part_of_the_rate(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.bar("dump") as show:
        show(5000, 6000)
        clock.now += 10
        show(5100, 6000)
    assert lines(capsys) == ["dump: 5100/6000 rows, 10 rows/s, 2 min left"]


def test_bytes_are_counted_in_units_that_people_read(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.bar("sync", "byte") as show:
        show(0, 1_700_000_000)
        clock.now += 10
        show(850_000_000, 1_700_000_000)
    assert lines(capsys) == ["sync: 0.8/1.7 GB, 85.0 MB/s, 10 s left"]


def test_before_anything_is_done_there_is_no_rate(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.bar("dump") as show:
        clock.now += 9
        show(0, 7)
    assert lines(capsys) == ["dump: 0/7 rows"]


def test_the_end_is_told_once(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("dump") as show:
        show(5, 5)
        show(5, 5)
    assert len(lines(capsys)) == 1


def test_on_a_terminal_a_bar_is_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.bar("dump") as show:
        show(2, 4, "model 93 %")
        show(4, 4, "model 94 %")
    out, err = capsys.readouterr()
    assert "dump: 100%" in err
    assert "4.00/4.00" in err
    assert "model 94 %" in err
    assert out == ""


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    progress.silent(1, 2)
    assert capsys.readouterr() == ("", "")
