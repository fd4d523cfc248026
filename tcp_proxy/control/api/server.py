"""The process of the management API: python -P -m tcp_proxy.control.api.server CHANNEL VERSION LISTENER

FastAPI on uvicorn, on one asyncio loop. It serves the listening socket that it was passed and knows nothing but what the
supervisor answers. Signals to the process group are nothing to it: it ends when its channel does, and with the supervisor's
process at once: imports take a second, and the next supervisor wants the address.

    IMPORTING ──ServeApi──> SERVING ──the channel ends──> exit
"""

import gc
import signal
import sys

# Whatever a terminal or a service manager sends to the whole group is the supervisor's; before any slow import.
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(_number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_SETMASK, ())

from tcp_proxy.runtime.parent_death import end_with_parent  # noqa: E402

if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
gc.disable()  # until it serves: what is imported stays, and looking at it again and again is a tenth of the start

import asyncio  # noqa: E402
import contextlib  # noqa: E402
import faulthandler  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import socket  # noqa: E402
from collections.abc import Iterator  # noqa: E402

import uvicorn  # noqa: E402

from tcp_proxy import __version__  # noqa: E402
from tcp_proxy.control.api.app import make_app  # noqa: E402
from tcp_proxy.control.api.guard import Guard, Hosts  # noqa: E402
from tcp_proxy.control.api.link import Link, LogLink  # noqa: E402
from tcp_proxy.control.api.protocol import HEAD_WITHIN, Protocol  # noqa: E402
from tcp_proxy.control.api.sampler import Sampler  # noqa: E402
from tcp_proxy.control.api.token_file import TokenFile  # noqa: E402
from tcp_proxy.sansio.address import parse_listen  # noqa: E402
from tcp_proxy.wire.messages import Ready, ServeApi  # noqa: E402

WRONG_VERSION = 78  # the exit status that says so; EX_CONFIG of sysexits
MOST_HEAD = 32 * 1024  # bytes


class Server(uvicorn.Server):
    """uvicorn without its own ideas about signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(channel: socket.socket, listener: socket.socket) -> None:
    """Until the supervisor is gone."""
    loop = asyncio.get_running_loop()
    orders: asyncio.Future[ServeApi] = loop.create_future()
    # Nobody is left to ask, so nothing is left to answer; a stream that somebody follows must not keep us.
    _, link = await loop.create_connection(lambda: Link(orders.set_result, lambda: os._exit(0)), sock=channel)
    order = await orders
    handler = LogLink(link)
    logging.basicConfig(level=order.log_level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # it warns of requests that are none: anybody could fill the log
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a client that goes away is no news
    hosts = Hosts(parse_listen(order.address), order.hosts)
    token = TokenFile(order.token_file) if order.token_file is not None else None
    sampler = Sampler(link)
    config = uvicorn.Config(
        Guard(make_app(link, sampler), hosts, token), http=Protocol, ws="none", lifespan="off", loop="asyncio",
        log_config=None, access_log=False, server_header=False, proxy_headers=False,
        backlog=128, timeout_keep_alive=HEAD_WITHIN,
        h11_max_incomplete_event_size=MOST_HEAD,
    )  # fmt: skip
    server = Server(config)
    gc.collect()
    gc.freeze()
    gc.enable()
    link.send(Ready(0))
    sampler.start()
    await server.serve(sockets=[listener])


def main(argv: list[str]) -> int:
    faulthandler.enable()  # SIGABRT: a supervisor that finds us silent wants to see our stacks
    channel, version, listener = int(argv[1]), argv[2], int(argv[3])
    if version != __version__:
        return WRONG_VERSION
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(serve(socket.socket(fileno=channel), socket.socket(fileno=listener)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
