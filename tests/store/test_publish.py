"""What is published is there whole or not at all: after a kill at any system call, on a full disk, beside others."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ganfleet.errors import StorageError
from ganfleet.store import publish

OLD, NEW = b"old" * 1000, b"new and longer" * 1000
SYSTEM_CALLS = ("mkdir", "open", "write", "fsync", "rename", "unlink", "rmdir")

# A process that is killed, by SIGKILL, at its ``count``-th system call of SYSTEM_CALLS; a write goes halfway before.
KILLED = f"""
import os, signal, sys
from pathlib import Path
from ganfleet.store import publish
path, count = Path(sys.argv[1]), int(sys.argv[2])
calls = iter(range(1, count))
def patched(name, real):
    def call(*args, **kwargs):
        if next(calls, None) is None:
            if name == "write":
                real(args[0], args[1][: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call
for name in {SYSTEM_CALLS}:
    setattr(os, name, patched(name, getattr(os, name)))
"""
FILE = f"{KILLED}\npublish.file(path, {NEW!r})"
DIRECTORY = f"""{KILLED}
with publish.directory(path) as made:
    for name in ("a", "b"):
        publish.new_file(made / name, {NEW!r})
"""


def killed(program: str, path: Path, count: int) -> bool:
    """Whether ``program`` was killed at its ``count``-th call, or else ended well."""
    code = subprocess.run([sys.executable, "-c", program, str(path), str(count)]).returncode
    assert code in (0, -9)
    return code == -9


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def in_a_new_process():
    """Forget which folders were swept, as a new process does not know it."""
    publish._swept.clear()


def test_a_kill_at_any_system_call_leaves_the_old_file_or_the_new_one(tmp_path):
    path, seen = tmp_path / "config.yaml", []
    for count in range(1, 20):
        publish.file(path, OLD)
        died = killed(FILE, path, count)
        assert path.read_bytes() in (OLD, NEW)
        seen.append(path.read_bytes() == NEW)
        in_a_new_process()
        publish.file(tmp_path / "other", b"")  # whoever writes here next tidies up
        assert names(tmp_path) == ["config.yaml", "other"]
        if not died:
            break
    assert not died and len(seen) >= 6
    assert seen == sorted(seen) and (seen[0], seen[-1]) == (False, True)


def test_a_kill_at_any_system_call_leaves_no_directory_or_the_whole_one(tmp_path):
    seen = []
    for count in range(1, 30):
        path = tmp_path / str(count) / "cache"
        path.parent.mkdir()
        died = killed(DIRECTORY, path, count)
        seen.append(path.exists())
        assert not path.exists() or {each.name: each.read_bytes() for each in path.iterdir()} == {"a": NEW, "b": NEW}
        in_a_new_process()
        publish.sweep(path.parent)
        assert names(path.parent) == ["cache"] * path.exists()
        if not died:
            break
    assert not died and len(seen) >= 8
    assert seen == sorted(seen) and (seen[0], seen[-1]) == (False, True)


def traced(monkeypatch, action) -> list[tuple[str, str]]:
    """The calls of ``action`` that write, each with the name of what it writes; for a rename, the source's."""
    trace, opened = [], {}

    def spy(name, real):
        def call(target, *args, **kwargs):
            result = real(target, *args, **kwargs)
            if name == "open":
                opened[result] = Path(target).name
            else:
                trace.append((name, opened[target] if isinstance(target, int) else Path(target).name))
            return result

        return call

    with monkeypatch.context() as patch:
        for name in ("open", "write", "fsync", "rename"):
            patch.setattr(os, name, spy(name, getattr(os, name)))
        action()
    return trace


def test_a_durable_file_is_on_disk_before_its_rename_and_the_rename_after_it(tmp_path, monkeypatch):
    trace = traced(monkeypatch, lambda: publish.file(tmp_path / "a", b"content"))
    made = trace[0][1]
    assert made.startswith(".tmp-")
    assert trace == [("write", made), ("fsync", made), ("rename", made), ("fsync", tmp_path.name)]


def test_a_picture_need_not_wait_for_the_disk(tmp_path, monkeypatch):
    trace = traced(monkeypatch, lambda: publish.file(tmp_path / "a.png", b"content", durable=False))
    assert [call for call, _ in trace] == ["write", "rename"]


@pytest.mark.parametrize("name", ["open", "write", "fsync", "rename"])
def test_a_full_disk_keeps_the_old_file_names_it_and_leaves_no_other(tmp_path, monkeypatch, name):
    path = tmp_path / "a"
    publish.file(path, OLD)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, full)
        with pytest.raises(StorageError, match=f"cannot write {path}: No space left on device") as caught:
            publish.file(path, NEW)
    assert caught.value.exit_code == 74
    assert path.read_bytes() == OLD
    assert names(tmp_path) == ["a"]


def test_a_directory_whose_block_fails_is_not_there(tmp_path):
    with pytest.raises(ZeroDivisionError), publish.directory(tmp_path / "cache") as made:
        publish.new_file(made / "a", b"")
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_a_directory_is_never_put_over_one_that_is_there(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "mine").touch()
    with pytest.raises(OSError, match="not empty"), publish.directory(tmp_path / "cache") as made:
        publish.new_file(made / "a", b"")
    assert names(tmp_path) == ["cache"] and names(tmp_path / "cache") == ["mine"]


def test_text_is_utf_8_whatever_the_locale(tmp_path):
    program = "import sys; from ganfleet.store import publish; publish.file(sys.argv[1], '\\u9a6c')"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a")], env=environment, check=True)
    assert (tmp_path / "a").read_bytes() == "马".encode()


def test_what_living_processes_write_is_left_alone_and_what_dead_ones_left_is_not(tmp_path):
    program = (
        "import sys; from pathlib import Path; from ganfleet.store import publish\n"
        "publish.temporary(Path(sys.argv[1])).touch(); print('made', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "made\n"
        [left] = names(tmp_path)
        in_a_new_process()
        publish.file(tmp_path / "a", b"")
        assert names(tmp_path) == [left, "a"]
        writer.kill()
        writer.wait()
        in_a_new_process()
        publish.file(tmp_path / "b", b"")
        assert names(tmp_path) == ["a", "b"]


def test_what_another_host_left_goes_after_a_day(tmp_path):
    new, old, oldest = (tmp_path / f".tmp-0123abcd-7-{number}" for number in range(3))
    new.touch()
    old.touch()
    oldest.mkdir()
    (oldest / "fresh").touch()
    for path in (old, oldest):
        os.utime(path, (0, 0))
    publish.sweep(tmp_path)
    assert names(tmp_path) == [new.name, oldest.name]  # somebody still writes in the last
    os.utime(oldest / "fresh", (0, 0))
    publish.sweep(tmp_path)
    assert names(tmp_path) == [new.name]


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path):
    path = tmp_path / ("马" * 85)  # 255 bytes
    publish.file(path, b"content")
    assert path.read_bytes() == b"content"


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "file")
    for content in (b"first", b"second"):
        publish.file(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "elsewhere" / "file").read_bytes() == content
    assert names(tmp_path) == ["elsewhere", "link"] and names(tmp_path / "elsewhere") == ["file"]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    """As are devices: root would otherwise replace /dev/null by a file."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        publish.file(tmp_path / "pipe", b"content")
        assert os.read(reader, 100) == b"content"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_file_is_as_readable_as_the_umask_allows(tmp_path):
    before = os.umask(0o027)
    try:
        publish.file(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
