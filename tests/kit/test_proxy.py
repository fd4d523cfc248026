"""kit.proxy on a stand-in for the product: it waits, it counts, and each of its oracles sees its fault."""

import pathlib
import re
import sys

import pytest

from kit.peer import Target
from kit.ports import free_port
from kit.proxy import Proxy, its_own

RELAY = pathlib.Path(__file__).with_name("relay.py")


@pytest.fixture
def start(tmp_path):
    running = []

    def start(target, *faults):
        config = {"access_log": "access.log", "apps": [{"ports": [free_port()], "targets": [target.address]}]}
        running.append(Proxy(config, tmp_path, program=(sys.executable, str(RELAY), *faults)).wait_ready())
        return running[-1]

    yield start
    for program in running:
        program.kill()


def talk(program, target):
    client = program.connect()
    server = target.accept()
    client.send(b"question").fin()
    server.expect(b"question").expect_fin()
    server.send(b"an answer").fin()
    client.expect(b"an answer").expect_fin()
    return client


def test_a_dialogue_leaves_one_record_and_no_fault(start, target):
    target = target()
    program = start(target)
    client = talk(program, target)
    assert program.record()["client"] == client.address
    end(program)


def test_wait_log_says_what_the_log_has_when_its_line_does_not_come(start, target):
    program = start(target())
    with pytest.raises(TimeoutError, match="ready: 1 app"):
        program.wait_log("never said", seconds=0.05)


def test_a_program_that_cannot_start_is_no_wait_for_ever(tmp_path):
    program = Proxy(None, tmp_path, program=(sys.executable, "-c", "raise SystemExit(7)"))
    with pytest.raises(TimeoutError):
        program.wait_log("ready:")
    assert program.wait() == 7
    program.kill()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("--traceback", "the log has 'Traceback"),
        ("--leak", r"\d+ of kind socket, \d+ after the start"),
        ("--forget", "0 records for 1 sessions"),
        ("--miscount", "did not move what its record says"),
    ],
)
def test_each_oracle_sees_its_fault(start, fault, words):
    with Target() as target:
        program = start(target, fault)
        talk(program, target)
    with pytest.raises(AssertionError, match=re.compile(words)):
        end(program)


def test_a_record_is_that_of_its_own_listener():
    one, two = {"listener": "127.0.0.1:5001", "bytes_up": 3}, {"listener": "[::1]:5002", "bytes_up": 0}
    assert its_own([one, two], 5001) == [one]
    assert its_own([one, two], 5002) == [two]
    assert its_own([one], 5002) == [one], "what is told of another one is compared all the same"
    assert its_own([{"bytes_up": 1}], 5001) == [{"bytes_up": 1}]


def end(program):
    program.check()
    assert program.stop() == 0
    program.check()


def test_a_descriptor_limit_reaches_the_program(tmp_path):
    code = "import resource, sys; print(resource.getrlimit(resource.RLIMIT_NOFILE), file=sys.stderr)"
    program = Proxy(None, tmp_path, program=(sys.executable, "-c", code), descriptors=123)
    program.wait_log(r"\(123, 123\)")
    program.wait()
    program.kill()
