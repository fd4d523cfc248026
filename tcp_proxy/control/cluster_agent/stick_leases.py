"""Leases for stick entries: one for all entries of a while that live as long. For the agent's loop; it owns nothing but
numbers, for a lease of these is never kept: it is over when its time is, whoever has made it.

    none ──wanted──> CURRENT for SHARE of `expires`, then another one is taken beside it ──> CURRENT
    CURRENT ──etcd says that there is none: forget()──> none

An entry gets the lease of the moment, and another one when it has been used and half of SLACK is over. So it lives at least
`expires` after its last use, and at most LIFE times that and a second.
"""

import asyncio
import math

from tcp_proxy.control.etcd.client import Client
from tcp_proxy.control.etcd.errors import EtcdError

SLACK, SHARE, LIFE = 1 / 4, 1 / 8, 3 / 2  # of `expires`; a lease that is given out is younger than two SHAREs


class StickLeases:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._current: dict[float, tuple[int, float]] = {}  # expires -> number, when it was asked for
        self._asked: dict[float, asyncio.Task[int]] = {}

    def __repr__(self) -> str:
        return f"<StickLeases of {len(self._current)} times>"

    async def get(self, expires: float) -> int:
        """Raises EtcdError."""
        number, since = self._current.get(expires, (0, -math.inf))
        age = asyncio.get_running_loop().time() - since
        if age < SHARE * expires:
            return number
        asked = self._asked.get(expires)
        if asked is None:
            asked = self._asked[expires] = asyncio.create_task(self._ask(expires))
        if age < 2 * SHARE * expires:
            return number  # the next one is on its way, and nobody waits for it
        return await asyncio.shield(asked)

    def forget(self, expires: float) -> None:
        self._current.pop(expires, None)

    async def _ask(self, expires: float) -> int:
        now = asyncio.get_running_loop().time()
        try:
            number = await self._client.grant(math.ceil(LIFE * expires))
            self._current[expires] = number, now
            return number
        except EtcdError:
            self._current.pop(expires, None)
            raise
        finally:
            del self._asked[expires]
