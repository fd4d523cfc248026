"""Reaps the processes that scripts of users have left behind: now and then, for as long as the supervisor lives.

Main thread only. They are the supervisor's children when their parents have ended (control.process_tree): it is process 1
of a container, or a child subreaper anywhere else. Nobody else would ever reap them, and there is an end of process numbers.
"""

from tcp_proxy.control.process_tree import become_subreaper, reap_orphans
from tcp_proxy.runtime.loop import Loop

EVERY = 5.0  # seconds


def begin(loop: Loop) -> None:
    become_subreaper()
    loop.call_later(EVERY, _look, loop)


def _look(loop: Loop) -> None:
    reap_orphans()
    loop.call_later(EVERY, _look, loop)
