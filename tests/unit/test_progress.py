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
    with progress.bar("sync", "byte") as show:
        for done in range(1, 101):
            clock.now += 0.125
            show(done, 100)
    found = lines(capsys)
    assert [line.split()[1] for line in found] == ["40/100", "80/100", "100/100"]
    assert found[-1] == "sync: 100/100 bytes, 8.0 bytes/s"


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
        show(2, 4)
        show(4, 4)
    out, err = capsys.readouterr()
    assert "dump: 100%" in err
    assert "4.00/4.00" in err
    assert out == ""


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    progress.silent(1, 2)
    assert capsys.readouterr() == ("", "")
