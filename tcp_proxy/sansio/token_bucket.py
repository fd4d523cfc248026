"""The token bucket: so many a second, and so many at once. Values in, values out; time in nanoseconds.

A bucket is one number: when it will be full again. That is the generic cell rate algorithm (GCRA, ITU-T I.371), which is
the token bucket without a timer: one that is full needs no memory, and of two the one that will be full sooner is the one
that may be forgotten at less loss.
"""

SECOND = 1_000_000_000


class TokenBucket:
    """`rate`: tokens a second; `burst`: as many as it holds, 0: those of a second, one at the least."""

    __slots__ = ("burst", "depth", "interval", "rate", "whole")

    def __init__(self, rate: float, burst: int = 0) -> None:
        self.rate = rate
        self.burst = burst or max(1, int(rate))
        self.interval = max(1, round(SECOND / rate))  # between two tokens
        self.depth = self.interval * self.burst
        self.whole = round(SECOND * self.burst / rate)  # the same where an interval may be a part of a nanosecond

    def __repr__(self) -> str:
        return f"<TokenBucket {self.rate:g}/s, burst {self.burst}>"

    def take(self, full_at: int, now: int) -> tuple[int, int]:
        """When it is full again once a token has been taken, and how long the token has to be waited for (at most 0: it is
        there). It is for the caller to take it, by keeping the first."""
        full_at = (full_at if full_at > now else now) + self.interval
        return full_at, full_at - now - self.depth

    def spend(self, full_at: int, now: int, count: int) -> tuple[int, int]:
        """The same for many, which are gone already: how long nothing more may be spent."""
        full_at = (full_at if full_at > now else now) + int(count * SECOND / self.rate)
        return full_at, full_at - now - self.whole
