"""What the old program tells of itself: `state`, everything that the new one builds itself from; `last`, what moves until
the last moment. Main thread only.

Plain values that JSON can say. A descriptor is a number: its place in a list that goes along. All of them stay ours. Whoever
adds something that a later program needs adds a key; one that takes over reads what it knows with `get`.
"""

import os
from collections.abc import Callable
from typing import Any

from tcp_proxy import __version__
from tcp_proxy.control.processes.health_file import VARIABLE
from tcp_proxy.control.processes.workers import Worker
from tcp_proxy.control.takeover.program import Program
from tcp_proxy.control.targets.semaphores import Limited
from tcp_proxy.wire import counters, messages

FORMAT = 1
LOOK = 0.01  # seconds
WAITED_FOR = 4  # the stick tables, the access log, the state file, the cluster's agent
View = dict[str, Any]


class Descriptors(list[int]):
    """Those that go along. Owns the copies among them, until `close`."""

    def __init__(self) -> None:
        super().__init__()
        self._copies: list[int] = []

    def place(self, fd: int) -> int:
        self.append(fd)
        return len(self) - 1

    def place_copy(self, fd: int) -> int:
        """Of one that may be closed, and its number be another one's, before it is asked for. Raises OSError."""
        self._copies.append(os.dup(fd))
        return self.place(self._copies[-1])

    def close(self) -> None:
        while self._copies:
            os.close(self._copies.pop())


def state_of(program: Program, fds: Descriptors) -> View:
    """While all is held (freeze): but a worker may end. Raises OSError: there is no room for copies of descriptors."""
    context, statistics = program.context, program.statistics
    rows = context.counter_rows
    return {
        "format": FORMAT,
        "version": __version__,
        "messages": messages.VERSION,
        "environment": {**context.service_manager.given, VARIABLE: context.health_file.path},
        "started": statistics.started,
        "incarnations": program.incarnations,
        "generation": context.generation,
        "counters": {
            "layout": counters.LAYOUT, "fd": fds.place(rows.fd), "bell": fds.place(rows.bell), "rows": rows.rows,
            "slots": rows.slots.given(),
        },
        "workers": [
            {"pid": worker.pid, "number": rows.number_of(worker), "process": fds.place_copy(worker.pidfd)}
            for worker in context.worker_pool
        ],
        "numbers": rows.assigned(),
        "holders": context.sticks.holders(),
        "listeners": _listeners(program, fds),
        "listener_numbers": context.numbers,
        "api": _api(program, fds),
        "pid_file": _pid_file(program, fds),
        "state_file": program.state_path,
        "known": program.store.given(),
        "names": {host: [answer.addresses, answer.error] for host, answer in context.states.answers().items()},
        "targets": [
            {"app": one.app, "target": one.config.name, "since": one.since, "ejections": one.ejections}
            for one in context.targets
            if one.since or one.ejections
        ],
        "ejections": context.states.ejections(),
        "limits": _limits(program, fds),
        "tables": [
            {"app": name, "of": app.config.limits.table, "number": app.table_number, "fd": fds.place(app.table)}
            for name, app in context.targets.apps.items()
            if app.table >= 0
        ],
        "elections": program.failovers.given(),
        "ticket_key": context.ticket_keys.message().key,
        "workers_died": statistics.workers_died,
        "peaks": statistics.peaks.given(),
        **_cluster(program),
    }  # fmt: skip


def _cluster(program: Program) -> View:
    node = program.context.cluster
    given = node.given() if node is not None else None
    return {} if given is None else {"cluster": {**given, "elections": program.failovers.given_of_node()}}


def _listeners(program: Program, fds: Descriptors) -> list[View]:
    return [
        {
            "number": item.number, "app": item.app, "host": item.address.host, "port": item.address.port,
            "is_listening": item.is_listening, "is_activated": item.is_activated, "is_stored": item.is_stored,
            "fd": fds.place(item.sock.fileno()),
        }
        for item in program.context.listening.values()
    ]  # fmt: skip


def _api(program: Program, fds: Descriptors) -> View | None:
    if program.api is None:
        return None
    sock = program.api.socket
    return {"listen": str(sock.api.listen), "identity": sock.identity, "fd": fds.place(sock.sock.fileno())}


def _pid_file(program: Program, fds: Descriptors) -> View | None:
    file = program.pid_file
    return None if file is None or file.fd < 0 else {"path": file.path, "fd": fds.place(file.fd)}


