"""Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2016): nobody has far more than the others.

Pure, around the balancer of a policy with a key. A candidate may have so many sessions: `factor` per cent of the mean by
weight, the one that comes counted, rounded up. One that has as many is passed over, and the key goes to the next one in the
hash's own order: the one that it would have if those that are full were down.

Always true, for a factor of at least 100: somebody is below the bound, for all of them together have less; and a key whose
own candidate is below it stays there. It is HAProxy's hash-balance-factor and Envoy's hash_balance_factor. Sessions are
counted over all workers at this moment: of two workers that choose in the same one, each may give a candidate its last one.
"""

from collections.abc import Callable, Sequence

from tcp_proxy.sansio.balance import Balancer, C, Draw


class BoundedLoad:
    """`factor`: per cent, at least 100. `make` gives a balancer of the policy: one for all candidates, one for those of them
    that are below the bound, whose sets come and go and would disturb the memory of the other."""

    def __init__(self, factor: int, make: Callable[[], Balancer]) -> None:
        self._factor = factor
        self._whole, self._part = make(), make()

    def __repr__(self) -> str:
        return f"<BoundedLoad {self._factor} % of {self._whole!r}>"

    def pick(self, eligible: Sequence[C], key: bytes, now: float, draw: Draw) -> C:
        own = self._whole.pick(eligible, key, now, draw)
        loads = [max(0, candidate.active) for candidate in eligible]  # a sum of counters that change meanwhile
        slots = self._factor * (sum(loads) + 1)  # in hundredths, for all
        weight = sum([candidate.weight for candidate in eligible])
        below = [
            candidate for candidate, load in zip(eligible, loads, strict=True)
            if load * 100 * weight < slots * candidate.weight
        ]  # fmt: skip
        if own in below:
            return own
        return self._part.pick(tuple(below), key, now, draw)
