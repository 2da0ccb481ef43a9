"""Who may sign, what follows, and that a crash or a rival anywhere leaves a state that heals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dagster_project.lib import files, sums
from dagster_project.lib.errors import InputError, RefusedError
from dagster_project.lib.release import approval, ledger, people, signatures
from dagster_project.lib.release.in_service import release_in_service, release_state

NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
AT = {"confident": 0.815, "refer": 0.444, "possible_item": 0.25}


def contents(label_version: str = "labels-1", **at: float) -> dict[str, bytes]:
    thresholds = {**AT, **at, "label_version": label_version}
    return {
        "thresholds.json": json.dumps(thresholds).encode(),
        "metadata.json": b"{}",
        "tier_reports.json": b"{}",
    }


def release(root: Path, label_version: str = "labels-1", **at: float) -> Path:
    return sums.write_folder(root, contents(label_version, **at), run={"user": "anna"})


def sign(folder: Path, meaning: str = "approval", user: str = "bert", **changes: Any) -> Any:
    given = {"name": user.title(), "meaning": meaning, "user": user, "now": NOW, **changes}
    return approval.approve(folder, **given)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "releases"


def test_an_approval_says_who_signed_which_bytes_when(root: Path) -> None:
    folder = release(root)
    done = sign(folder, name=" Dr. B. Example ")
    assert json.loads((folder / "approval.json").read_text()) == [
        {
            "name": "Dr. B. Example",
            "user": "bert",
            "meaning": "approval",
            "time": "2026-11-02T09:30:00+00:00",
            "sha256": files.sha256_file(folder / "SHA256SUMS"),
            "author": "anna",
        }
    ]
    assert (done.action, done.in_service, done.previous) == ("approve", True, None)
    assert signatures.release_problems(folder) == []


def test_only_an_approval_puts_a_release_in_service(root: Path) -> None:
    folder = release(root)
    assert not sign(folder, "review").in_service
    assert release_in_service(root) is None
    assert not (root / "current").exists()
    sign(folder)
    assert (root / "current").readlink() == Path(folder.name)
    found = release_in_service(root)
    assert found is not None
    assert (found.name, found.label_version) == (folder.name, "labels-1")
    assert [s.meaning for s in signatures.read_signatures(folder)] == ["review", "approval"]


def test_the_ledger_has_a_line_for_each_approval_and_rollback(root: Path) -> None:
    first, second = release(root), release(root, refer=0.4)
    for folder in (first, second, first):
        sign(folder)
    lines = [json.loads(line) for line in (root / "releases.jsonl").read_text().splitlines()]
    assert [(e["release"], e["previous"], e["action"]) for e in lines] == [
        (first.name, None, "approve"),
        (second.name, first.name, "approve"),
        (first.name, second.name, "rollback"),
    ]
    assert set(lines[0]) == {
        *("time", "release", "previous", "action", "name", "user", "sha256"),
    }
    assert (root / "current").readlink() == Path(first.name)


def test_the_same_approval_again_changes_nothing(root: Path) -> None:
    folder = release(root)
    sign(folder)
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    again = sign(folder, now=datetime(2027, 1, 1, tzinfo=UTC))
    assert (again.signed, again.action, again.in_service) == (False, None, True)
    assert again.signature.time == "2026-11-02T09:30:00+00:00"
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before


def test_a_second_approver_signs_and_the_ledger_stays(root: Path) -> None:
    folder = release(root)
    sign(folder)
    assert sign(folder, user="cleo").action is None
    assert [s.user for s in signatures.read_signatures(folder)] == ["bert", "cleo"]
    assert len(ledger.read_ledger(root)) == 1


@pytest.mark.parametrize("meaning", signatures.MEANINGS)
def test_the_author_signs_nothing_under_any_name(root: Path, meaning: str) -> None:
    folder = release(root)
    with pytest.raises(RefusedError, match="user anna ran this refit and cannot sign it too"):
        sign(folder, meaning, user="anna", name="Somebody Else")
    assert not (folder / "approval.json").exists()


def test_a_person_may_sign_what_automation_made(root: Path) -> None:
    folder = sums.write_folder(root, contents(), run={"user": people.AUTOMATION})
    assert sign(folder, user="anna").in_service
    with pytest.raises(RefusedError, match="user automation"):
        sign(folder, user="automation")


def _tampered(folder: Path) -> None:
    (folder / "thresholds.json").write_text('{"confident": 0.1}')


def _tampered_with_its_sums(folder: Path) -> None:
    _tampered(folder)
    (folder / "SHA256SUMS").write_bytes(sums.with_sums({
        path.name: path.read_bytes() for path in folder.iterdir()
        if path.name not in sums.NOT_HASHED
    })["SHA256SUMS"])  # fmt: skip


def _no_author(folder: Path) -> None:
    (folder / "run.json").write_text('{"host": "here"}')


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(_tampered, "thresholds.json: its content is not what", id="tampered"),
        pytest.param(_tampered_with_its_sums, "not named by its content", id="with_its_sums"),
        pytest.param(lambda f: (f / "extra").touch(), "extra: was not released", id="added"),
        pytest.param(_no_author, "names no author", id="no_author"),
        pytest.param(lambda f: (f / "run.json").unlink(), "names no author", id="no_run"),
        pytest.param(
            lambda f: (f / "approval.json").write_text("{"), "not a list of sig", id="approval_torn"
        ),
    ],
)
def test_what_is_not_sound_is_not_signed_and_not_put_in_service(
    root: Path, damage: Callable[[Path], object], said: str
) -> None:
    good, folder = release(root, refer=0.4), release(root)
    sign(good)
    damage(folder)
    with pytest.raises(RefusedError, match=said):
        sign(folder)
    assert approval.pointed(root) == good.name
    assert len(ledger.read_ledger(root)) == 1


def test_a_blocked_refit_is_not_signed(root: Path) -> None:
    folder = sums.write_folder(root, {"tier_reports.json": b"{}"}, run={"user": "anna"})
    with pytest.raises(RefusedError, match="was blocked"):
        sign(folder)


def test_signatures_of_other_bytes_are_named(root: Path) -> None:
    folder, other = release(root), release(root, refer=0.4)
    sign(other)
    (folder / "approval.json").write_bytes((other / "approval.json").read_bytes())
    problems = signatures.release_problems(folder)
    assert problems == ["approval.json: approval by Bert is of other bytes"]
    assert signatures.approvals(folder) == []


def test_the_output_of_a_refit_is_signed_and_nothing_is_moved(tmp_path: Path) -> None:
    made = release(tmp_path / "made")
    folder = made.rename(tmp_path / "out")
    done = sign(folder)
    assert (done.signed, done.in_service, done.action) == (True, False, None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made", "out"]


def test_a_link_is_followed_to_the_release(root: Path) -> None:
    folder = release(root)
    files.point(root / "latest", folder.name)
    sign(root / "latest")
    assert approval.pointed(root) == folder.name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"name": "  "}, "--as", id="no_name"),
        pytest.param({"name": "a\nb"}, "--as", id="two_lines"),
        pytest.param({"name": "x" * 201}, "1 to 200", id="too_long"),
        pytest.param({"meaning": "maybe"}, "review and approval", id="meaning"),
    ],
)
def test_an_unusable_name_or_meaning_is_bad_input(
    root: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        sign(release(root), **changes)


def test_no_release_at_all_is_bad_input_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    with pytest.raises(InputError, match="no such file"):
        sign(tmp_path / "notes")
    assert [p.name for p in tmp_path.rglob("*")] == ["notes"]


# crashes and rivals


class KilledError(Exception):
    """Stands for the end of the process."""


STEPS = {"signature": "add_signature", "ledger": "ledger.append_entry", "pointer": "files.point"}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_leaves_the_old_release_or_the_new_one_and_is_healed(
    root: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    old, new = release(root), release(root, refer=0.4)
    sign(old)
    module: Any = approval
    *path, name = STEPS[step].split(".")
    for part in path:
        module = getattr(module, part)
    real = getattr(module, name)

    def killed(*arguments: Any) -> None:
        if after:
            real(*arguments)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(module, name, killed)
        with pytest.raises(KilledError):
            sign(new)
    assert approval.pointed(root) in (old.name, new.name)
    decided = ledger.read_ledger(root)[-1].release
    if decided == approval.pointed(root):
        assert release_in_service(root) is not None
    else:  # decided and not carried out: said, not guessed
        with pytest.raises(InputError, match="approve the one that shall be in service"):
            release_in_service(root)
    sign(new)
    found = release_in_service(root)
    assert found is not None
    assert found.name == new.name
    assert [e.release for e in ledger.read_ledger(root)] == [old.name, new.name]
    assert len(signatures.read_signatures(new)) == 1


def test_another_approval_replaces_one_that_was_not_carried_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = release(root), release(root, refer=0.4), release(root, refer=0.3)
    sign(first)
    with monkeypatch.context() as patch:
        patch.setattr(files, "point", lambda *_: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            sign(second)
    assert sign(third).previous == second.name
    assert [e.previous for e in ledger.read_ledger(root)] == [None, first.name, second.name]
    assert approval.pointed(root) == third.name


ENTRY = ledger.Entry("t", "new", "old", "approve", "Bert", "bert", "0" * 64)


@pytest.mark.parametrize(
    ("tail", "n_entries"),
    [
        pytest.param(b'{"time": "2026', 2, id="torn"),
        pytest.param(b"\0" * 512, 2, id="zeros"),
        pytest.param(json.dumps(ENTRY.__dict__).encode(), 3, id="whole_but_for_its_newline"),
    ],
)
def test_half_a_line_goes_and_no_other(tmp_path: Path, tail: bytes, n_entries: int) -> None:
    ledger.append_entry(tmp_path, ENTRY)
    path = tmp_path / "releases.jsonl"
    path.write_bytes(path.read_bytes() + b"what is this\n" + tail)
    whole = path.read_bytes().removesuffix(tail)
    ledger.append_entry(tmp_path, ENTRY)
    assert path.read_bytes().startswith(whole)
    assert path.read_bytes().endswith(b"}\n")
    assert ledger.read_ledger(tmp_path) == [ENTRY] * n_entries
    assert len(path.read_bytes().splitlines()) == n_entries + 1


@pytest.mark.parametrize("line", [b"\xff\xfe", b"[1]", b"null", b"{}", b'{"time": 1}'])
def test_a_line_that_is_no_entry_is_passed_over(tmp_path: Path, line: bytes) -> None:
    ledger.append_entry(tmp_path, ENTRY)
    with (tmp_path / "releases.jsonl").open("ab") as lines:
        lines.write(line + b"\n")
    assert ledger.read_ledger(tmp_path) == [ENTRY]


def test_writers_at_once_lose_neither_a_signature_nor_a_line(root: Path) -> None:
    folders = [release(root, refer=0.1 + 0.01 * n) for n in range(8)]
    reviewers = [threading.Thread(target=sign, args=(folders[0], "review", f"u{n}"))
                 for n in range(8)]  # fmt: skip
    approvers = [threading.Thread(target=sign, args=(folder,)) for folder in folders]
    for thread in (*reviewers, *approvers):
        thread.start()
    for thread in (*reviewers, *approvers):
        thread.join()
    entries = ledger.read_ledger(root)
    assert {e.release for e in entries} == {f.name for f in folders}
    assert [e.previous for e in entries] == [None, *(e.release for e in entries[:-1])]
    assert approval.pointed(root) == entries[-1].release
    assert len(signatures.read_signatures(folders[0])) == 9


SLOW = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from dagster_project.lib.release import approval, ledger
real = ledger.append_entry
def slow(*arguments):
    print("locked", flush=True)
    time.sleep(60)
ledger.append_entry = slow
approval.approve(
    Path(sys.argv[1]), name="C", meaning="approval", user="cleo", now=datetime.now(UTC)
)
"""


