"""One of the places where lines of the access log go to, with what it did not take.

Owned by the thread of the log, as the destination that it holds.

Always true: an error of the destination is one warning; the lines it did not take are counted, the next batch tries
again, and when that is taken a second warning says how many were lost (test_a_full_disk_is_said_once_and_counted).
"""

import logging

from tcp_proxy.control.access_log.destinations import Destination, open_destination
from tcp_proxy.sansio.words import counted

logger = logging.getLogger(__name__)


class Output:
    def __init__(self, path: str, to: Destination) -> None:
        """`to` is ours from now on."""
        self.path = path
        self.dropped = 0
        self.left_at = 0  # since when only pipes that are older have lines for it; 0: it is in use
        self._to = to
        self._lost = 0  # lines since it was last in order

    def __repr__(self) -> str:
        return f"<Output {self.path}, {self.dropped} dropped>"

    def write(self, lines: bytes, now: float) -> None:
        was_failing = self._lost > 0
        lost, error = self._to.append(lines, was_failing, now)
        self._lost += lost
        self.dropped += lost
        if error is not None and not was_failing:
            logger.warning("access log %s: %s; lines are lost until it can be written", self.path, error.strerror)
        elif error is None and was_failing:
            text = counted(self._lost, "line was", "lines were")
            logger.warning("access log %s: writing again; %s lost", self.path, text)
            self._lost = 0

    def reopen(self) -> None:
        try:
            new = open_destination(self.path)
        except OSError as error:
            logger.warning("access log %s cannot be opened again: %s; it goes on in the old file", self.path, error.strerror)
            return
        self.take(new)
        logger.info("access log %s: opened again", self.path)

    def take(self, to: Destination) -> None:
        """Go on there."""
        self._to.close()
        self._to = to

    def close(self) -> None:
        self._to.close()
