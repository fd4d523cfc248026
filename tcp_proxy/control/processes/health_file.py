"""A file that says that the program serves and its main thread turns, for who can look at nothing but files: the health
check of a container, without the management API. Its image names it by TCP_PROXY_HEALTH_FILE; without that nothing happens.

Main thread only. It is there from readiness until the end begins, and touched each BEAT seconds: one that is older than a
few of these is that of a thread that hangs, or of a process that was killed. It is to be in memory (/dev/shm): a disk may
wait.

    NONE ──begin()──> BEATING ──end()──> NONE, the file is removed
                         └── it cannot be written: one line in the log ──> NONE
"""

import contextlib
import logging
import os
import stat
from collections.abc import MutableMapping

from tcp_proxy.runtime.loop import Loop

logger = logging.getLogger(__name__)

VARIABLE = "TCP_PROXY_HEALTH_FILE"
BEAT = 5.0  # seconds
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class HealthFile:
    """Takes its variable out of `environment`: it is not for scripts, which may have the rest."""

    def __init__(self, loop: Loop, environment: MutableMapping[str, str]) -> None:
        self._loop = loop
        self.path = environment.pop(VARIABLE, "")
        self._fd = -1

    def __repr__(self) -> str:
        return f"<HealthFile {self.path or 'none'}>"

    def begin(self) -> None:
        """Clients are served."""
        if not self.path:
            return
        try:
            self._fd = os.open(self.path, FLAGS, 0o644)
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                raise OSError(0, "it is no plain file")
            os.write(self._fd, b"serving\n")
        except OSError as error:
            self._give_up(error)
            return
        self._loop.call_later(BEAT, self._beat)

    def end(self) -> None:
        """No new clients are served any more; said again, it does nothing."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(self.path), os.fstat(self._fd)):  # else somebody else's
                os.unlink(self.path)
        os.close(self._fd)
        self._fd = -1

    def _beat(self) -> None:
        if self._fd < 0:
            return
        try:
            os.utime(self._fd)
        except OSError as error:
            self._give_up(error)
            return
        self._loop.call_later(BEAT, self._beat)

    def _give_up(self, error: OSError) -> None:
        logger.warning("%s: %s: %s; nobody sees there that we are well", VARIABLE, self.path, error.strerror)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
