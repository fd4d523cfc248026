"""What the supervisor and its workers say about live sessions that move to another worker: the part of `messages` with these
values. The sessions themselves go by a socketpair whose ends the two workers are given (wire.moved_session).

dataplane.moving obeys; control.moving orders.
"""

from tcp_proxy.sansio.frozen_dataclass import dataclass

# -- supervisor to worker


@dataclass(frozen=True, slots=True)
class ExportSessions:
    """Give sessions away by this socket, at most so many (0: all that can be), the oldest first; or those with these ids.
    Answered by SessionsMoved. `is_foreign`: the other end is no worker of this supervisor."""

    order: int
    most: int = 0
    ids: tuple[str, ...] = ()
    is_foreign: bool = False
    descriptors: int = 1


@dataclass(frozen=True, slots=True)
class ImportSessions:
    """Take the sessions that come by this socket, until it ends."""

    is_foreign: bool = False
    descriptors: int = 1


# -- worker to supervisor


@dataclass(frozen=True, slots=True)
class SessionsMoved:
    """Of an ExportSessions: `moved` have another owner now, `refused` the importer did not take, `left` cannot move, or not
    now. `why`: the first refusal, or what broke it off."""

    order: int
    moved: int
    refused: int
    left: int
    why: str = ""
