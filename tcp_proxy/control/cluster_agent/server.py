"""The process of the cluster agent: python -P -m tcp_proxy.control.cluster_agent.server CHANNEL VERSION STICK_TABLES

One asyncio loop. Signals to the process group are nothing to it: it ends when it is told to leave, or when its channel does.

    IMPORTING ──JoinCluster──> RUNNING (agent) ──LeaveCluster, the channel ends──> LEAVING ──at most LEAVE_WITHIN──> exit
    RUNNING, while another program is about to be this node (HoldWrites) ──the channel ends──> exit
"""

import signal
import sys

# Whatever a terminal or a service manager sends to the whole group is the supervisor's; before any slow import.
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(_number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_SETMASK, ())

import asyncio  # noqa: E402
import contextlib  # noqa: E402
import faulthandler  # noqa: E402
import logging  # noqa: E402
import socket  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

from tcp_proxy import __version__  # noqa: E402
from tcp_proxy.control.cluster_agent.agent import Agent  # noqa: E402
from tcp_proxy.control.cluster_agent.credentials import Unusable, password, tls_context  # noqa: E402
from tcp_proxy.control.cluster_agent.link import Link, LogLink  # noqa: E402
from tcp_proxy.control.etcd.client import Client  # noqa: E402
from tcp_proxy.wire.cluster import (  # noqa: E402
    ChangeShared,
    HoldWrites,
    JoinCluster,
    LeaveCluster,
    Publish,
    ReleaseWrites,
    TakeLease,
)
from tcp_proxy.wire.messages import Message, Ready  # noqa: E402

WRONG_VERSION = 78  # the exit status that says so; EX_CONFIG of sysexits
LEAVE_WITHIN = 1.0  # seconds

logger = logging.getLogger("tcp_proxy.control.cluster_agent")


async def serve(channel: socket.socket, tables: socket.socket) -> None:
    """Until the supervisor says so, or is gone."""
    loop = asyncio.get_running_loop()
    orders: asyncio.Future[JoinCluster] = loop.create_future()
    early: list[Message] = []  # that came before there is an agent
    hear: Callable[[Message], Any] = early.append
    is_over = asyncio.Event()

    def received(message: Message) -> None:
        match message:
            case JoinCluster():
                orders.set_result(message)
            case LeaveCluster():
                hear(ReleaseWrites())  # whoever is to say good-bye has to write
                is_over.set()
            case Publish() | ChangeShared() | TakeLease() | HoldWrites() | ReleaseWrites():
                hear(message)
            case _:
                raise AssertionError(f"not for this process: {message!r}")

    def ended() -> None:
        is_over.set()
        orders.cancel()

    _, link = await loop.create_connection(lambda: Link(received, ended), sock=channel)
    order = await orders
    logging.basicConfig(level=order.log_level.upper(), format="%(message)s", handlers=[LogLink(link)], force=True)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a member that goes away is no news
    agent = Agent(order, _client(order), link.send, tables)
    hear = agent.hear
    for message in early:
        hear(message)
    link.heard = agent.heard_supervisor
    link.send(Ready(0))
    running = asyncio.create_task(agent.run())
    over = asyncio.create_task(is_over.wait())
    await asyncio.wait([running, over], return_when=asyncio.FIRST_COMPLETED)
    if not running.done() and not agent.is_held:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_WITHIN):
                await agent.leave()
    running.cancel()
    over.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def _client(order: JoinCluster) -> Client:
    """Raises Unusable."""
    is_tls = any(url.startswith("https:") for url in order.endpoints)
    context = tls_context(order.ca, *order.certificate) if is_tls else None
    return Client(order.endpoints, context, order.user, password(order.password_file))


def main(argv: list[str]) -> int:
    faulthandler.enable()  # SIGABRT: a supervisor that finds us silent wants to see our stacks
    channel, version, tables = int(argv[1]), argv[2], int(argv[3])
    if version != __version__:
        return WRONG_VERSION
    try:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(serve(socket.socket(fileno=channel), socket.socket(fileno=tables)))
    except Unusable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
