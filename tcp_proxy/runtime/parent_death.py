"""A child that ends with its parent at once, whatever it is doing just then: importing, busy, or stopped by a debugger.

The end of its channel tells it too, but only when it looks; until then it holds what it was passed, such as a listening
socket, and the next program on that address could not start.
"""

import ctypes
import os
import select
import signal

_PR_SET_PDEATHSIG = 1


def end_with_parent(channel: int) -> None:
    """`channel`: a descriptor whose other end the parent alone has, for it may be gone already. The parent is the thread
    that started us: the main one, which lives as long as the program."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    ends = select.poll()
    ends.register(channel, 0)  # errors and hang-ups are told in any case
    if ends.poll(0):
        os._exit(0)
