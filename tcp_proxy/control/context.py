"""Everything that the supervisor's main thread owns, in one place, so that each part is given one value.

Main thread only. `Supervisor` fills it and gives it back; `WorkerUpdates` tells workers what is in it; `Reload` changes it.
"""

import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tcp_proxy.config.model import Config
from tcp_proxy.control.access_log.writer import AccessLog
from tcp_proxy.control.discovery.found import Found
from tcp_proxy.control.discovery.source import SourceState
from tcp_proxy.control.events import Events
from tcp_proxy.control.listeners.fd_store import FdStore
from tcp_proxy.control.listeners.sockets import Listening
from tcp_proxy.control.processes.health_file import HealthFile
from tcp_proxy.control.processes.session_moves import SessionMoves
from tcp_proxy.control.processes.worker_pool import WorkerPool
from tcp_proxy.control.service_manager import ServiceManager
from tcp_proxy.control.slices import Slices
from tcp_proxy.control.statistics.counter_rows import CounterRows
from tcp_proxy.control.sticky.tables import StickTables
from tcp_proxy.control.targets.all_targets import Targets
from tcp_proxy.control.targets.states import States
from tcp_proxy.control.tls.ticket_key import TicketKeys
from tcp_proxy.runtime.loop import Loop

if TYPE_CHECKING:  # imported where there is one
    from tcp_proxy.control.cluster.node import ClusterNode
    from tcp_proxy.control.tracing.process import TraceProcess


def _nothing() -> None:
    """Nobody wants to know."""


@dataclass(slots=True)
class Context:
    """`config` is what runs now; `generation` counts its changes."""

    loop: Loop
    config: Config
    targets: Targets
    counter_rows: CounterRows
    events: Events
    listening: dict[int, Listening]  # by number, as the workers know them
    access_log: AccessLog | None
    unusable: Iterable[str] = ()  # names of sockets that a service manager has kept and nobody wants
    closing: dict[int, Listening] = field(default_factory=dict)  # not passed to workers any more
    generation: int = 0
    numbers: int = 0  # of listeners so far
    is_serving: bool = False  # workers are passed the listeners
    is_stopping: bool = False
    service_manager: ServiceManager = field(init=False)
    fd_store: FdStore = field(init=False)
    health_file: HealthFile = field(init=False)
    session_moves: SessionMoves = field(init=False)
    slices: Slices = field(init=False)  # what takes long, or must not come into the middle of that
    worker_pool: WorkerPool = field(init=False)
    states: States = field(init=False)
    sticks: StickTables = field(init=False)
    found: Found = field(default_factory=Found, init=False)  # targets that the file only says where to find
    sources: dict[str, SourceState] = field(default_factory=dict, init=False)  # where that is
    ticket_keys: TicketKeys = field(init=False)
    cluster: "ClusterNode | None" = field(default=None, init=False)  # None: this proxy is alone
    tracer: "TraceProcess | None" = field(default=None, init=False)  # None: nothing is traced
    changed: Callable[[], Any] = _nothing  # called when another configuration has been taken over

    def __post_init__(self) -> None:
        self.service_manager = ServiceManager(self.loop, os.environ)
        self.fd_store = FdStore(self.loop, self.service_manager.keeps, self.unusable)
        self.health_file = HealthFile(self.loop, os.environ)
        self.slices = Slices(self.loop)
        self.session_moves = SessionMoves(self.loop, lambda: self.worker_pool, self.counter_rows)
        if self.config.cluster is not None:
            from tcp_proxy.control.cluster.node import ClusterNode  # noqa: PLC0415  nobody else pays for it

            self.cluster = ClusterNode(self.loop, self.config.cluster, self.config.api, self.config.log.level, self.events)
        traces = self.access_log.traces if self.access_log is not None else None
        if traces is not None and self.config.tracing is not None:
            from tcp_proxy.control.tracing.process import TraceProcess  # noqa: PLC0415  the same

            self.tracer = TraceProcess(self.loop, self.config.tracing, self.config.log.level, traces)

    def __repr__(self) -> str:
        return f"<Context generation {self.generation}: {self.targets!r}, {len(self.listening)} listeners>"

    def next_number(self) -> int:
        self.numbers += 1
        return self.numbers

    # -- the service manager

    def start_manager(self) -> None:
        """It hears that we turn, and keeps what we listen on."""
        self.service_manager.start()
        self.keep_listeners()
        self.fd_store.tell(self.service_manager)

    def keep_listeners(self) -> None:
        """There are others now. An app that refuses clients while it has no primary has none while we are not there."""
        refusing = {app.name for app in self.config.apps if app.refuses}
        self.fd_store.keep(item for item in self.listening.values() if item.app not in refusing)

    # -- a worker that has ended

    def count_out(self, worker: Hashable) -> int:
        """Its totals are kept, its gauges vanish, its tokens are free; how many sessions it had."""
        sessions = self.counter_rows.leave(worker)
        self.slices.do(self._counting_out(worker))
        return sessions

    def _counting_out(self, worker: Hashable) -> Iterator[None]:
        self.targets.forget_worker(self.counter_rows.number_of(worker))
        for targets, held in self.counter_rows.counting_out(worker):
            self.targets.give_back_tokens(targets, held)
            yield

    # -- the cluster, if there is one

    def may_serve(self, then: Callable[[], Any]) -> bool:
        """Whether clients get what other nodes would give them; if not, `then()` when they do."""
        return self.cluster is None or self.cluster.may_serve(then)

    def is_node_prepared(self, then: Callable[[], Any]) -> bool:
        """Whether another program may be taken over from, as a node; if not, `then()` when it may."""
        return self.cluster is None or self.cluster.is_prepared(then)

    def own_node(self) -> None:
        if self.cluster is not None:
            self.cluster.own()

    def leave_cluster(self, left: Callable[[], Any]) -> None:
        if self.cluster is not None:
            self.cluster.leave(left)

    @property
    def has_left_cluster(self) -> bool:
        return self.cluster is None or self.cluster.has_left

    def stop_cluster(self) -> None:
        if self.cluster is not None:
            self.cluster.stop()

    # -- the exporter of traces, if there is one

    def start_tracer(self) -> None:
        if self.tracer is not None:
            self.tracer.start()

    def stop_tracer(self) -> None:
        """Behind the access log, which writes to it."""
        if self.tracer is not None:
            self.tracer.stop()
