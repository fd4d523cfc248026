"""A lease that is kept for as long as its owner lives. For one event loop's thread; it owns the lease and its task.

    WANTED ──granted: held(number)──> HELD ──kept, again and again: `until` moves──> HELD
    WANTED ──adopt(): an earlier keeper has left it to us──> HELD
    HELD ──by our own clock `until` is over, or a member says that there is none: lost()──> WANTED

Always true: it is lost by our own clock before any other could see it expire. `until` counts from when we asked, not from
the answer, and nothing that hangs holds the timer up; etcd begins leases anew when its leader changes, so that it may have
the keys for twice as long (test_a_lease_is_lost_by_our_own_clock).
"""

import asyncio
from collections.abc import Callable
from typing import Any

from tcp_proxy.control.etcd.client import Client
from tcp_proxy.control.etcd.errors import EtcdError

KEPT_IN = 3  # times in its life
AGAIN = 0.5  # seconds after a failure


class KeptLease:
    def __init__(self, client: Client, seconds: int, held: Callable[[int], Any], lost: Callable[[str], Any]) -> None:
        """`held(number)` when there is one, `lost(why)` when there is none any more; both are called in turn."""
        self.number = 0  # 0: none is held
        self.until = 0.0  # by the loop's clock
        self.is_held_up = False  # it is neither taken nor kept for the moment
        self._is_over = False  # it was given back, and no other is wanted
        self.fault = ""  # why it could not be taken or kept
        self._client = client
        self._seconds = seconds
        self._held, self._lost = held, lost
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<KeptLease {self.number:x} of {self._seconds} s>" if self.number else "<KeptLease, wanted>"

    async def keep(self) -> None:
        """Until it is cancelled; the lease is left to its time then, or to `give_back`."""
        try:
            while not self._is_over:
                try:
                    if not self.is_held_up:
                        await self._once()
                    self.fault = ""
                except EtcdError as error:
                    self.fault = str(error)
                    await asyncio.sleep(min(AGAIN, self._seconds / (2 * KEPT_IN)))
                    continue
                await asyncio.sleep(self._seconds / KEPT_IN)
        finally:
            self._cancel_timer()

    def adopt(self, number: int, until: float) -> bool:
        """One that another process of this machine has kept, and keeps no more; before `keep`. False: its time is over."""
        if until <= asyncio.get_running_loop().time():
            return False
        self.number = number
        self._keep_until(until)
        self._held(number)
        return True

    async def give_back(self) -> None:
        """At a clean end: others see at once that its keys are gone. No other lease is taken."""
        self._is_over = True
        number, self.number = self.number, 0
        self._cancel_timer()
        if number:
            await self._client.revoke(number, within=1.0)

    async def _once(self) -> None:
        asked, number = asyncio.get_running_loop().time(), self.number
        within = self._seconds / KEPT_IN
        if not number:
            number = await self._client.grant(self._seconds, within)
            if not self._is_over and self._extend(asked):
                self.number = number
                self._held(number)
        elif (await self._client.keep_alive([number], within))[number]:
            if self.number == number != 0:  # by our clock it may be over: then it is, whatever etcd says
                self._extend(asked)
        else:
            self._lose("etcd has let it expire")

    def _extend(self, asked: float) -> bool:
        self._cancel_timer()
        self.until = asked + self._seconds
        if self.until <= asyncio.get_running_loop().time():
            self._lose("the answer came when its time was over")
            return False
        self._keep_until(self.until)
        return True

    def _keep_until(self, until: float) -> None:
        self.until, text = until, f"it could not be renewed for {self._seconds} s"
        self._timer = asyncio.get_running_loop().call_at(until, self._lose, text)

    def _lose(self, why: str) -> None:
        self._cancel_timer()
        if self.number:
            self.number = 0
            self._lost(why)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
