"""log.jsonl: always valid JSON, and after a resume as if nothing had happened."""

import json
import math
import subprocess
import sys

import pytest

from ganfleet.errors import StorageError
from ganfleet.observe.log import JsonLog


def strict(line):
    """JSON as the standard has it: Python's own reader would let NaN pass."""
    return json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_each_line_is_on_disk_when_append_returns(tmp_path):
    log = JsonLog(tmp_path / "log.jsonl")
    for step in (50, 100):
        log.append({"step": step, "Loss/D": 1.25})
        last = (tmp_path / "log.jsonl").read_text().splitlines()[-1]
        assert strict(last) == {"step": step, "Loss/D": 1.25}


def test_nan_and_infinity_become_null(tmp_path):
    JsonLog(tmp_path / "log.jsonl").append({"step": 1, "a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.1})
    assert strict((tmp_path / "log.jsonl").read_text()) == {"step": 1, "a": None, "b": None, "c": None, "d": 0.1}


def test_a_killed_and_resumed_run_has_the_log_of_the_uninterrupted_one(tmp_path):
    whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    for path, steps in ((whole, range(10, 101, 10)), (resumed, range(10, 71, 10))):
        log = JsonLog(path)
        for step in steps:
            log.append({"step": step, "Loss/D": step / 7})
    with open(resumed, "a") as file:
        file.write('{"step": 80, "Loss')  # killed while writing
    log = JsonLog(resumed)
    log.truncate_after(45)
    for step in range(50, 101, 10):
        log.append({"step": step, "Loss/D": step / 7})
    assert resumed.read_bytes() == whole.read_bytes()


def test_a_line_at_the_resumed_step_stays_and_a_torn_one_goes_even_if_it_parses(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 10}\n{"step": 20}\n{"step": 30}')
    JsonLog(path).truncate_after(20)
    assert path.read_text() == '{"step": 10}\n{"step": 20}\n'
    path.write_text('{"step": 10}\n{"step": 20}')
    JsonLog(path).truncate_after(20)
    assert path.read_text() == '{"step": 10}\n'


def test_when_the_disk_is_full_the_file_stays_as_it_was_and_the_error_names_it(tmp_path):
    program = f"""
import resource, signal
from ganfleet.errors import StorageError
from ganfleet.observe.log import JsonLog
log = JsonLog({str(tmp_path / "log.jsonl")!r})
log.append({{"step": 1}})
resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))  # room for half of the next line
try:
    log.append({{"step": 2, "text": "x" * 50}})
except StorageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"cannot write {tmp_path / 'log.jsonl'}" in done.stdout
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1}\n'


def test_a_log_in_a_missing_directory_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        JsonLog(tmp_path / "gone" / "log.jsonl")
