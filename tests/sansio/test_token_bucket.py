"""The token bucket: never more than it holds and what comes in, never less; a late look loses nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.token_bucket import SECOND, TokenBucket

rates = st.sampled_from([0.1, 1, 3, 10, 250, 1e6])
bursts = st.integers(1, 20)


class Tokens:
    """As it is drawn in books: tokens that come in, up to the burst. In exact numbers: tokens times nanoseconds."""

    def __init__(self, bucket, now):
        self.bucket, self.tokens, self.now = bucket, bucket.depth, now

    def take(self, now):
        self.tokens = min(self.bucket.depth, self.tokens + now - self.now)
        self.now = now
        if self.tokens < self.bucket.interval:
            return False
        self.tokens -= self.bucket.interval
        return True


@given(rates, bursts, st.lists(st.integers(0, 3 * SECOND), max_size=60))
def test_it_lets_through_what_a_bucket_with_tokens_would(rate, burst, gaps):
    bucket, now, full_at = TokenBucket(rate, burst), 10**15, 0
    model = Tokens(bucket, now)
    for gap in gaps:
        now += gap
        later, wait = bucket.take(full_at, now)
        assert model.take(now) == (wait <= 0)
        if wait <= 0:
            full_at = later


@given(rates, bursts, st.lists(st.integers(0, SECOND), max_size=40))
def test_who_waits_for_its_turn_has_it_then_and_not_before(rate, burst, gaps):
    """Everybody waits: turns come in order, an interval apart once the burst is used up."""
    bucket, now, full_at, turns = TokenBucket(rate, burst), 10**15, 0, []
    for gap in gaps:
        now += gap
        full_at, wait = bucket.take(full_at, now)
        turns.append(now + max(0, wait))
    assert turns == sorted(turns)
    for first, last in zip(turns, turns[burst:], strict=False):
        assert last - first >= bucket.interval


def test_a_burst_is_that_of_a_second_unless_it_is_said():
    assert [TokenBucket(rate).burst for rate in (0.2, 1, 2.5, 100)] == [1, 1, 2, 100]
    assert TokenBucket(5, 7).burst == 7


@pytest.mark.parametrize(("count", "wait"), [(10, -1), (100, 0), (150, 0.5), (1100, 10)])
def test_many_are_spent_at_once(count, wait):
    bucket = TokenBucket(100, 100)
    full_at, found = bucket.spend(0, 5 * SECOND, count)
    assert full_at == 5 * SECOND + count * SECOND // 100
    assert found == pytest.approx(wait * SECOND) if wait >= 0 else found < 0


def test_it_says_what_it_is():
    assert repr(TokenBucket(2.5, 4)) == "<TokenBucket 2.5/s, burst 4>"


def test_a_rate_of_many_a_nanosecond_is_that_rate():
    bucket = TokenBucket(3e9, 3_000_000_000)
    assert bucket.spend(0, 0, 3_000_000_000) == (SECOND, 0)
    assert bucket.spend(SECOND, 0, 1_500_000_000)[1] == SECOND // 2


class Asked:
    """A bucket that is asked as Envoy's limiter is, on a clock of milliseconds."""

    def __init__(self, rate, burst):
        self.bucket, self.full_at, self.now = TokenBucket(rate, burst), 0, SECOND

    def pass_time(self, milliseconds):
        self.now += milliseconds * SECOND // 1000

    def allowed(self, times):
        found = []
        for _ in range(times):
            full_at, wait = self.bucket.take(self.full_at, self.now)
            if wait <= 0:
                self.full_at = full_at
            found.append(wait <= 0)
        return found


def test_envoy_token_bucket():
    """TokenBucket of Envoy's LocalRateLimiterImplTest: one token each 200 ms; time that passes unused adds no second one."""
    limiter = Asked(5, 1)
    assert limiter.allowed(3) == [True, False, False]
    limiter.pass_time(200)
    assert limiter.allowed(2) == [True, False]
    limiter.pass_time(400)
    assert limiter.allowed(2) == [True, False]


def test_envoy_token_bucket_multiple_tokens_per_fill():
    """TokenBucketMultipleTokensPerFill: two tokens in 200 ms, two at most."""
    limiter = Asked(10, 2)
    assert limiter.allowed(3) == [True, True, False]
    limiter.pass_time(200)
    assert limiter.allowed(1) == [True]
    limiter.pass_time(200)
    assert limiter.allowed(3) == [True, True, False]


def test_envoy_token_bucket_max_tokens_greater_than_tokens_per_fill():
    """TokenBucketMaxTokensGreaterThanTokensPerFill: two at most, and one comes in each 200 ms."""
    limiter = Asked(5, 2)
    assert limiter.allowed(3) == [True, True, False]
    limiter.pass_time(200)
    assert limiter.allowed(2) == [True, False]
