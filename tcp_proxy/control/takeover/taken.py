"""What the new program makes of what it was told: the parts that a supervisor is built from, and then, as the owner, the
workers that the old one had. Main thread only.

    Taken(succession): slots, rows, listening, api_socket, store …   before there is a supervisor: nothing is written
    restore(program)                                                 its parts know what those of the old one knew
    complete(program)                                                `last`, `taken`: the point of no return; the old workers
    end(program)                                                     ours accept: theirs stop, and end with their sessions
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from tcp_proxy.config.model import Api, App, Config
from tcp_proxy.control.changes.transition import are_closed, close_listeners
from tcp_proxy.control.changes.worker_updates import WorkerUpdates
from tcp_proxy.control.listeners.api_socket import ApiSocket
from tcp_proxy.control.listeners.holders import has_one_of
from tcp_proxy.control.listeners.sockets import Listening, bind_now
from tcp_proxy.control.listeners.stored import name_of
from tcp_proxy.control.processes.adopted import AdoptedHandle, AdoptedProcess
from tcp_proxy.control.processes.workers import Worker
from tcp_proxy.control.statistics.counter_rows import CounterRows, GivenRows
from tcp_proxy.control.statistics.counter_slots import CounterSlots, Key
from tcp_proxy.control.store.servers import SavedServer
from tcp_proxy.control.store.state import SavedPrimary, SavedTarget, State, StateFile
from tcp_proxy.control.takeover.program import Program
from tcp_proxy.control.takeover.steps import Step, reach
from tcp_proxy.control.takeover.succession import Succession, Told
from tcp_proxy.control.targets.all_targets import rules_of
from tcp_proxy.control.targets.client_tables import close_table
from tcp_proxy.control.targets.known import KnownApp
from tcp_proxy.control.targets.resolver import Answer
from tcp_proxy.control.targets.semaphores import Limited, adopt_semaphore
from tcp_proxy.runtime.loop import READ
from tcp_proxy.runtime.socket_options import accept_new_connections
from tcp_proxy.sansio.address import ListenAddress
from tcp_proxy.sansio.words import counted
from tcp_proxy.wire import messages

logger = logging.getLogger(__name__)

LOOK = 0.01  # seconds between two looks whether all of ours accept, or whether a listener is closed
LEAVES_WITHIN = 5.0  # seconds from `taken` until the old program has told its service manager of us


class Taken:
    def __init__(self, succession: Succession) -> None:
        """With the state of the old program (`ask_state`)."""
        self._succession = succession
        self._state: Told = succession.state
        self._view = succession.state.view
        self._leaving: list[Listening] = []  # listeners that no app of ours has
        self.unusable: set[str] = set()  # their names, as the service manager knows them
        self._limited: list[Limited] = []  # who has another semaphore than the old workers know
        self._tables: list[KnownApp] = []
        self.started: float = self._view["started"]
        self.incarnations: int = self._view["incarnations"]

    def __repr__(self) -> str:
        return f"<Taken from {self._succession.pid}>"

    def __str__(self) -> str:
        return f"process {self._succession.pid} (version {self._succession.version})"

    @property
    def ticket_key(self) -> bytes:
        return bytes.fromhex(self._view["ticket_key"])

    @property
    def manager(self) -> MutableMapping[str, str]:
        """What the service manager has told the old program."""
        return {name: value for name, value in self._view["environment"].items() if value}

    # -- before there is a supervisor

    def slots(self) -> CounterSlots:
        return CounterSlots.taken(self._view["counters"]["slots"])

    def rows(self) -> GivenRows:
        given = self._view["counters"]
        return GivenRows(self._state.take(given["fd"]), self._state.take(given["bell"]), given["rows"])

    def listening(self, config: Config) -> list[Listening]:
        """Those of the old program, and new ones. Raises CannotListen."""
        numbers, old = self._view["listener_numbers"], {}
        for one in self._view["listeners"]:
            address = ListenAddress(one["host"], one["port"])
            sock = socket.socket(fileno=self._state.take(one["fd"]))
            is_open, is_stored = one["is_listening"], one.get("is_stored", False)
            old[address] = Listening(one["number"], one["app"], address, sock, is_open, one["is_activated"], is_stored)
        found = []
        for app, address in _addresses(config):
            item = old.pop(address, None)
            if item is None:
                numbers += 1
                item = bind_now(numbers, app, address)
            else:
                item.app = app.name
                item.set_keepalive(app.timeouts.keepalive)
            found.append(item)
        self._leaving = list(old.values())
        for item in self._leaving:
            if item.is_stored:
                self.unusable.add(name_of(item.address))
                item.is_stored = False
        self.listener_numbers = numbers
        return found

    def api_socket(self, api: Api) -> ApiSocket:
        """Raises CannotListen."""
        given = self._view["api"]
        if given is None or given["listen"] != str(api.listen):
            return ApiSocket(api)
        first, second = given["identity"]
        return ApiSocket(api, (socket.socket(fileno=self._state.take(given["fd"])), (first, second)))

    def store(self, path: str | None) -> State:
        """Raises CannotUse."""
        if not path:
            store = State()
            store.take(self._view["known"])
            return store
        if self._is_same(path, self._view["state_file"]):
            return StateFile.taken_over(path, self._view["known"])
        file = StateFile.open(path)
        beside = State()
        beside.take(self._view["known"])
        for one in self._view["known"]["targets"]:
            file.save(SavedTarget(**one))
        for one in self._view["known"]["servers"]:
            for port, checks in beside.servers(one["app"], one["target"]).items():
                file.save_server(SavedServer(one["app"], one["target"], port, checks))
        for one in self._view["known"]["primaries"]:
            file.save_primary(SavedPrimary(**one))
        return file

    def lends_pid_file(self, path: str) -> bool:
        """Whether it is the same one, which is ours from `taken` on."""
        given = self._view["pid_file"]
        return given is not None and self._is_same(path, given["path"])

    def _is_same(self, path: str, other: str) -> bool:
        return bool(other) and os.path.realpath(path) == os.path.realpath(other)

    # -- its parts know what those of the old program knew

    def restore(self, program: Program) -> None:
        """Before anything has begun."""
        context, view = program.context, self._view
        context.generation = view["generation"] + 1
        context.numbers = self.listener_numbers
        for number in view["numbers"]:
            context.counter_rows.adopt(_old(number), number)
        context.sticks.reserve(view["holders"])
        for host, (addresses, error) in view["names"].items():
            context.targets.answered(Answer(host, tuple((family, ip) for family, ip in addresses), error))
        for one in view["targets"]:
            target = context.targets.find(one["app"], one["target"])
            if target is not None:
                target.since, target.ejections = one["since"], one["ejections"]
        context.states.ejections_taken = view.get("ejections", [])
        self._restore_limits(program)
        self._restore_tables(program)
        self._retire(context.config, context.counter_rows, context.generation)
        program.failovers.take(view["elections"])
        if context.cluster is not None and context.cluster.wait(view.get("cluster")):
            program.failovers.take(view["cluster"]["elections"])
        program.statistics.workers_died = view["workers_died"]
        program.statistics.peaks.take(view["peaks"])

    def _restore_limits(self, program: Program) -> None:
        context = program.context
        adopted = set()
        for one in self._view["limits"]:
            app = context.targets.apps.get(one["app"])
            limited: Any = app if not one["target"] else context.targets.find(one["app"], one["target"])
            config = None if app is None or limited is None else limited.config
            if config is not None and one["limit"] == (config.max_connections if one["target"] else config.limits.sessions):
                adopt_semaphore(limited, self._state.take(one["fd"]), one["number"])
                adopted.add(id(limited))
        for limited in (*context.targets, *context.targets.apps.values()):
            if limited.tokens >= 0 and id(limited) not in adopted:
                limited.semaphore = context.generation
                self._limited.append(limited)

    def _restore_tables(self, program: Program) -> None:
        context = program.context
        given = {one["app"]: one for one in self._view["tables"]}
        for name, app in context.targets.apps.items():
            if app.table < 0:
                continue
            one = given.get(name)
            if one is not None and tuple(one["of"]) == app.config.limits.table:
                close_table(app)
                app.table, app.table_number = self._state.take(one["fd"]), one["number"]
            else:
                app.table_number = context.generation + 1
                self._tables.append(app)

    def _retire(self, config: Config, rows: CounterRows, generation: int) -> None:
        """The counters of what is there no more; listeners follow when they are closed."""
        kept: set[Key] = {(item.app, str(item.address)) for item in self._leaving}
        wanted: dict[str, set[Key]] = {
            "app": {(app.name,) for app in config.apps},
            "target": {(app.name, target.name) for app in config.apps for target in app.targets},
            "rule": {(app.name, *rule) for app in config.apps for rule in rules_of(app)},
            "listener": kept | {(app.name, str(address)) for app, address in _addresses(config)},
        }
        for kind, keys in wanted.items():
            rows.slots.retire_all_but(kind, keys, generation)

    # -- from one owner to the other

    def complete(self, program: Program, updates: WorkerUpdates) -> None:
        """Our workers are ready, and do not accept. Raises CannotTakeOver, and the old program goes on."""
        succession, context = self._succession, program.context
        node = context.cluster
        succession.ask_last(node.inherits if node is not None else "")
        succession.take()
        last = succession.last
        is_same_node = node is not None and node.adopt(last.view.get("cluster"))
        shared = last.view.get("shared_tables")
        if node is not None:
            program.failovers.go_on_as_node(last.view["cluster"]["elections"] if is_same_node else {})
        if program.pid_file is not None and self.lends_pid_file(program.pid_file.path):
            program.pid_file.adopt(self._state.take(self._view["pid_file"]["fd"]))
        program.store.resume(_taken_or_none(last, last.view["lock"]))
        workers = self._adopt_workers(program, last)
        wires = {one["holder"]: one for one in last.view["wires"]}
        context.sticks.adopt(last.view["tables"], [
            (worker, holder, socket.socket(fileno=last.take(wires[holder]["fd"])),
             [bytes.fromhex(data) for data in wires[holder]["waiting"]])
            for worker, holder in workers
            if holder in wires
        ], shared and {**shared, "is_online": shared["is_online"] and is_same_node})  # fmt: skip
        self._adopt_pipes(program, last)
        context.states.probes.take(last.view["probes"])
        context.events.take(last.view["events"])
        for worker, _ in workers:
            context.slices.do(self._telling(program, updates, worker))
        self._count_out_the_dead(program)
        if succession.is_orphan:
            self._keep_open(program)
        reach(Step.OWNING)
        text = counted(len(workers), "worker")
        logger.info("taken over from %s, with %s that end with their last sessions", self, text)
        context.events.publish("takeover", {"pid": succession.pid, "version": succession.version, "workers": len(workers)})

    def _telling(self, program: Program, updates: WorkerUpdates, worker: Worker) -> Iterator[None]:
        try:
            yield from updates.adopting(worker, self._limited, self._tables)
        except OSError as error:
            program.context.worker_pool.cannot_be_told(worker, error)

    def _adopt_workers(self, program: Program, last: Told) -> list[tuple[Worker, int]]:
        """Each with its place among the holders of stick entries."""
        context, found = program.context, []
        if self._view["messages"] != messages.VERSION:
            logger.warning("the workers of %s understand other messages: they end as without a supervisor", self)
            return []
        for one in last.view["workers"]:
            if one["number"] < 0:  # by an earlier version: it has just been started, and ends with the old program
                continue
            channel, pidfd, *stderr = [last.take(place) for place in one["fds"]]
            handle, begun = AdoptedHandle(one["pid"], pidfd), bytes.fromhex(one["begun"])
            process = AdoptedProcess(
                handle, channel, begun, stderr[0] if stderr else -1, bytes.fromhex(one["stderr_begun"])
            )
            worker = context.worker_pool.adopt(one["index"], process)
            worker.incarnation, worker.capacity = one["incarnation"], one["capacity"]
            worker.open_listeners = set(one["listeners"])
            worker.begin_introduction()
            context.counter_rows.rename(_old(one["number"]), worker)
            found.append((worker, one["holder"]))
        return found

    def _adopt_pipes(self, program: Program, last: Told) -> None:
        log = program.context.access_log
        if log is not None:  # else they are closed, and the workers are told of none
            for one in last.view["pipes"]:
                log.attach(last.take(one["fd"]), one["at"], bytes.fromhex(one["begun"]))

    def _count_out_the_dead(self, program: Program) -> None:
        """Rows of workers that we have not: they have ended meanwhile, or end without a supervisor."""
        context, rows = program.context, program.context.counter_rows
        alive = {} if self._succession.last.view["workers"] else {one["number"]: one for one in self._view["workers"]}
        for number in self._view["numbers"]:
            if rows.number_of(_old(number)) < 0:
                continue
            if number not in alive:
                context.count_out(_old(number))
                continue
            pidfd = self._state.take(alive[number]["process"])

            def ended(_events: int, number: int = number, pidfd: int = pidfd) -> None:
                context.loop.unwatch(pidfd)
                os.close(pidfd)
                context.count_out(_old(number))

            context.loop.watch(pidfd, READ, ended)

    def _keep_open(self, program: Program) -> None:
        """The old program is dead: its workers close their listeners as orphans do, who have new clients refused first. The
        sockets are ours, too: that is taken back for as long as one of them has one."""
        context = program.context
        listening = list(context.listening.values())
        sockets = {f"socket:[{os.fstat(item.sock.fileno()).st_ino}]" for item in listening}
        have_one = any(has_one_of(one["pid"], sockets) for one in self._view["workers"])
        for item in listening:
            accept_new_connections(item.sock)
        if have_one and not context.is_stopping:
            context.loop.call_later(LOOK, self._keep_open, program)

    # -- the end of it

    def when_left(self, program: Program, then: Callable[[], Any]) -> None:
        """`then()` when the old program has told its service manager of us, or should have."""
        loop, succession = program.context.loop, self._succession
        is_over = False

        def over(_events: int = 0) -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                timer.cancel()
                loop.unwatch(succession.fileno())
                succession.close()
                then()

        timer = loop.call_later(LEAVES_WITHIN, over)
        loop.watch(succession.fileno(), READ, over)

    def end(self, program: Program, are_accepting: Callable[[], bool]) -> None:
        """Our workers are told to accept: when they do, those of the old program stop."""
        context = program.context
        if context.is_stopping:  # they are told to stop by that
            return
        if not are_accepting():
            context.loop.call_later(LOOK, self.end, program, are_accepting)
            return
        if self._leaving:
            context.listening.update((item.number, item) for item in self._leaving)
            close_listeners(context, self._leaving)
        self._dismiss(program)

    def _dismiss(self, program: Program) -> None:
        context = program.context
        if are_closed(context, self._leaving):
            context.worker_pool.dismiss_adopted()
            program.reload.settle_slots()
        elif not context.is_stopping:
            context.loop.call_later(LOOK, self._dismiss, program)


def _old(number: int) -> tuple[str, int]:
    """Who had those rows before we came."""
    return "old", number


def _taken_or_none(told: Told, place: int) -> int:
    return told.take(place) if place >= 0 else -1


def _addresses(config: Config) -> list[tuple[App, ListenAddress]]:
    return [(app, address) for app in config.apps for address in app.listeners]
