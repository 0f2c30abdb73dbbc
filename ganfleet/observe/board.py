"""TensorBoard events: scalars, sample grids and the config, in the run directory. What to show is left to the caller.

Every event's global_step is the clock's step, as in log.jsonl, or in a board by images the number of images seen.
"""

import time
from contextlib import suppress
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import text as text_summary

from ganfleet.store.publish import writing


class Board:
    """Writes one events file; TensorBoard shows what a resumed run has written again only once.

    tensorboardX's SummaryWriter is not used: it hands events to a thread, so its flush does not reach the disk, a
    killed run loses the last of them, and on a full disk the thread dies and the training waits for it forever.
    Here everything is on disk when a method returns. Where that fails they raise StorageError.
    """

    def __init__(self, run_dir: Path, resume_step: int):
        """``run_dir``: the folder for the file; TensorBoard shows each folder as a run."""
        self._path = Path(run_dir)
        # Names are sorted by time; without the nanoseconds a second start in the same second would overwrite.
        suffix = f".{time.time_ns() % 10**9:09d}"
        with writing(self._path, "another run.dir"):
            self._path.mkdir(exist_ok=True)
            self._writer = EventsWriter(str(self._path / "events"), suffix)
        self.forget_after(resume_step)

    def forget_after(self, step: int) -> None:
        """Tells TensorBoard to forget what it was shown past ``step``, from where the run goes on."""
        self._write(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Writes one point of each curve; TensorBoard marks NaN as such."""
        points = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(Event(step=step, summary=Summary(value=points)))

    def image(self, step: int, tag: str, png: bytes, shape: tuple[int, ...]) -> None:
        """Shows a PNG file's bytes, whose pixels are of ``shape`` (H, W) or (H, W, 3)."""
        image = Summary.Image(
            height=shape[0], width=shape[1], colorspace=3 if len(shape) == 3 else 1, encoded_image_string=png
        )
        self._write(Event(step=step, summary=Summary(value=[Summary.Value(tag=tag, image=image)])))

    def text(self, step: int, tag: str, markdown: str) -> None:
        self._write(Event(step=step, summary=text_summary(tag, markdown)))

    def close(self) -> None:
        # Nothing is lost here: each event is on disk already, or its own call has raised.
        with suppress(OSError):
            self._writer.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        with writing(self._path, "another run.dir"):
            self._writer.write_event(event)
            self._writer.flush()
