"""TensorBoard events, read back from their file."""

import subprocess
import sys

from ganfleet.observe.board import Board


def test_scalars_are_on_disk_at_once_with_tag_step_and_value(tmp_path, shown):
    board = Board(tmp_path, resume_step=0)
    board.scalars(50, {"Loss/D": 1.5, "Progress/kimg": 3.25})
    assert shown(tmp_path) == [("Loss/D", 50, 1.5), ("Progress/kimg", 50, 3.25)]  # before close
    board.close()


def test_the_file_opens_with_the_version_that_tensorboard_expects(tmp_path, events):
    Board(tmp_path, resume_step=0).close()
    assert events(tmp_path)[0].file_version == "brain.Event:2"


def test_a_resumed_run_shows_every_step_once(tmp_path, shown):
    killed = Board(tmp_path, resume_step=0)
    for step in (10, 20, 30):
        killed.scalars(step, {"Loss/D": 1.0})
    resumed = Board(tmp_path, resume_step=20)
    for step in (30, 40):
        resumed.scalars(step, {"Loss/D": 2.0})
    resumed.close()
    assert shown(tmp_path) == [("Loss/D", 10, 1), ("Loss/D", 20, 1), ("Loss/D", 30, 2), ("Loss/D", 40, 2)]


def test_an_image_keeps_its_bytes_and_size(tmp_path, events):
    board = Board(tmp_path, resume_step=0)
    board.image(7, "Samples", b"png bytes", (20, 30, 3))
    board.image(8, "Samples", b"grey", (20, 30))
    board.close()
    colour, grey = [(event.step, event.summary.value[0]) for event in events(tmp_path) if event.summary.value]
    assert (colour[0], colour[1].tag, colour[1].image.encoded_image_string) == (7, "Samples", b"png bytes")
    assert (colour[1].image.height, colour[1].image.width, colour[1].image.colorspace) == (20, 30, 3)
    assert (grey[0], grey[1].image.colorspace) == (8, 1)


def test_a_full_disk_is_a_storage_error_and_no_hang_however_much_is_written(tmp_path):
    program = f"""
import resource
from ganfleet.errors import StorageError
from ganfleet.observe.board import Board
board = Board({str(tmp_path)!r}, resume_step=0)
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
errors = []
for step in range(50):
    try:
        board.scalars(step, {{"Loss/D": 1.0}})
    except StorageError as error:
        errors.append(str(error))
board.close()
print(len(errors), errors[0])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    count, message = done.stdout.split(" ", 1)
    assert int(count) > 40 and message.startswith(f"cannot write {tmp_path}")
