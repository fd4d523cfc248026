"""One direction by os.splice: socket -> pipe -> socket, without a byte in this program. And the pipes it takes.

Runs in a relay thread. A pump takes a pipe when its source has something, and gives it back when the pipe is empty and
the source has no more for now: pipes are held by directions that are bulk now, by nobody else. Where no pipe can be had
it copies (it *is* a Pump), so a full budget slows a session and never stops it.

Always true:
- the pipe is drained before it is filled again, so EAGAIN from the filling side can only mean "the source is empty", and
  EAGAIN from the draining side "the destination is full" (test_any_cut_and_any_order_arrives_whole);
- a pipe goes back to the pool only when it is empty and none of its splices failed: otherwise one customer's bytes
  would reach another (test_a_dirty_pipe_is_closed);
- a splice stops at urgent data and then says "empty" or even "ended": a source that ever had some is copied from then
  on, and an end is believed only when recv says so too (test_urgent_data_stays_in_line);
- a pool belongs to one thread and is the only place that opens and closes pipes.
"""

import fcntl
import os
import select
from collections.abc import Callable
from typing import Final, Self

from tcp_proxy.dataplane.relay.pump import Owner, Pump
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.runtime.stream_socket import StreamSocket

HAS_SPLICE: Final = hasattr(os, "splice")

SIZES = (1 << 20, 1 << 18, 1 << 16)  # tried in this order: an ordinary user has a budget of 64 pipes of 1 MiB
STEPS_PER_TURN: Final = 8  # splices into the pipe before other sessions of this thread have their turn
KEPT: Final = 8  # empty pipes a pool keeps for the next direction

_URGENT: Final = select.EPOLLPRI
_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK if HAS_SPLICE else 0


class Pipe:
    """Two descriptors and how many bytes are between them."""

    __slots__ = ("count", "dirty", "read_fd", "size", "write_fd")

    def __init__(self, read_fd: int, write_fd: int, size: int) -> None:
        self.read_fd = read_fd
        self.write_fd = write_fd
        self.size = size
        self.count = 0
        self.dirty = False

    def __repr__(self) -> str:
        return f"<Pipe {self.count} of {self.size}{' dirty' if self.dirty else ''}>"

    @classmethod
    def open(cls) -> Self | None:
        """The largest pipe that can be had, None when there is none of a useful size (or no descriptor for it)."""
        try:
            read_fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        for size in SIZES:
            try:
                granted = fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, size)
            except OSError:  # EPERM, EBUSY: past the budget of this user
                continue
            return cls(read_fd, write_fd, granted)
        os.close(read_fd)
        os.close(write_fd)
        return None

    def close(self) -> None:
        os.close(self.read_fd)
        os.close(self.write_fd)


class PipePool:
    """The pipes of one relay thread. `allowed` is asked before a new one: it keeps the last descriptors free."""

    def __init__(self, allowed: Callable[[], bool] = lambda: True) -> None:
        self._allowed = allowed
        self._free: list[Pipe] = []
        self.open = 0  # pipes that exist, in use or free; other threads may read it

    def __repr__(self) -> str:
        return f"<PipePool {self.open} open, {len(self._free)} free>"

    def take(self) -> Pipe | None:
        if self._free:
            return self._free.pop()
        if not self._allowed():
            return None
        pipe = Pipe.open()
        if pipe is not None:
            self.open += 1
        return pipe

    def give(self, pipe: Pipe) -> None:
        if pipe.count or pipe.dirty or len(self._free) >= KEPT:
            self._discard(pipe)
        else:
            self._free.append(pipe)

    def close(self) -> None:
        """Those that nobody uses; the others when they are given back to a full pool, or at the next call."""
        while self._free:
            self._discard(self._free.pop())

    def _discard(self, pipe: Pipe) -> None:
        self.open -= 1
        pipe.close()


