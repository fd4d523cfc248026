"""What is known of clients in shared memory: who has an entry, who gives way, what the dead leave, how much it takes."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit import procfs
from tcp_proxy.wire.client_table import LEAST, STRIPES, WAYS, ClientTable, create, entries_for, forget_worker

NOW = 10**12


@pytest.fixture
def fd():
    fd = create(LEAST)
    yield fd
    os.close(fd)


def enter(table, key, now=NOW):
    """Its entry, old or new."""
    place = table.place_of(key)
    entry = table.find(key, place)
    return entry if entry >= 0 else table.find_room(key, place, now)[0]


@pytest.mark.parametrize(("clients", "entries"), [(1, 4096), (4096, 4096), (4097, 8192), (262_144, 262_144)])
def test_there_is_room_for_a_power_of_two(clients, entries):
    assert entries_for(clients) == entries


def test_all_workers_know_the_same_of_a_client(fd):
    tables = [ClientTable(fd, number) for number in (0, 1)]
    entry = enter(tables[0], 77)
    assert entry >= 0
    assert tables[1].find(77, tables[1].place_of(77)) == entry
    tables[0].full_at[entry] = 5
    assert tables[1].full_at[entry] == 5


def test_a_worker_that_comes_later_is_counted_by_those_that_are_there(fd):
    first = ClientTable(fd, 0)
    entry = enter(first, 77)
    late = ClientTable(fd, 9)
    late.own[entry] += 2
    late.own_of_others[entry] -= 1
    assert (first.sessions(entry), late.sessions(entry), first.workers) == (1, 1, 10)


def test_what_a_dead_worker_had_is_nobody_s(fd):
    tables = [ClientTable(fd, number) for number in range(3)]
    entries = [enter(tables[0], key) for key in range(1, 300)]
    for entry in entries:
        for number, table in enumerate(tables):
            table.own[entry] += 1 + number
            table.own_of_others[entry] += 10
    forget_worker(fd, 1)
    assert {tables[0].sessions(entry) for entry in entries} == {1 + 10 + 3 + 10}
    forget_worker(fd, -1)
    forget_worker(fd, 99)
    assert {tables[0].sessions(entry) for entry in entries} == {24}


def test_both_sets_of_a_client_have_one_lock(fd):
    table = ClientTable(fd, 0)
    for key in range(1, 5000, 7):
        first, second, stripe = table.place_of(key)
        assert (first // WAYS) % STRIPES == (second // WAYS) % STRIPES == stripe
        assert 0 <= first <= LEAST - WAYS
        assert 0 <= second <= LEAST - WAYS


def crowd(table, count):
    """Keys of so many clients that have the same 16 entries."""
    key = next(key for key in range(1, 1000) if len({*table.place_of(key)[:2]}) == 2)
    place, keys = table.place_of(key), [key]
    while len(keys) < count:
        key += 1
        if {*table.place_of(key)[:2]} == {*place[:2]}:
            keys.append(key)
    return keys


def test_who_has_used_least_gives_way_and_who_has_sessions_does_not(fd):
    table = ClientTable(fd, 0)
    *keys, new, newer = crowd(table, 2 * WAYS + 2)
    entries = [enter(table, key) for key in keys]
    assert sorted(entries) == sorted({*entries})
    for number, entry in enumerate(entries):
        table.full_at[entry] = NOW + 1000 - number
    table.own[entries[-1]] = 1  # used least, and has a session
    table.bytes_full_at[1][entries[-2]] = NOW + 5000  # has moved much
    assert table.find_room(new, table.place_of(new), NOW) == (entries[-3], True)
    assert table.find(keys[-3], table.place_of(keys[-3])) == -1
    assert (table.full_at[entries[-3]], table.find(new, table.place_of(new))) == (0, entries[-3])
    assert table.find_room(newer, table.place_of(newer), NOW) == (entries[-3], False), "nothing was used of that one"


def test_where_all_have_sessions_nobody_gives_way(fd):
    table = ClientTable(fd, 0)
    *keys, new = crowd(table, 2 * WAYS + 1)
    for key in keys:
        table.own[enter(table, key)] = 1
    assert table.find_room(new, table.place_of(new), NOW) == (-1, False)
    assert all(table.find(key, table.place_of(key)) >= 0 for key in keys)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**64 - 1).filter(bool), st.integers(1, 2**63))
def test_half_of_it_is_used_before_anybody_has_no_room(begin, step):
    """Keys of any kind, one after another or far apart."""
    fd = create(LEAST)
    table = ClientTable(fd, 0)
    os.close(fd)
    keys = {(begin + number * (2 * step + 1)) % 2**64 or 1 for number in range(LEAST // 2)}
    for key in keys:
        entry = enter(table, key)
        table.own[entry] = 1
    lost = sum(table.find(key, table.place_of(key)) < 0 for key in keys)
    assert lost == 0


def test_it_takes_no_memory_before_it_is_used(fd):
    assert os.fstat(fd).st_blocks * 512 <= 8192


def test_it_is_in_no_core_dump(fd):
    """Who writes one reads every page, and so makes it: of 262,144 clients 2 GiB."""
    table = ClientTable(fd, 0)
    assert procfs.dumped(os.getpid(), "tcp_proxy clients") == []
    assert table.entries == LEAST


def test_a_million_clients_take_32_bytes_each_and_four_for_each_who_has_sessions():
    fd = create(entries_for(1_000_000))
    table = ClientTable(fd, 0)
    for key in range(1, 1_000_001, 97):  # every page of it
        entry = enter(table, key)
        table.own[entry] += 1
        table.bytes_full_at[0][entry] = table.bytes_full_at[1][entry] = table.full_at[entry] = 1
    blocks = os.fstat(fd).st_blocks * 512
    assert 30 << 20 < blocks <= (1 << 20) * (32 + 4) + 8192
    os.close(fd)
