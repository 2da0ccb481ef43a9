from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dagster_project.lib import environment


def git(folder: Path, *arguments: str) -> str:
    settings = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *settings, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "dagster_project").mkdir(parents=True)
    (folder / "dagster_project" / "code.py").write_text("1\n")
    git(folder.parent, "init", "-q", str(folder))
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    return folder


def test_a_checkout_has_a_commit_and_is_dirty_if_the_package_differs(checkout: Path) -> None:
    look = environment._checkout.__wrapped__
    head = git(checkout, "rev-parse", "HEAD")
    (checkout / "notes.txt").write_text("not the package's")
    assert look(checkout) == (head, False)
    (checkout / "dagster_project" / "code.py").write_text("2\n")
    assert look(checkout) == (head, True)


def test_a_repository_around_the_environment_says_nothing_of_this_code(checkout: Path) -> None:
    site = checkout / ".venv" / "site-packages"
    site.mkdir(parents=True)
    assert environment._checkout(site) == (None, None)


def test_a_hooks_own_repository_is_not_asked(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    look = environment._checkout.__wrapped__
    assert look(checkout)[1] is False


def test_without_git_commit_and_dirty_are_unknown(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    look = environment._checkout.__wrapped__
    assert look(checkout) == (None, None)


def test_the_bill_of_materials_names_each_declared_dependency_and_no_extra() -> None:
    packages = environment.environment()["packages"]
    assert {"python", "boto3", "cleanlab", "dagster", "numpy", "torch", "transformers"} <= set(
        packages
    )
    assert not {"pytest", "ruff", "mypy"} & set(packages)
    assert packages["numpy"].count(".") == 2


def test_changes_name_what_is_new_gone_or_other() -> None:
    then = {"code": {"commit": "a"}, "packages": {"numpy": "1", "old": "3", "same": "4"}}
    now = {"code": {"commit": None}, "packages": {"numpy": "2", "same": "4"}}
    assert environment.environment_changes(then, now) == [
        "code commit a then, unknown now",
        "numpy 1 then, 2 now",
        "old 3 then, unknown now",
    ]
