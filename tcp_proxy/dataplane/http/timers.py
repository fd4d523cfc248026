"""How long a client of mode http and its target may take: the part of a connection that holds its times.

Owned by the loop's thread. Its connection says what it waits for, and when bytes were moved (`last`), and is asked when it
is due. While a request is answered the time runs from the last byte that moved, and epoll does not tell of all of them:
who takes a little at a time, out of the kernel's buffer, is not silent (test_a_slow_reader_…,
test_a_target_that_reads_slowly_…). So where bytes wait for somebody, what he has not taken is looked at LOOKS times in
`timeouts.response`, and a change counts as a byte that moved. So the limit is one between two operations, and the wait
for an answer begins when the target's machine has the whole request.
"""

from typing import Final

from tcp_proxy.dataplane.relay.session_thread import NEVER, SessionThread
from tcp_proxy.runtime.stream_socket import StreamSocket

LOOKS: Final = 4
PAUSED_MORE: Final = 1.0  # seconds that a client has when it was slowed down by us until its time was over


class Timers:
    """`last`: when a byte was moved; `deadline`: until when the next step is waited for, where no request is answered."""

    __slots__ = ("_looked", "_owed", "_session_thread", "deadline", "last")

    def __init__(self, thread: SessionThread) -> None:
        self._session_thread = thread
        self.deadline = NEVER
        self.last = thread.loop.now
        self._looked = float("-inf")  # when it was looked at what client and target have not taken, `_owed`
        self._owed: tuple[int, int] | None = None

    def __repr__(self) -> str:
        return f"<Timers last={self.last:.3f} deadline={self.deadline:.3f}>"

    def set_deadline(self, when: float) -> None:
        self.deadline = when
        if when < self._session_thread.next_look:
            self._session_thread.look_at(when)

    def wait(self, seconds: float) -> None:
        when = self.deadline = self._session_thread.loop.now + seconds
        if when < self._session_thread.next_look:
            self._session_thread.look_at(when)

    def wait_for_answer(self, response: float) -> None:
        """The request goes to its target now."""
        thread = self._session_thread
        self.last = now = thread.loop.now
        self._owed = None
        first_look = now + response / LOOKS  # that of `next_look_at` or sooner: asking which costs each request 0.5 us
        if first_look < thread.next_look:
            thread.look_at(first_look)

    def next_look_at(self, response: float) -> float:
        """Where bytes wait for somebody."""
        return max(self.last, self._looked) + response / LOOKS

    def is_silent(self, client_owes: int, target_owes: int, response: float) -> bool:
        """Whether nobody has moved a byte for `response` seconds. Arguments: what each has not taken of what it is sent."""
        now, owed, before = self._session_thread.loop.now, (client_owes, target_owes), self._owed
        self._owed = owed
        self._looked = now
        if owed != before and before is not None:
            self.last = now
            return False
        return now >= self.last + response and (before is not None or not any(owed))

    def excuse(self, client: StreamSocket, may_wait: bool) -> bool:
        """Whether nobody is late, for it was us who slowed the client down (paced_client), until a moment ago."""
        until = getattr(client, "paused_until", float("-inf")) + PAUSED_MORE
        now = self._session_thread.loop.now
        if now >= until or not may_wait:
            return False
        self.last = now
        self.set_deadline(until)
        return True

    def client_takes(self, client_owes: int) -> bool:
        """Whether the client has taken any of it since it was last looked at."""
        owed = (client_owes, 0)
        if not client_owes or owed == self._owed:
            return False
        self._owed = owed
        return True