def _limits(program: Program, fds: Descriptors) -> list[View]:
    apps = program.context.targets.apps.values()
    limited: list[tuple[str, str, int, Limited]] = [
        (app.config.name, "", app.config.limits.sessions, app) for app in apps
    ] + [(one.app, one.config.name, one.config.max_connections, one) for one in program.context.targets]
    return [
        {"app": app, "target": target, "limit": limit, "number": one.semaphore, "fd": fds.place(one.tokens)}
        for app, target, limit, one in limited
        if one.tokens >= 0
    ]


class Last:
    """`done(view, descriptors)` once, when threads have stopped with what is told; `resume` has all go on."""

    def __init__(self, program: Program, done: Callable[[View, Descriptors], Any]) -> None:
        self._program = program
        self._done = done
        self._found: View = {}
        self._workers: list[Worker] = []  # that are paused
        self.node = ""  # as whose life the other program goes on in a cluster; "": of none
        self._has_paused = self._is_over = False

    def __repr__(self) -> str:
        return f"<Last with {', '.join(self._found) or 'nothing'}>"

    @property
    def is_possible(self) -> bool:
        """No worker has still to take something that it was sent."""
        return not any(worker.is_waiting for worker in self._program.context.worker_pool.introduced)

    def begin(self) -> None:
        self._has_paused = True
        context, loop = self._program.context, self._program.context.loop
        context.sticks.pause(lambda found: self._came("sticks", found))
        self._program.store.pause(lambda lock: loop.call_soon(self._came, "lock", lock))
        if context.access_log is not None:
            context.access_log.pause(lambda pipes: loop.call_soon(self._came, "pipes", pipes))
        else:
            loop.call_soon(self._came, "pipes", [])
        node = context.cluster
        if node is not None and node.instance == self.node:
            node.hold(lambda told: self._came("cluster", told))
        else:
            loop.call_soon(self._came, "cluster", None)

    def give(self) -> None:
        """All is the other program's: whoever is still told something here, as a node that leaves does, would be told it in
        the middle of what that program says."""
        if self._program.context.cluster is not None:
            self._program.context.cluster.give()
        self._program.context.worker_pool.forget()

    def resume(self) -> None:
        """Nobody has taken over."""
        self._is_over = True
        if self._has_paused and len(self._found) >= WAITED_FOR:  # else when they have come
            self._go_on()

    def _go_on(self) -> None:
        context = self._program.context
        for worker in self._workers:
            worker.resume()
        context.sticks.resume()
        self._program.store.resume()
        if context.access_log is not None:
            context.access_log.resume()
        if context.cluster is not None:
            context.cluster.go_on()

    def _came(self, what: str, found: Any) -> None:
        self._found[what] = found
        if len(self._found) >= WAITED_FOR:
            self._go_on() if self._is_over else self._tell()

    def _tell(self) -> None:
        if self._is_over:  # all goes on already
            return
        if self.is_possible:
            self._done(*self._view())
        else:  # something was sent meanwhile
            self._program.context.loop.call_later(LOOK, self._tell)

    def _view(self) -> tuple[View, Descriptors]:
        fds, program, found = Descriptors(), self._program, self._found
        workers = []
        self._workers = program.context.worker_pool.introduced  # who has started meanwhile waits for that in held slices
        for worker in self._workers:
            told, ours = worker.pause()
            workers.append({
                **told, "index": worker.index, "incarnation": worker.incarnation, "capacity": worker.capacity,
                "listeners": sorted(worker.open_listeners), "is_draining": worker.is_draining,
                "number": program.context.counter_rows.number_of(worker),
                "holder": program.context.sticks.holder_of(worker), "fds": [fds.place(fd) for fd in ours],
            })  # fmt: skip
        view: View = {
            "workers": workers,
            "numbers": program.context.counter_rows.assigned(),
            "tables": found["sticks"]["tables"],
            "wires": [
                {"holder": holder, "waiting": [one.hex() for one in waiting], "fd": fds.place(fd)}
                for holder, (fd, waiting) in found["sticks"]["wires"].items()
            ],
            "pipes": [{"at": at, "begun": begun.hex(), "fd": fds.place(fd)} for fd, at, begun in found["pipes"]],
            "lock": fds.place(found["lock"]) if found["lock"] >= 0 else -1,
            "probes": program.context.states.probes.given(),
            "events": program.context.events.given(),
        }
        if program.context.cluster is not None:
            view["shared_tables"] = found["sticks"]["shared"]
        if found["cluster"] is not None:
            view["cluster"] = {**found["cluster"], "elections": program.failovers.given_of_node()}
        return view, fds
