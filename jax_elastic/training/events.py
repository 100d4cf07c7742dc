"""Event files, which TensorBoard shows: a curve for each number of the metric rows."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class EventFiles:
    """The event files of a run, one for each time that it was started.

    Args:
      directory: gets the files; made when there is something to write.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        self._writer: Any = None  # tensorboardX's EventsWriter
        self._first = 0

    def start(self, step: int) -> None:
        """The run goes on after `step`; TensorBoard leaves out what older files say of later ones.

        Args:
          step: the last one whose rows hold; -1 for none.
        """
        self.close()
        self._first = step + 1

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds the numbers of a metric row as ``KIND/NAME`` and hands them to the system."""
        # Imported here, for it imports PyTorch where that is installed.
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        writer = self._writer or self._open()
        for name, value in row.items():
            # A bool is an int, too.
            if name != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                summary = scalar(f"{row['kind']}/{name}", value)
                event = Event(wall_time=time.time(), step=row["step"], summary=summary)
                writer.write_event(event)
        writer.flush()

    def close(self) -> None:
        """Closes the file; another row would begin a new one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self) -> Any:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._directory.mkdir(parents=True, exist_ok=True)
        # Names hold the second only, and a file of the same name would be overwritten.
        self._writer = EventsWriter(str(self._directory / "events"), f".{time.time_ns()}")
        log = SessionLog(status=SessionLog.START)
        self._writer.write_event(Event(wall_time=time.time(), step=self._first, session_log=log))
        return self._writer
