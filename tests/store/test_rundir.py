"""Run directories: numbering, reuse, races, and places that cannot be written."""

import os
import subprocess
import sys

import pytest

from ganfleet.errors import StorageError
from ganfleet.store import rundir


def test_numbers_go_on_after_the_highest_whatever_the_label(tmp_path):
    for taken in ("00000-gan-embedded32", "00041-dcgan-faces64", "named-run", "7-not-ours"):
        (tmp_path / taken).mkdir()
    run_dir = rundir.create(tmp_path, None, "dcgan-embedded32")
    assert run_dir == tmp_path / "00042-dcgan-embedded32"
    assert sorted(each.name for each in run_dir.iterdir()) == ["checkpoints", "samples"]


def test_the_first_run_is_number_zero_and_makes_the_root(tmp_path):
    assert rundir.create(tmp_path / "a" / "runs", None, "gan").name == "00000-gan"


def test_a_class_path_in_the_label_becomes_one_folder_name(tmp_path):
    assert rundir.create(tmp_path, None, "my_pkg.mod:MyGAN-a/b32").name == "00000-my_pkg.mod-MyGAN-a-b32"


def test_a_named_run_is_used_again_with_what_is_in_it(tmp_path):
    first = rundir.create(tmp_path, "mine", "gan")
    (first / "checkpoints" / "kept").write_text("weights")
    again = rundir.create(tmp_path, "mine", "gan")
    assert again == first == tmp_path / "mine"
    assert (again / "checkpoints" / "kept").read_text() == "weights"


def test_four_processes_at_once_get_four_directories(tmp_path):
    program = (
        "import sys; from pathlib import Path; from ganfleet.store import rundir\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for _ in range(20): print(rundir.create(Path(sys.argv[1]), None, 'gan').name)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    names = [name for process in processes for name in process.communicate(timeout=60)[0].split()]
    assert sorted(names) == [f"{number:05d}-gan" for number in range(80)]


def test_a_root_that_is_a_file_is_one_storage_error_with_its_path(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match=f"cannot write {tmp_path / 'runs'}") as caught:
        rundir.create(tmp_path / "runs", None, "gan")
    assert caught.value.exit_code == 74


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_existing_directory_without_write_permission_is_a_storage_error(tmp_path):
    run_dir = rundir.create(tmp_path, "mine", "gan")
    run_dir.chmod(0o555)
    try:
        with pytest.raises(StorageError, match="Permission denied"):
            rundir.create(tmp_path, "mine", "gan")
    finally:
        run_dir.chmod(0o755)


def test_an_existing_directory_that_takes_no_file_is_a_storage_error(tmp_path):
    run_dir = rundir.create(tmp_path, "mine", "gan")
    (run_dir / "samples").rmdir()
    (run_dir / "samples").symlink_to("/proc")  # a directory, but nobody can create a file in it
    with pytest.raises(StorageError, match=f"cannot write {run_dir}"):
        rundir.create(tmp_path, "mine", "gan")
