"""Recording: what a program did to a folder is understood, or it is an error."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from crash import record
from crash.disk import Op
from crash.record import NotUnderstoodError, Recording

pytestmark = pytest.mark.usefixtures("traced")


def recorded(tmp_path: Path, program: str) -> Recording:
    """What ``program`` did; it finds its folder in ``d``."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").write_bytes(b"0123456789")
    text = f"import os, sys\nd = sys.argv[1]\n{program}"
    command = [sys.executable, "-I", "-S", "-c", text, str(folder)]
    return record.record(command, folder, tmp_path / "log")


def test_a_publication_is_read_step_by_step(tmp_path: Path) -> None:
    found = recorded(
        tmp_path,
        "f = os.open(d + '/t', os.O_CREAT | os.O_WRONLY)\n"
        "os.write(f, b'a\\n\\xff\\0'); os.write(f, b'b'); os.fsync(f); os.close(f)\n"
        "os.rename(d + '/t', d + '/new')\n"
        "f = os.open(d, os.O_RDONLY); os.fsync(f)\n"
        "os.write(1, b'ACK new\\n')\n",
    )
    assert found.ops == [
        Op("open", "t", handle=0, create=True),
        Op("write", "t", handle=0, data=b"a\n\xff\0"),
        Op("write", "t", handle=0, offset=4, data=b"b"),
        Op("sync", "t", handle=0),
        Op("rename", "t", "new"),
        Op("open", ".", handle=1),
        Op("sync", ".", handle=1),
        Op("ack", "new"),
    ]
    names = [call.name for call in found.calls]
    assert names == ["openat", "write", "write", "fsync", "rename", "openat", "fsync"]


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("f = os.open(d + '/old', os.O_RDWR); os.pwrite(f, b'x', 3)", id="pwrite"),
        pytest.param(
            "f = os.open(d + '/old', os.O_RDWR); os.lseek(f, 5, 0); os.write(f, b'x')", id="seek"
        ),
        pytest.param("open(d + '/old', 'ab').write(b'x')", id="append"),
        pytest.param("open(d + '/old', 'wb').write(b'x')", id="overwrite"),
        pytest.param("os.truncate(os.open(d + '/old', os.O_RDWR), 4)", id="truncate"),
        pytest.param("os.posix_fallocate(os.open(d + '/old', os.O_RDWR), 8, 8)", id="fallocate"),
        pytest.param(
            "f = os.dup(os.open(d + '/old', os.O_RDWR)); os.write(f, b'x')", id="duplicate"
        ),
        pytest.param(
            "f = os.open(d, os.O_RDONLY); os.mkdir('sub', dir_fd=f)\n"
            "os.symlink('old', 'link', dir_fd=f); os.rename('old', 'sub/new', src_dir_fd=f, "
            "dst_dir_fd=f); os.unlink('link', dir_fd=f)",
            id="names_in_open_folders",
        ),
        pytest.param(
            "import threading\n"
            "def work(n): open(d + f'/{n}', 'wb').write(b'x' * n)\n"
            "ts = [threading.Thread(target=work, args=(n,)) for n in range(8)]\n"
            "[t.start() for t in ts]; [t.join() for t in ts]",
            id="threads",
        ),
    ],
)
def test_the_recording_ends_in_the_state_of_the_folder(tmp_path: Path, program: str) -> None:
    assert recorded(tmp_path, program).ops  # ``record`` compares it with the folder


def test_a_number_that_is_free_may_be_given_again_before_its_close_is_heard_of() -> None:
    log = """\
1 close(5 <unfinished ...>
2 openat(AT_FDCWD, "\\x61", O_WRONLY|O_CREAT, 0666 <unfinished ...>
2 <... openat resumed>) = 5
1 <... close resumed>) = 0
2 write(5, "\\x62", 1) = 1
"""
    found = [(thread, name, result) for thread, name, _, result in record._calls(log)]
    assert found == [("1", "close", 0), ("2", "openat", 5), ("2", "write", 1)]


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("os.writev(os.open(d + '/old', os.O_RDWR), [b'x'])", id="writev"),
        pytest.param("os.link(d + '/old', d + '/new')", id="hard_link"),
        pytest.param("os.truncate(d + '/old', 4)", id="truncate_by_name"),
        pytest.param("os.rename(d + '/old', d + '/../new')", id="out_of_the_folder"),
        pytest.param("os._exit(0) if os.fork() == 0 else os.wait()", id="child"),
        pytest.param(
            "import mmap; mmap.mmap(os.open(d + '/old', os.O_RDWR), 10)[0] = 65", id="mapped"
        ),
        pytest.param("sys.exit('boom')", id="failed"),
    ],
)
def test_what_cannot_be_followed_is_an_error(tmp_path: Path, program: str) -> None:
    with pytest.raises(NotUnderstoodError):
        recorded(tmp_path, program)
