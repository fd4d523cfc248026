"""The listening sockets of which a service manager keeps a copy (FileDescriptorStoreMax= of systemd), so that clients wait,
and are not refused, from our end, or crash, to our next start.

Main thread only. `keep` says which there are now; what the manager has and what it is to have is compared, and the
difference told: one socket in a message, for each has its own name, and only when nothing else waits for room in the
manager's socket. Nothing here waits.

    keep(listening) ──> wanted ──difference to what was told──> FDSTOREREMOVE=1, FDSTORE=1, some in each round of the loop

Not kept are sockets of a socket unit, which the manager has anyway, and those that are more than it keeps: they are bound by
the next start, and refuse meanwhile.
"""

import logging
import socket
from collections import deque
from collections.abc import Iterable

from tcp_proxy.control.listeners.sockets import Listening
from tcp_proxy.control.listeners.stored import name_of
from tcp_proxy.control.service_manager import SEND_AGAIN, ServiceManager
from tcp_proxy.runtime.loop import Loop, Timer

logger = logging.getLogger(__name__)

AT_ONCE = 50  # messages in a round of the loop
# Characters of all names. They come back in one variable of the environment, and with one of 128 KiB nothing can be started.
MOST_OF_NAMES = 100_000
LONGEST_NAME = 255


class FdStore:
    def __init__(self, loop: Loop, room: int, unusable: Iterable[str] = ()) -> None:
        """`room`: how many the manager keeps; 0: none. `unusable`: names of what it has and nobody wants any more."""
        self.room = room
        self._loop = loop
        self._manager: ServiceManager | None = None
        self._wanted: dict[str, Listening] = {}
        self._told: dict[str, socket.socket | None] = dict.fromkeys(unusable)
        self._unusable = frozenset(self._told)
        self._todo: deque[str] = deque()
        self._timer: Timer | None = None
        self._has_warned = False

    def __repr__(self) -> str:
        return f"<FdStore {len(self._wanted)} wanted, {len(self._told)} told, {len(self._todo)} to tell>"

    def tell(self, manager: ServiceManager) -> None:
        """It is this one that hears it, from now on."""
        if manager.is_there:
            self._manager = manager
            self._look()

    def keep(self, listening: Iterable[Listening]) -> None:
        """All that there are now and that are to be kept; before any of the others is closed."""
        listening = tuple(listening)
        if not (self.room or self._wanted or self._told or any(item.is_stored for item in listening)):
            return
        items = {name_of(item.address): item for item in listening}
        for name, item in items.items():
            if item.is_stored and name not in self._wanted and name not in self._unusable:  # since an earlier life
                self._told.setdefault(name, item.sock)
        wanted = self._chosen(items)
        for item in (*self._wanted.values(), *items.values()):
            item.is_stored = False
        for item in wanted.values():
            item.is_stored = True
        self._wanted = wanted
        self._look()

    def _chosen(self, items: dict[str, Listening]) -> dict[str, Listening]:
        """As many as there is room for, those first that are kept already."""
        chosen: dict[str, Listening] = {}
        length, lacking = 0, 0
        for name, item in sorted(items.items(), key=lambda pair: pair[1] is not self._wanted.get(pair[0])):
            if item.is_activated or not item.is_listening or not name.isascii() or len(name) > LONGEST_NAME:
                continue
            if len(chosen) < self.room and length + len(name) < MOST_OF_NAMES:
                chosen[name] = item
                length += len(name) + 1
            else:
                lacking += 1
        if lacking and self.room and not self._has_warned:
            text = "the service manager keeps %d of %d listening sockets (FileDescriptorStoreMax=): a restart closes others"
            logger.warning(text, len(chosen), len(chosen) + lacking)
        self._has_warned = bool(lacking)
        return chosen

    def _look(self) -> None:
        """What is different: names to be taken out, and after them those to be put in."""
        leaving = {name: None for name, sock in self._told.items() if not self._is_wanted(name, sock)}
        self._todo = deque(leaving)
        self._todo += [name for name in self._wanted if name not in self._told or name in leaving]
        if self._todo and self._timer is None:
            self._send()

    def _is_wanted(self, name: str, sock: socket.socket | None) -> bool:
        item = self._wanted.get(name)
        return item is not None and item.sock is sock

    def _send(self) -> None:
        self._timer = None
        if self._manager is None:
            return
        for _ in range(AT_ONCE):
            if not self._todo:
                return
            if not self._manager.is_there:  # nobody keeps anything
                self.room, self._manager = 0, None
                self._told.clear()
                self.keep(())
                return
            if not self._tell(self._manager, self._todo[0]):
                self._timer = self._loop.call_later(SEND_AGAIN, self._send)
                return
            self._todo.popleft()
        self._timer = self._loop.call_later(0.0, self._send)

    def _tell(self, manager: ServiceManager, name: str) -> bool:
        """Whether there was room."""
        if name in self._told:
            is_told = manager.remove(name)
            if is_told:
                del self._told[name]
            return is_told
        sock = self._wanted[name].sock
        if sock.fileno() < 0:  # we end
            return True
        is_told = manager.store(name, sock.fileno())
        if is_told:
            self._told[name] = sock
        return is_told
