"""The policy of one app in a worker: its balancers, and what they need beside the targets.

Owned by the worker's loop thread. A table of a consistent hash is worked out in steps, between which sessions are served by
the policy as it was: `building` before the app becomes what the view says, `configure` as it does.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from tcp_proxy.sansio.balance import TABLED, Balancer, make
from tcp_proxy.sansio.share import Share
from tcp_proxy.wire.views import AppView

STEP = 50  # of a Share: a step of a table takes as long as so many targets
Members = Sequence[tuple[str, int]]


class Balancing:
    """`whole` is for all of a level, `part` for a part of it: its tuples come and go and would disturb the memory of the
    other. `latencies` are of the policy least_time."""

    whole: Balancer
    part: Balancer

    def __init__(self, worker: int) -> None:
        self._worker = worker
        self._policy: tuple[Any, ...] = ()
        self._table: Any = None  # sansio.hash_table.HashTable
        self._table_of: tuple[Any, ...] = ()
        self.latencies: Any = None

    def __repr__(self) -> str:
        return f"<Balancing {self.whole!r}>"

    def building(self, view: AppView, members: Members, share: Share) -> Iterator[None]:
        """The table that the app's policy will have, in slices."""
        if view.balance not in TABLED:
            self._table, self._table_of = None, ()
            return
        members = tuple((name, weight) for name, weight in members if weight)
        size = view.hash.table_size if view.balance == "maglev" else view.hash.ring_size
        wanted = (view.balance, size, members)
        if wanted == self._table_of:
            return
        from tcp_proxy.sansio.hash_table import TABLES  # noqa: PLC0415  loaded with the first app that needs it

        found = None
        for step in TABLES[view.balance](members, size) if members else ():
            found = step
            if share.is_used_up(STEP):
                yield
        self._table, self._table_of = found, wanted

    def configure(self, view: AppView) -> None:
        policy = view.balance, view.slow_start, view.hash.balance_factor, self._table_of
        if policy == self._policy:
            return
        self._policy = policy
        if view.balance != "least_time":
            self.latencies = None
        self.whole, self.part = self._make(view), self._make(view)

    def _make(self, view: AppView) -> Any:
        balancer = self._balancer(view.balance)
        if view.hash.balance_factor:
            from tcp_proxy.sansio.bounded_load import BoundedLoad  # noqa: PLC0415  as below

            balancer = BoundedLoad(view.hash.balance_factor, lambda: self._balancer(view.balance))
        if not view.slow_start:
            return balancer
        from tcp_proxy.sansio.slow_start import SlowStart  # noqa: PLC0415  loaded with the first app that needs it

        return SlowStart(balancer, view.slow_start)

    def _balancer(self, balance: str) -> Balancer:
        if balance in TABLED:
            from tcp_proxy.sansio.hashed import TableHash  # noqa: PLC0415  as above

            return TableHash(self._table)
        if balance == "least_time":
            from tcp_proxy.sansio.least_time import Latencies, LeastTime  # noqa: PLC0415  as above

            self.latencies = self.latencies or Latencies()
            return LeastTime(self._worker, self.latencies)
        return make(balance, self._worker)
