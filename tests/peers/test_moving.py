"""Real programs whose connections live long, while their sessions are moved from worker to worker: they notice nothing."""

import contextlib
import re
import subprocess

import pytest

from kit import programs
from kit.api import Api, api_config
from kit.waiting import wait_until

ROUNDS = 6
COUNT = 1500


@pytest.fixture
def moved(proxy):
    """Starts the program with a target, and gives what empties its workers in turn."""

    def start(target):
        program = proxy(targets=[target], top={"workers": 2, "api": api_config()})
        program.uncounted = None
        started.append(program)
        return program, lambda: empty_all(program)

    started = []
    yield start
    for program in started:
        program.baseline.clear()  # the counters' memory, which has grown, keeps a descriptor


def empty_all(program):
    api = Api.of(program)
    for number in range(ROUNDS):
        before = set(program.workers())
        api.post(f"/api/v1/workers/{number % 2}/empty", status=202)
        wait_until(
            lambda before=before: len(before & set(program.workers())) == 1 == len(program.workers()) - 1, "another one", 60
        )


def test_redis_pub_sub_hears_every_message_in_order(moved, tmp_path):
    with contextlib.closing(programs.redis(tmp_path)) as server:
        server.wait_listening()
        program, empty = moved(server.address)
        cli = [programs.need("redis-cli"), "-p", str(program.port)]
        with (
            subprocess.Popen([*cli, "--csv", "subscribe", "news"], stdout=subprocess.PIPE, text=True) as subscriber,
            contextlib.ExitStack() as at_the_end,
        ):
            at_the_end.callback(subscriber.kill)
            next(line for line in subscriber.stdout if '"subscribe"' in line)
            with subprocess.Popen(cli, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as publisher:
                for first in range(0, COUNT, COUNT // 3):
                    publisher.stdin.writelines(f"publish news {first + n}\n" for n in range(COUNT // 3))
                    publisher.stdin.flush()
                    empty()
                publisher.stdin.close()
                assert publisher.wait(20) == 0
            heard = [int(re.search(r'"(\d+)"', subscriber.stdout.readline())[1]) for _ in range(COUNT)]
        assert heard == list(range(COUNT))


def test_pgbench_and_a_session_of_psql_lose_no_transaction(moved, tmp_path):
    with contextlib.closing(programs.postgres(tmp_path)) as server:
        server.wait_listening()
        program, empty = moved(server.address)
        to = ["-h", "127.0.0.1", "-p", str(program.port), "-U", "postgres"]
        programs.run("pgbench", *to, "-i", "-q", "-s", "1", "postgres", seconds=60)
        with subprocess.Popen(
            [programs.need("psql"), *to, "-Atq", "postgres"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as psql:
            psql.stdin.write("create temporary table mine (n int); begin; insert into mine values (1);\n")
            psql.stdin.flush()
            argv = [programs.need("pgbench"), *to, "-c", "4", "-T", "12", "postgres"]
            with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as bench:
                while bench.poll() is None:
                    empty()
                text = bench.stdout.read()
            assert bench.returncode == 0, text
            assert "number of failed transactions: 0" in text
            psql.stdin.write("insert into mine values (2); commit; select sum(n) from mine;\n")
            psql.stdin.close()
            assert psql.stdout.read().strip() == "3", "the same session of the database all the time"
