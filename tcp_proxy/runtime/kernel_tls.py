"""Whether this kernel can encrypt by itself (kTLS). Nothing here uses it; docs/tls.md says why."""

import os
from errno import ENOTCONN
from socket import IPPROTO_TCP, socket

TCP_ULP = 31  # of linux/tcp.h: the protocol that the kernel speaks on top


def missing() -> str:
    """Why it cannot; "" when it can. Asked of a socket without a peer, which has the module loaded where there is one, and
    is then told that it must be connected first."""
    with socket() as sock:
        try:
            sock.setsockopt(IPPROTO_TCP, TCP_ULP, b"tls")
        except OSError as error:
            return "" if error.errno == ENOTCONN else os.strerror(error.errno or 0)
    return ""
