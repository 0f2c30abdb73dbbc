"""Reading TensorBoard events back, by the record format's definition."""

import struct

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog


@pytest.fixture
def events():
    return read_events


@pytest.fixture
def shown():
    return read_shown


def read_events(run_dir):
    """Every event in ``run_dir``, file by file in the order TensorBoard reads them."""
    found = []
    for path in sorted(run_dir.glob("*tfevents*")):
        content = path.read_bytes()
        while content:  # a record: length (8 bytes), its CRC (4), the event, its CRC (4)
            (length,) = struct.unpack("<Q", content[:8])
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def read_shown(run_dir):
    """The scalars that TensorBoard shows: a session's start takes back what is at its step or later."""
    points = []
    for event in read_events(run_dir):
        if event.session_log.status == SessionLog.START:
            points = [point for point in points if point[1] < event.step]
        points += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
    return points
