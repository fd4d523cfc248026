"""Files that users name, opened without ever blocking: a pipe without a writer, or without a reader, holds nobody up.

From any thread; a disk that hangs still holds up the thread that asks, so big files are read in a thread of their own.
"""

import errno
import os
import select
import stat

PIPE_WAIT = 10.0  # seconds of silence on a pipe (`<(...)`) until it is given up
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def read_file(path: str, most: int, pipe_wait: float = 0.0) -> bytes:
    """At most so many bytes. Raises OSError, its strerror a clause for the user, and ValueError for a path that is none.

    What comes through a pipe or from a terminal is waited for, `pipe_wait` seconds for each part; with 0 it is refused.
    """
    fd = os.open(path, READ)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if stat.S_ISFIFO(mode) and not pipe_wait:
            raise OSError(errno.EINVAL, "this is a pipe; wanted a file", path)
        return _read(fd, most, pipe_wait, stat.S_ISFIFO(mode))
    finally:
        os.close(fd)


def _read(fd: int, most: int, seconds: float, is_pipe: bool) -> bytes:
    found = bytearray()
    while len(found) < most:
        try:
            data = os.read(fd, min(1 << 20, most - len(found)))
        except BlockingIOError:
            _wait(fd, seconds)
            continue
        # Of a pipe this is the end, too, when nobody has opened it for writing yet; one whose writer has left is hung up.
        if not data and (not is_pipe or found or not _wait(fd, seconds) & select.POLLIN):
            break
        found += data
    return bytes(found)


def _wait(fd: int, seconds: float) -> int:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    events = poll.poll(seconds * 1000)
    if not events:
        raise OSError(errno.ETIMEDOUT, f"this is a pipe, and neither a byte nor its end has come for {seconds:g} s")
    return events[0][1]


def open_to_append(path: str) -> int:
    """The descriptor of a file that lines are added to, made if need be. Raises OSError, its strerror a clause for the user.

    Non-blocking where that means something: of a pipe that nobody empties the writer is told.
    """
    try:
        return os.open(path, APPEND, 0o644)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, _nobody(path), path) from None
        raise


def _nobody(path: str) -> str:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        mode = 0
    if stat.S_ISFIFO(mode):
        return "this is a pipe that nobody reads"
    if stat.S_ISSOCK(mode):
        return 'this is a socket; wanted a file, or "-" for standard output'
    return os.strerror(errno.ENXIO)
