"""A hostile or broken file is refused with its reason; a good one loads as torch loads it.

The hostile ones are opened in a process of their own, with a limit on its memory: a file that
fills it, or takes too long, fails its own line.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import re
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import checkpoint_bytes
import hostile_checkpoints as corpus
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import architectures, checkpoint, safe_checkpoint, zip_records

SECONDS = 10.0
EXTRA_MEMORY = 1 << 30
UNUSED = corpus.kinds(Path("unused"))
IDS = [kind.id for kind in UNUSED]
GOOD_FILES = list(corpus.good_files())


def load(path: Path, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """The weights in a file, by the way that every artifact goes."""
    with architectures.without_weights():
        module = checkpoint_bytes.Net()
    checkpoint.load_weights(module, path, dtype=dtype)
    return module.state_dict()


# hostile files


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sentinel") / "executed"


@pytest.fixture(scope="module")
def kinds(sentinel: Path) -> dict[str, corpus.Kind]:
    return {kind.id: kind for kind in corpus.kinds(sentinel)}


@pytest.fixture(scope="module")
def answers(
    kinds: dict[str, corpus.Kind], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """What a limited process said of every file: exception, message, seconds."""
    folder = tmp_path_factory.mktemp("hostile")
    for kind in kinds.values():
        kind.write(folder / f"{kind.id}.pt")
    (folder / "good.pt").write_bytes(checkpoint_bytes.GOOD)
    done = subprocess.run(
        [sys.executable, __file__, str(folder), *kinds],
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def report(folder: Path, ids: list[str]) -> None:
    """In the limited process: try each file and print what came of it."""
    load(folder / "good.pt")  # what is imported and mapped for any file is no file's fault
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + EXTRA_MEMORY,) * 2)
    found = {}
    for name in ids:
        start = time.perf_counter()
        kind, message = "nothing", ""
        try:
            load(folder / f"{name}.pt")
        except BaseException as error:  # noqa: BLE001 - the finding
            kind, message = type(error).__name__, str(error)
        found[name] = {
            "kind": kind,
            "message": message,
            "seconds": time.perf_counter() - start,
        }
    print(json.dumps(found))


@pytest.mark.parametrize("name", IDS)
def test_a_hostile_file_is_refused_with_its_reason(
    name: str, answers: dict[str, dict[str, Any]], kinds: dict[str, corpus.Kind], sentinel: Path
) -> None:
    answer = answers[name]
    assert answer["kind"] == "InputError", answer
    assert re.search(kinds[name].reason, answer["message"]), answer["message"]
    assert f"{name}.pt: " in answer["message"] or answer["message"].startswith("best_model.pt: ")
    assert "\n" not in answer["message"]
    assert answer["seconds"] < SECONDS
    assert not sentinel.exists()


def test_the_corpus_has_the_sixty_kinds_and_more() -> None:
    assert len(set(IDS)) == len(IDS) >= 60


class Believing(pickle.Unpickler):
    """What a loader without a grammar does."""

    def persistent_load(self, pid: object) -> object:
        return pid


@pytest.mark.parametrize("name", [kind.id for kind in UNUSED if kind.is_live])
def test_the_payloads_are_live(name: str, tmp_path: Path) -> None:
    sentinel = tmp_path / "executed"
    kind = next(kind for kind in corpus.kinds(sentinel) if kind.id == name)
    kind.write(tmp_path / "x.pt")
    with zip_records.open_regular(tmp_path / "x.pt") as handle:
        record = zip_records.read_records(handle)["data.pkl"]
        data = zip_records.read_record(handle, record)
    with contextlib.suppress(Exception):
        Believing(io.BytesIO(data)).load()
    assert sentinel.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("file_symlink", "cannot be opened", id="link"),
        pytest.param("file_endless_device", "cannot be opened", id="device"),
        pytest.param("file_socket", "cannot be opened", id="socket"),
        pytest.param("file_pipe", "is a pipe", id="pipe"),
    ],
)
def test_what_takes_the_files_place_after_the_look_is_refused_too(
    name: str,
    message: str,
    kinds: dict[str, corpus.Kind],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kinds[name].write(tmp_path / "x.pt")
    (tmp_path / "before.pt").write_bytes(checkpoint_bytes.GOOD)
    before = (tmp_path / "before.pt").lstat()
    monkeypatch.setattr(Path, "lstat", lambda _: before)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "x.pt")


# good files


@pytest.mark.parametrize(("name", "data"), GOOD_FILES, ids=[name for name, _ in GOOD_FILES])
def test_a_good_file_loads_as_torch_loads_it(name: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "good.pt"
    path.write_bytes(data)
    expected = torch.load(path, weights_only=True, map_location="cpu")
    for wrapper in safe_checkpoint.WRAPPERS:
        expected = expected.get(wrapper, expected)
    found = load(path)
    assert list(found) == ["a", "b"]
    by_name = checkpoint.normalised_keys(expected)
    for key, value in found.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, by_name[key].detach().float())


def test_a_file_saved_by_path_loads(tmp_path: Path) -> None:
    path = tmp_path / "näme with spaces.pt"
    torch.save(checkpoint_bytes.Net().state_dict(), path)
    assert torch.equal(load(path)["b"], checkpoint_bytes.Net().b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_are_cast_to_the_dtype_in_use(tmp_path: Path, dtype: torch.dtype) -> None:
    values = {"a": torch.rand(2, 3, dtype=torch.float64), "b": torch.rand(4)}
    torch.save(values, tmp_path / "x.pt")
    found = load(tmp_path / "x.pt", dtype)
    assert {key: value.dtype for key, value in found.items()} == {"a": dtype, "b": dtype}
    assert all(torch.equal(found[key], values[key].to(dtype)) for key in values)


def test_a_sum_that_overflows_is_no_infinity(tmp_path: Path) -> None:
    values = {"a": torch.full((2, 3), 3e38), "b": torch.ones(4)}
    torch.save(values, tmp_path / "x.pt")
    assert torch.equal(load(tmp_path / "x.pt")["a"], values["a"])


def test_weights_too_large_for_float16_are_refused_in_it_only(tmp_path: Path) -> None:
    torch.save({"a": torch.full((2, 3), 1e6), "b": torch.ones(4)}, tmp_path / "x.pt")
    load(tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"'a', read as torch.float16"):
        load(tmp_path / "x.pt", torch.float16)


def test_the_hash_is_of_the_bytes_that_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(checkpoint_bytes.GOOD)
    right = hashlib.sha256(checkpoint_bytes.GOOD).hexdigest()
    with safe_checkpoint.open_checkpoint(path, sha256=right) as opened:
        path.rename(tmp_path / "y.pt")  # another file takes its name
        path.write_bytes(b"")
        assert torch.equal(
            safe_checkpoint.read_tensors(opened, torch.float32)["b"], checkpoint_bytes.Net().b
        )
    with (
        pytest.raises(InputError, match=rf"sha256 is {right}, expected 0000"),
        safe_checkpoint.open_checkpoint(tmp_path / "y.pt", sha256="0" * 64),
    ):
        pass


def test_a_record_that_is_damaged_beside_the_weights_is_found(tmp_path: Path) -> None:
    value = {
        "model": checkpoint_bytes.Net().state_dict(),
        "optimizer": {"m": torch.full((50,), 7.0)},
    }
    data = bytearray(checkpoint_bytes.saved(value))
    (tmp_path / "x.pt").write_bytes(data)
    load(tmp_path / "x.pt")
    data[data.index(b"\x00\x00\xe0\x40" * 3)] ^= 1
    (tmp_path / "x.pt").write_bytes(data)
    with pytest.raises(InputError, match="CRC"):
        load(tmp_path / "x.pt")


def test_much_more_beside_the_weights_than_an_optimizer_is_refused_unread(tmp_path: Path) -> None:
    value = {"model": checkpoint_bytes.Net().state_dict(), "more": torch.zeros(17 << 20)}
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(InputError, match="71303168 bytes lie beside 40 bytes of weights"):
        load(tmp_path / "x.pt")


# damage at random: the same tensors, or a refusal, and nothing else

SMALL = dict(GOOD_FILES)["beside_training_state_model"]
EXPECTED = checkpoint_bytes.Net().state_dict()


def same_or_refused(data: bytes, folder: Path) -> None:
    path = folder / "x.pt"
    path.write_bytes(data)
    try:
        found: Mapping[str, torch.Tensor] = load(path)
    except InputError:
        return
    assert all(torch.equal(found[key], EXPECTED[key]) for key in EXPECTED)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@given(at=st.integers(0, len(checkpoint_bytes.GOOD) - 1), value=st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_a_changed_byte_changes_nothing_or_is_refused(scratch: Path, at: int, value: int) -> None:
    data = bytearray(checkpoint_bytes.GOOD)
    data[at] ^= value
    same_or_refused(bytes(data), scratch)


@given(at=st.integers(0, len(SMALL) - 1), bit=st.integers(0, 7), to=st.integers(0, 200))
@settings(max_examples=300, deadline=None)
def test_flips_moves_and_cuts_change_nothing_or_are_refused(
    scratch: Path, at: int, bit: int, to: int
) -> None:
    data = bytearray(SMALL)
    data[at] ^= 1 << bit
    same_or_refused(bytes(data), scratch)
    same_or_refused(SMALL[:at], scratch)
    same_or_refused(SMALL[:at] + SMALL[at + to :], scratch)
    same_or_refused(SMALL[:at] + SMALL[at : at + to] + SMALL[at:], scratch)


def test_every_bit_of_a_pickle_is_the_same_value_or_refused() -> None:
    """Behind the CRC: what a forger who writes a fitting one can do to the description."""
    from dagster_project.lib.inference.pickle_grammar import read_pickle

    whole = b"\x80\x02" + checkpoint_bytes.STATE + b"."
    outcomes = {"same": 0, "other": 0, "refused": 0}
    expected = read_pickle(whole)
    for at in range(len(whole)):
        for bit in range(8):
            data = bytearray(whole)
            data[at] ^= 1 << bit
            try:
                found = read_pickle(bytes(data))
            except zip_records.UnreadableError:
                outcomes["refused"] += 1
                continue
            outcomes["same" if found == expected else "other"] += 1
    assert outcomes["refused"] > 0.6 * 8 * len(whole)


if __name__ == "__main__":
    report(Path(sys.argv[1]), sys.argv[2:])