def test_a_killed_process_gives_its_lock_back_and_the_next_heals(root: Path) -> None:
    folder = release(root)
    command = [sys.executable, "-c", SLOW, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"  # signed, and holding the lock
        waiting = threading.Thread(target=sign, args=(folder,), daemon=True)
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        process.kill()
        waiting.join(20)
    assert approval.pointed(root) == folder.name
    assert [s.user for s in signatures.read_signatures(folder)] == ["cleo", "bert"]


# what is in service


def test_nothing_approved_is_nothing_in_service(tmp_path: Path) -> None:
    assert release_in_service(tmp_path / "nowhere") is None
    state = release_state(tmp_path, AT, "labels-1")
    assert state["state"] == "candidate"
    assert state["words"] == "candidate; no release has been approved yet"
    assert state["thresholds"][0] == {
        "threshold": "confident",
        "fitted": 0.815,
        "label_version": "labels-1",
        "in_service": None,
        "in_service_label_version": None,
        "release": None,
    }


def test_the_approved_values_of_the_same_labels_are_approved_and_others_are_a_candidate(
    root: Path,
) -> None:
    folder = release(root)
    sign(folder)
    same = release_state(root, AT, "labels-1")
    assert same["words"] == (
        f"approved: release {folder.name}, approved by Bert on 2026-11-02T09:30:00+00:00"
    )
    for state in (
        release_state(root, {**AT, "refer": 0.4}, "labels-1"),
        release_state(root, AT, "labels-2"),
    ):
        assert state["state"] == "candidate"
        assert state["words"].startswith(f"candidate; in service is release {folder.name}")
        assert {row["in_service_label_version"] for row in state["thresholds"]} == {"labels-1"}


def _moved_by_hand(root: Path, folder: Path) -> None:
    files.point(root / "current", release(root, refer=0.4).name)


def _gone(root: Path, folder: Path) -> None:
    folder.rename(root / "elsewhere")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(lambda _, f: _tampered(f), "thresholds.json: its content", id="tampered"),
        pytest.param(lambda _, f: (f / "approval.json").unlink(), "without an app", id="unsigned"),
        pytest.param(_moved_by_hand, "approve the one that shall", id="moved_by_hand"),
        pytest.param(_gone, "it is gone", id="gone"),
        pytest.param(lambda r, _: (r / "current").unlink(), "points to nothing", id="no_pointer"),
        pytest.param(lambda r, _: (r / "releases.jsonl").unlink(), "nothing", id="no_ledger"),
    ],
)
def test_what_does_not_agree_is_an_error_and_never_counts_as_approved(
    root: Path, damage: Callable[[Path, Path], object], said: str
) -> None:
    folder = release(root)
    sign(folder)
    damage(root, folder)
    with pytest.raises(InputError, match=said):
        release_in_service(root)
    state = release_state(root, AT, "labels-1")
    assert state["state"] == "candidate"
    assert said in state["words"]


def test_the_user_is_the_one_of_the_process_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = people.os_user()
    for name in ("USER", "LOGNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "somebody")
    assert people.os_user() == before
    monkeypatch.setattr(os, "getuid", lambda: 987_654)
    assert people.os_user() == "uid:987654"
