"""What of a running supervisor is handed over, in one value, for both sides of a take-over. Main thread only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tcp_proxy.control.changes.reload import Reload
from tcp_proxy.control.context import Context
from tcp_proxy.control.failover.all_apps import Failovers
from tcp_proxy.control.processes.api_process import ApiProcess
from tcp_proxy.control.processes.pid_file import PidFile
from tcp_proxy.control.statistics.totals import Statistics
from tcp_proxy.control.store.state import State


@dataclass(slots=True)
class Program:
    context: Context
    failovers: Failovers
    reload: Reload
    statistics: Statistics
    store: State
    state_path: str  # the state file; "": none
    pid_file: PidFile | None
    incarnations: int  # what the names of our workers begin with (changes.worker_updates)
    given_away: Callable[[str], Any]  # another program has taken over; said once, with a sentence about it
    api: ApiProcess | None = None
