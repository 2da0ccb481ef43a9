from dagster_project.lib.demo.seeds import stream, subseed


def test_streams_of_other_purposes_are_other_streams() -> None:
    streams = (stream(1, "a"), stream(1, "b"), stream(2, "a"), stream(1, "a", 0))
    draws = {int(rng.integers(2**62)) for rng in streams}
    assert len(draws) == 4


def test_a_stream_is_the_same_on_every_machine() -> None:
    assert stream(1, "skin", 7).integers(1000) == 362
    assert 0 <= subseed(1, "torch") < 2**31
