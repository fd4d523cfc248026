"""What a worker shows a supervisor that starts after its own was killed: that it may have sessions with a primary.

Owned by the worker's loop thread. A claim is a bound UNIX socket with an abstract name, of which nothing is ever read: the
name says which listener's app it is about, and whose worker this is, and the kernel takes it back when the process is gone,
however it ends. No file: it needs neither `state` nor `pid_file`, and no rights; names are known where the ports are, in one
network namespace. A supervisor that starts looks for claims to its own listeners (control.listeners.holders) and waits until
no worker of a supervisor that is gone has one.

Always true: while a session of an app with `on_demotion` "close" can reach a target, the worker has a claim for it.
"""

import os
import socket

from tcp_proxy.wire.claims import Claim


class Claims:
    def __init__(self) -> None:
        self._held: dict[str, socket.socket] = {}
        self._supervisor = os.getppid()  # that of the start: when it is gone, ours is another one

    def __repr__(self) -> str:
        return f"<Claims for {', '.join(self._held) or 'nothing'}>"

    def hold(self, address: str) -> None:
        """For the app that listens there. Kept until `release`, for its sessions go on when the listener is closed."""
        if address in self._held:
            return
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.bind(Claim(os.getpid(), self._supervisor, address).name)
        except OSError:
            sock.close()  # an older process with our number, in another namespace of processes: nothing can be shown
            return
        self._held[address] = sock

    def release(self) -> None:
        """No session of such an app reaches anybody any more."""
        for sock in self._held.values():
            sock.close()
        self._held.clear()
