"""Whether a limit on descriptors is enough for a configuration: asked before it is started, and before it is applied.

Main thread only; reads nothing but the limit. What a process opens for itself is counted generously, for a supervisor
that cannot replace a worker, and a worker that cannot take what it is passed, cost more than a start that is refused.
"""

import os
import resource

from tcp_proxy.config.diff import listeners_of
from tcp_proxy.config.model import Config
from tcp_proxy.sansio.descriptors import MIN_ROOM, MIN_SESSIONS, marks

WORKER = 16  # of its own: 10, and 3 for each relay thread
SUPERVISOR = 40  # of its own: 20, and what checks, scripts and a new worker need
EACH_WORKER, EACH_APP = 5, 3  # in the supervisor: channel, records, sticks, pidfd, stderr; the loop of a thread


class TooFewDescriptors(OSError):
    """One line for the user."""


def limit() -> int:
    """How many descriptors a process of ours may have: workers inherit it."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft


def limits_of(config: Config) -> set[tuple[str, str, int]]:
    """Each is a semaphore in every process: those of targets, and of apps, with "" for the target; or a table of clients."""
    apps = {(app.name, "", app.limits.sessions) for app in config.apps if app.limits.sessions}
    apps |= {(app.name, "/", hash(app.limits.table)) for app in config.apps if app.limits.table}
    return apps | {
        (app.name, target.name, target.max_connections)
        for app in config.apps
        for target in app.targets
        if target.max_connections
    }


def needed(config: Config) -> int:
    """The least limit with which this is served."""
    workers = config.workers or len(os.sched_getaffinity(0))
    return _lent(config) + max(WORKER + MIN_ROOM, SUPERVISOR + EACH_WORKER * workers + EACH_APP * len(config.apps))


def spare(config: Config) -> int:
    """What a worker must have left after it was passed more: half of the reserve in which it does not accept."""
    return marks(limit() - WORKER - _lent(config)).pause_at // 2


def _lent(config: Config) -> int:
    return len(listeners_of(config)) + len(limits_of(config))


def require(config: Config) -> None:
    """Raises TooFewDescriptors."""
    have, least = limit(), needed(config)
    if have >= least:
        return
    listeners, limits = len(listeners_of(config)), len(limits_of(config))
    semaphores = f" and {limits} for limits of sessions" if limits else ""
    raise TooFewDescriptors(
        f"too few descriptors: a process may have {have} (ulimit -n), and this configuration needs {least}, "
        f"{listeners} of them for listeners{semaphores}, so that each worker has room for {MIN_SESSIONS} sessions: "
        "raise the limit"
    )
