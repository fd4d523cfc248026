"""Items as datagrams of a SOCK_SEQPACKET socket, marshalled: both ends are one version of one Python. Pure, so that an end
may be of any kind of loop (wire.stick_table, control.cluster_agent.table_wire).
"""

import errno
import marshal
from typing import Any

PART = 64 * 1024  # bytes of a datagram at most, unless it is of one item: those have a few hundred, or 10,000
FOR_NOW = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)  # what the socket does not take now

Item = tuple[Any, ...]


def datagrams(items: list[Item]) -> list[bytes]:
    """Marshalled, in parts."""
    whole = marshal.dumps(items)
    if len(whole) <= PART or len(items) == 1:
        return [whole]
    middle = len(items) // 2
    return datagrams(items[:middle]) + datagrams(items[middle:])