class SplicePump(Pump):
    """A Pump whose bytes stay in the kernel. `blocked` with an empty `pending` means that the pipe holds bytes."""

    __slots__ = ("pipe", "pool", "urgent")
    pipe: Pipe | None

    def __init__(
        self, loop: Loop, owner: Owner, source: StreamSocket, dest: StreamSocket, tcp: bool, pool: PipePool
    ) -> None:
        super().__init__(loop, owner, source, dest, tcp)
        self.pool = pool
        self.pipe = None
        self.urgent = False

    def ready(self, events: int) -> None:
        if events & _URGENT:
            self.urgent = True
        super().ready(events)

    def fill(self, events: int = 0) -> None:
        if self.urgent:
            self.release()
        pipe = self.pipe
        if pipe is None and not self.urgent:
            pipe = self.pipe = self.pool.take()
        if pipe is None:
            super().fill(events)
            return
        for _ in range(STEPS_PER_TURN):
            try:
                size = os.splice(self.source.fileno(), pipe.write_fd, pipe.size, flags=_FLAGS)
            except BlockingIOError:
                self.release()
                self.owner.emptied(self)
                return
            except OSError as error:
                pipe.dirty = True
                self.release()
                self.owner.read_failed(self, error.errno or 0)
                return
            if not size:
                self.release()
                super().fill()
                return
            self.moved += size
            pipe.count = size
            if not self._drain(pipe):
                return
        self._go_on_later()

    def flush(self) -> None:
        if self.pending:
            super().flush()  # goes on by _flushed
        elif self.pipe is not None and self._drain(self.pipe):
            if self.ended:
                self.release()
            self._flushed()

    def release(self) -> None:
        pipe, self.pipe = self.pipe, None
        if pipe is not None:
            self.moved -= pipe.count
            self.pool.give(pipe)

    def retire(self) -> None:
        assert self.pipe is None or not self.pipe.count, "bytes in a pipe cannot change their thread"
        super().retire()

    @property
    def is_movable(self) -> bool:
        return self.pipe is None or not self.pipe.count

    @property
    def delivered(self) -> int:
        return super().delivered - (self.pipe.count if self.pipe is not None else 0)

    def unpipe(self) -> None:
        """What is in the pipe is in memory from now on: the session is to leave the kernel's sight."""
        pipe = self.pipe
        if pipe is not None and pipe.count:
            parts = []
            while pipe.count:
                parts.append(os.read(pipe.read_fd, pipe.count))
                pipe.count -= len(parts[-1])
            self.pending = b"".join(parts)
        self.pipe = None
        if pipe is not None:
            self.pool.give(pipe)

    def _drain(self, pipe: Pipe) -> bool:
        """Whether the pipe is empty now; if not, the destination is full or has failed."""
        dest = self.dest.fileno()
        while pipe.count:
            try:
                pipe.count -= os.splice(pipe.read_fd, dest, pipe.count, flags=_FLAGS)
            except BlockingIOError:
                self.blocked = True
                return False
            except OSError as error:
                pipe.dirty = True
                self.owner.write_failed(self, error.errno or 0)
                return False
        return True


def take_in(pipe: Pipe, source: int, most: int) -> int:
    """Into an empty pipe, from a non-blocking socket, at most so many bytes. Raises BlockingIOError and OSError."""
    try:
        pipe.count = os.splice(source, pipe.write_fd, min(most, pipe.size), flags=_FLAGS)
    except BlockingIOError:
        raise
    except OSError:
        pipe.dirty = True
        raise
    return pipe.count


def drain(pipe: Pipe, dest: int) -> bool:
    """Whether the pipe is empty now; if not, the socket is full. Raises OSError."""
    try:
        while pipe.count:
            pipe.count -= os.splice(pipe.read_fd, dest, pipe.count, flags=_FLAGS)
    except BlockingIOError:
        return False
    except OSError:
        pipe.dirty = True
        raise
    return True
