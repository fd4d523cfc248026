"""The semaphores of limits, as the supervisor has them: made all or none, replaced by number, given back once."""

import os
import resource
from dataclasses import dataclass

import pytest

from tcp_proxy.control.targets.semaphores import close_tokens, give_back_tokens, make_semaphores, set_semaphore
from tcp_proxy.wire.counters import ACTIVE, SEMAPHORE, UNPAID

APP = "web", ""
TARGET = "web", "a"


@dataclass
class Owner:
    slot: int = 100
    tokens: int = -1
    semaphore: int = 0


def left(fd):
    count = 0
    while True:
        try:
            os.eventfd_read(fd)
        except BlockingIOError:
            break
        count += 1
    if count:
        os.eventfd_write(fd, count)
    return count


@pytest.fixture
def owner():
    made = Owner()
    yield made
    close_tokens(made)


def test_each_has_as_many_tokens_as_its_limit_says(owner):
    made = make_semaphores({APP: 3, TARGET: 1})
    assert [left(made[APP]), left(made[TARGET])] == [3, 1]
    assert not any(os.get_inheritable(fd) for fd in made.values())
    os.close(made[TARGET])
    assert set_semaphore(owner, APP, made, 3, 7)
    assert (owner.tokens, owner.semaphore) == (made[APP], 7)


def test_without_descriptors_there_are_none_at_all():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 2, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            make_semaphores({("web", str(number)): 1 for number in range(10)})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_who_has_no_new_one_keeps_his_while_there_is_a_limit(owner):
    set_semaphore(owner, APP, made := make_semaphores({APP: 3}), 3, 1)
    assert not set_semaphore(owner, APP, {}, 3, 2)
    assert (owner.tokens, owner.semaphore) == (made[APP], 1)
    assert not set_semaphore(owner, APP, {}, 0, 3)
    assert owner.tokens == -1


@pytest.mark.parametrize(
    ("gauges", "free"),
    [
        ({ACTIVE: 2, SEMAPHORE: 5}, 3),
        ({ACTIVE: 2, UNPAID: 1, SEMAPHORE: 5}, 2),
        ({ACTIVE: 2, UNPAID: 2, SEMAPHORE: 5}, 1),
        ({ACTIVE: 2, SEMAPHORE: 4}, 1),  # it had died before it knew of this one
        ({ACTIVE: -1, SEMAPHORE: 5}, 1),
        ({}, 1),
    ],
)
def test_a_dead_worker_s_tokens_come_back_if_they_were_of_this_one(owner, gauges, free):
    set_semaphore(owner, APP, make_semaphores({APP: 3}), 3, 5)
    for _ in range(2):
        os.eventfd_read(owner.tokens)
    give_back_tokens(owner, {owner.slot + place: value for place, value in gauges.items()})
    assert left(owner.tokens) == free


def test_of_one_that_has_none_nothing_is_given_back(owner):
    give_back_tokens(owner, {owner.slot + ACTIVE: 1})
    assert owner.tokens == -1
