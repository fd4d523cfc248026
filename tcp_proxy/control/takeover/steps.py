"""The steps of a take-over, in their order: who owns what at each, and what the end of either program means there.

The *old* program runs; the *new* one asks, over the UNIX socket beside the pid file, or the state file. Each answer of the
old one follows a question of the new one; nothing is said unasked.

                    new                              old                              owner of listeners, locks, workers
    hello           says its versions          ──>   checks user and versions         old
    state           asks for everything        ──>   FROZEN: no reload, election or   old, which goes on accepting; the new
                                                     finding; tells, lends            one has copies, and writes nothing
    (build)         makes its workers; all of                                         old
                    them know everything
    last            asks for what moves until  ──>   PAUSED: reads no channel, record old
                    the last moment                  or question; closes its file
    taken           says so        == the point of no return ==                       new
                    hears the old workers, has ──>   lets go of everything, says      new
                    its own accept, then the         MAINPID, ends
                    old workers stop accepting

Before `taken`: the new one's end, by whatever means, or its silence, has the old one go on as if nothing had been: what was
held is done, what was not read is read. The old one's end has the new one go on with what it was told by then; before that
was everything (`state`) it starts as it would have without --takeover.
From `taken` on: the old one's end means nothing any more; that of the new one is that of any running program.

`taken` is one datagram that the kernel takes or refuses: an old one that gives up waiting first refuses more (SHUT_RD), and
then reads what there is. So both always think the same (test_predecessor).
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any


class Step(StrEnum):
    """Named for tests, which end a program at each."""

    GREETED = "greeted"  # new: the old one knows us
    FROZEN = "frozen"  # old: it has told its state
    TOLD = "told"  # new: it has read all of that
    READY = "ready"  # new: its workers are
    PAUSED = "paused"  # old: it has told the last
    COMPLETE = "complete"  # new: it has read all of that
    TAKEN = "taken"  # new: it has said so
    LEFT = "left"  # old: it has heard that
    OWNING = "owning"  # new: it hears the old workers


reached: Callable[[Step], Any] = lambda _step: None  # noqa: E731  tests have another one


def reach(step: Step) -> None:
    reached(step)
