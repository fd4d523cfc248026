"""Targets of a sticky app that come and go in any order, in two workers, while clients come: each key has one target."""

import concurrent.futures
import os
import random
import signal
import socket

from kit.api import Api, api_config, path_of
from kit.ports import free_ports
from kit.waiting import pause, wait_until

KEYS = [f"127.9.0.{number}" for number in range(1, 25)]
UP, DRAINING, DOWN = "up", "draining", "down"


class Walk:
    """Random steps, and what must be true after each."""

    def __init__(self, proxy, service, seed, remembers=True, **sticky):
        """`remembers`: keys last longer than the test."""
        self.remembers = remembers
        self.dice = random.Random(seed)
        self.ports = free_ports(2)
        self.states = dict.fromkeys(("t0", "t1", "t2"), UP)
        groups = [
            {"name": name, "ports": {str(port): service(greeting=name.encode()).address for port in self.ports}}
            for name in self.states
        ]
        app = {"name": "app", "ports": self.ports, "targets": groups, "health": [], "sticky": sticky}
        self.program = proxy({"workers": 2, "api": api_config(), "apps": [app]})
        self.program.uncounted = None
        self.api = Api.of(self.program)
        self.homes = {}
        self.told = []

    def go(self, steps):
        for _ in range(steps):
            step = self.dice.choice([
                self.drain, self.disable, self.complain, self.ready, self.ready, self.clear, self.put, self.lose_a_worker
            ])  # fmt: skip
            name = self.dice.choice(list(self.states))
            if step is not self.ready and [state for state in self.states.values() if state == UP] == [UP]:
                name = next((name for name, state in self.states.items() if state != UP), name)
                step = self.ready
            self.told.append((step.__name__, name))
            step(name)
            self.settle()
            if not self.remembers:
                pause(self.dice.random())
            self.look()

    # -- steps

    def patch(self, name, **what):
        self.api.ask("PATCH", path_of("app", name), what, status=200)

    def drain(self, name):
        self.ready(name)
        self.patch(name, admin="drain")
        self.states[name] = DRAINING

    def disable(self, name):
        self.patch(name, admin="disabled")
        self.states[name] = DOWN

    def complain(self, name):
        self.api.post(path_of("app", name) + "/unhealthy", {"for": 60, "why": "test"})
        self.states[name] = DOWN

    def ready(self, name):
        self.api.post(path_of("app", name) + "/unhealthy", {"for": 0})
        self.patch(name, admin="ready")
        self.states[name] = UP

    def clear(self, name):
        self.api.ask("DELETE", path_of("app") + f"/sticks?target={name}", status=200)
        self.homes = {key: home for key, home in self.homes.items() if home != name}

    def put(self, name):
        key = self.dice.choice(KEYS)
        self.api.ask("PUT", path_of("app") + f"/sticks/{key}", {"target": name}, status=200)
        self.homes[key] = name

    def lose_a_worker(self, _name):
        """Its keys are released, and the one that comes has to ask for all of them."""
        since, victim = len(self.program.lines), self.dice.choice(self.program.workers())
        os.kill(victim, signal.SIGKILL)
        self.program.wait_log(f"pid {victim}.* ended", since=since)
        wait_until(self.is_complete, "two workers")

    def is_complete(self):
        return [worker["state"] for worker in self.api.get("/api/v1/workers").json] == ["serving"] * 2

    def settle(self):
        """Both workers know what was said: they have answered something that was asked later."""
        self.api.get("/api/v1/sessions")
        pause(0.02)  # the tables' news go their own way

    # -- what must be true

    def look(self):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            found = dict(zip(KEYS, pool.map(self.visit_all, KEYS), strict=True))
        for key, targets in found.items():
            assert len(targets) == 1, (key, targets, self.homes.get(key), self.states, self.told)
            (target,) = targets
            before = self.homes.get(key)
            if not self.remembers:
                assert self.states[target] != DOWN, (key, target, self.states, self.told)
            elif before is not None and self.states[before] != DOWN:
                assert target == before, (key, target, before, self.states, self.told)
            else:
                assert self.states[target] == UP, (key, target, before, self.states, self.told)
            self.homes[key] = target

    def visit_all(self, key):
        """Whom it meets, one visit after another, by whatever worker."""
        return {self.visit(key, port) for port in self.ports * 2}

    def visit(self, key, port):
        with socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(key, 0)) as client:
            return client.recv(2, socket.MSG_WAITALL).decode()


def test_one_target_for_each_key_whatever_is_said_of_targets(proxy, service):
    Walk(proxy, service, 1).go(15)


def test_one_target_at_a_time_for_keys_that_expire_all_the_time(proxy, service):
    """A copy of a worker that outlives its entry would send a client elsewhere than the other worker does."""
    Walk(proxy, service, 2, remembers=False, expires=1).go(10)
