"""A callback."""

from ganfleet.engine.callbacks import Callback


class Diary(Callback):
    """Writes the last step into the run's directory."""

    def at_end(self, run):
        if run.fleet.rank == 0:
            (run.directory / "diary.txt").write_text(f"ended after step {run.clock.step}\n")
