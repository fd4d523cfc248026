"""The semaphores of limits on sessions: of a target (max_connections), and of an app (limits.sessions).

Main thread only. One is an eventfd with as many tokens as sessions are allowed; the supervisor has one for each limit, and
every worker a copy (dataplane.places). A limit that changes is a new semaphore, with another number.
"""

import os
from collections.abc import Mapping
from typing import Protocol

from tcp_proxy.wire.counters import ACTIVE, SEMAPHORE, UNPAID

Owner = tuple[str, str]  # an app and its target; "": the app itself
Limits = dict[Owner, int]


class Limited(Protocol):
    """Whose semaphore it is. `tokens` is its descriptor, -1 without; `slot` the first of its counters."""

    slot: int
    tokens: int
    semaphore: int


def make_semaphores(limits: Limits) -> Limits:
    """Raises OSError, and there are none."""
    made: Limits = {}
    flags = os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC
    try:
        for key, limit in limits.items():
            made[key] = os.eventfd(limit, flags)
    except OSError:
        for fd in made.values():
            os.close(fd)
        raise
    return made


def set_semaphore(limited: Limited, owner: Owner, made: Limits, limit: int, number: int) -> bool:
    """After a change of the configuration, in which new ones were `made`: whether it has one of them."""
    if owner in made:
        close_tokens(limited)
        limited.tokens, limited.semaphore = made[owner], number
        return True
    if not limit:
        close_tokens(limited)
    return False


def adopt_semaphore(limited: Limited, fd: int, number: int) -> None:
    """One with the same limit, of a program that is taken over."""
    close_tokens(limited)
    limited.tokens, limited.semaphore = fd, number


def give_back_tokens(limited: Limited, gauges: Mapping[int, int]) -> None:
    """A dead worker's sessions, by slot: their tokens are free again, if they were of this semaphore: a worker may die
    before it knows of a new one, with sessions that have no token of it."""
    slot = limited.slot
    if limited.tokens < 0 or gauges.get(slot + SEMAPHORE, 0) != limited.semaphore:
        return
    held = gauges.get(slot + ACTIVE, 0) - gauges.get(slot + UNPAID, 0)
    if held > 0:
        os.eventfd_write(limited.tokens, held)


def close_tokens(limited: Limited) -> None:
    tokens, limited.tokens = limited.tokens, -1
    if tokens >= 0:
        os.close(tokens)
