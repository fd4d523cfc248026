"""Names: when they are looked up, what is reported, what a slow or a failing DNS may hold up, and the end."""

import queue
import socket
import threading

import pytest

from kit.waiting import PATIENCE, wait_until
from tcp_proxy.config.model import Check
from tcp_proxy.control.health.runner import HealthRunner
from tcp_proxy.control.targets import resolver as module
from tcp_proxy.control.targets.resolver import Answer, Resolver, endpoints, look_up
from tcp_proxy.sansio.address import Address, parse_target
from tcp_proxy.sansio.verdict import State
from tests.control.health.bench import Bench

ONE, TWO, SIX = (socket.AF_INET, "192.0.2.1"), (socket.AF_INET, "192.0.2.2"), (socket.AF_INET6, "2001:db8::1")
EVEN = 0.5
GONE = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class Dns:
    """Answers what the test says; a host in `stuck` waits until `release`."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        self.stuck = set()
        self.waiting = set()
        self._gate = threading.Event()

    def look_up(self, host):
        self.asked.append(host)
        if host in self.stuck:
            self.waiting.add(host)
            assert self._gate.wait(PATIENCE)
        answer = self.answers.get(host, (ONE,))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def release(self):
        self.stuck.clear()
        self._gate.set()


class Names:
    """A resolver on a loop that the test turns; `take` gives what it reported meanwhile."""

    def __init__(self, draw=lambda: EVEN):
        self.dns = Dns()
        self.bench = Bench()
        self._reported = []
        self.resolver = Resolver(self.bench.loop, self._reported.append, lookup=self.dns.look_up, draw=draw)

    def close(self):
        self.dns.release()
        self.resolver.stop()
        self.bench.loop.close()

    def idle(self):
        """Every look-up that was asked for is over and its answer is heard."""
        self.bench.until(lambda: ", 0 look-ups" in repr(self.resolver), "the end of all look-ups")

    def take(self):
        self.idle()
        reported = tuple(self._reported)
        self._reported.clear()
        return reported

    def wait_for(self, *hosts):
        """The answers for these, whatever else is under way."""
        self.bench.until(lambda: {answer.host for answer in self._reported} >= set(hosts), f"answers for {hosts}")


@pytest.fixture
def names():
    names = Names()
    yield names
    names.close()


def threads():
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("resolver-"))


# -- when


def test_looked_up_at_once_and_reported(names):
    names.dns.answers["db.example"] = (ONE, SIX)
    names.resolver.want("db.example")
    names.resolver.want("db.example")
    assert names.take() == (Answer("db.example", (ONE, SIX), ""),)
    assert names.dns.asked == ["db.example"]


@pytest.mark.parametrize(("draw", "interval"), [(0.0, 27.0), (0.5, 30.0), (1.0, 33.0)])
def test_again_every_thirty_seconds_or_a_tenth_more_or_less(draw, interval):
    names = Names(draw=lambda: draw)
    names.resolver.want("a")
    for asked in (1, 2, 3):
        names.idle()
        assert len(names.dns.asked) == asked
        names.bench.turn(interval - 0.1)
        names.idle()
        assert len(names.dns.asked) == asked
        names.bench.turn(0.2)
    names.close()


def test_a_failed_connect_asks_at_once_but_once_a_second(names):
    names.resolver.want("a")
    names.idle()
    for _ in range(9):
        names.bench.turn(0.1)
        names.resolver.refresh("a")
        names.idle()
    assert len(names.dns.asked) == 1
    names.bench.turn(0.2)
    for _ in range(3):
        names.resolver.refresh("a")
    names.idle()
    assert len(names.dns.asked) == 2
    names.bench.turn(29.9)
    names.idle()
    assert len(names.dns.asked) == 2, "the next turn is an interval after the refresh"
    names.resolver.refresh("unknown")
    names.idle()
    assert set(names.dns.asked) == {"a"}


def test_never_two_look_ups_of_one_name_at_a_time(names):
    names.dns.stuck.add("slow")
    names.resolver.want("slow")
    wait_until(lambda: names.dns.waiting, "the look-up")
    for _ in range(5):
        names.bench.turn(30.0)
        names.resolver.refresh("slow")
        names.resolver.want("slow")
    names.dns.release()
    assert names.take() == (Answer("slow", (ONE,), ""),)
    assert names.dns.asked == ["slow"]


def test_a_forgotten_name_is_asked_no_more(names):
    names.resolver.want("a")
    names.idle()
    names.resolver.forget("a")
    names.resolver.forget("a")
    names.bench.turn(100.0)
    names.idle()
    assert names.dns.asked == ["a"]
    assert "watching 0, 0 timers" in repr(names.bench.loop)


def test_an_answer_for_a_forgotten_name_is_dropped_also_when_it_is_wanted_again(names):
    names.dns.stuck.add("a")
    names.dns.answers["a"] = (ONE,)
    names.resolver.want("a")
    wait_until(lambda: names.dns.waiting, "the look-up")
    names.resolver.forget("a")
    names.dns.stuck.clear()
    names.dns.answers["a"] = (TWO,)
    names.resolver.want("a")
    names.wait_for("a")
    names.dns.answers["a"] = (SIX,)
    names.dns.release()
    assert names.take() == (Answer("a", (TWO,), ""),)


def test_it_wakes_up_for_nothing_while_nothing_is_due(names):
    names.resolver.want("a")
    names.idle()
    assert "watching 0, 1 timers" in repr(names.bench.loop)


# -- what is reported


def test_only_news_is_reported(names):
    names.dns.answers["a"] = (ONE, TWO)
    names.resolver.want("a")
    assert len(names.take()) == 1
    for addresses, news in (
        ((ONE, TWO), False),
        ((TWO, ONE), False),  # a round-robin DNS turns the order each time
        ((TWO,), True),
        ((TWO, SIX), True),
        ((TWO, SIX), False),
    ):
        names.dns.answers["a"] = addresses
        names.bench.turn(31.0)
        assert names.take() == ((Answer("a", addresses, ""),) if news else ())


def test_a_failing_dns_keeps_the_last_good_answer(names):
    names.dns.answers["a"] = (ONE, SIX)
    names.resolver.want("a")
    names.take()
    reported = []
    for answer in (GONE, GONE, socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), (), (ONE, SIX), (TWO,)):
        names.dns.answers["a"] = answer
        names.bench.turn(31.0)
        reported.append([(answer.addresses, answer.error) for answer in names.take()])
    assert reported == [
        [((ONE, SIX), "Name or service not known")],
        [],
        [((ONE, SIX), "Temporary failure")],
        [((ONE, SIX), "the name has no address")],
        [((ONE, SIX), "")],
        [((TWO,), "")],
    ]


def test_the_first_answer_is_reported_also_when_it_is_none(names):
    names.dns.answers["a"] = GONE
    names.resolver.want("a")
    assert names.take() == (Answer("a", (), "Name or service not known"),)
    names.dns.answers["a"] = (ONE,)
    names.bench.turn(31.0)
    assert names.take() == (Answer("a", (ONE,), ""),)


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (UnicodeError("label too long"), "label too long"),
        (ValueError("embedded null character"), "embedded null character"),
        (socket.gaierror(socket.EAI_SYSTEM, "System error"), "too many open files"),
        (OSError("something else"), "something else"),
    ],
)
def test_whatever_fails_is_an_error_and_not_the_end_of_a_thread(names, problem, text):
    names.dns.answers["a"] = problem
    names.resolver.want("a")
    (answer,) = names.take()
    assert text in answer.error
    names.resolver.want("b")
    assert names.take() == (Answer("b", (ONE,), ""),)


# -- slow names


def test_a_slow_name_holds_up_no_other(names):
    names.dns.stuck.add("slow")
    names.resolver.want("slow")
    wait_until(lambda: names.dns.waiting, "the look-up")
    for host in ("a", "b"):
        names.resolver.want(host)
        names.wait_for(host)
    assert threads() == ["resolver-0", "resolver-1"]


def test_seven_slow_names_hold_up_no_other(names):
    slow = {f"slow{n}" for n in range(7)}
    names.dns.stuck |= slow
    for host in sorted(slow):
        names.resolver.want(host)
    for turn in range(3):
        names.resolver.want(f"quick{turn}")
        names.wait_for(f"quick{turn}")
    wait_until(lambda: names.dns.waiting == slow, "all slow look-ups")


def test_a_forgotten_slow_name_does_not_take_the_only_thread_along(names):
    names.dns.stuck.add("slow")
    names.resolver.want("slow")
    wait_until(lambda: names.dns.waiting, "the look-up")
    names.resolver.forget("slow")
    names.resolver.want("a")
    names.wait_for("a")


def test_more_slow_names_than_threads_wait_their_turn(names):
    hosts = [f"slow{n}" for n in range(12)]
    names.dns.stuck |= set(hosts)
    for host in hosts:
        names.resolver.want(host)
    wait_until(lambda: len(names.dns.waiting) == module.THREADS, "all threads busy")
    assert threads() == [f"resolver-{n}" for n in range(module.THREADS)]
    names.dns.release()
    assert {answer.host for answer in names.take()} == set(hosts)


def test_threads_come_when_they_are_needed_and_are_daemons(names):
    assert threads() == []
    for host in ("a", "b", "c", "d"):
        names.resolver.want(host)
        names.idle()
    assert threads() == ["resolver-0"], "one after another needs one thread"
    assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("resolver-"))


def test_without_a_thread_to_be_had_the_next_turn_tries_again(names, monkeypatch):
    def no_thread(_self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(module.threading.Thread, "start", no_thread)
        names.resolver.want("a")
        assert names.take() == (Answer("a", (), "no thread could be started for the look-up"),)
    names.bench.turn(31.0)
    assert names.take() == (Answer("a", (ONE,), ""),)
    names.dns.stuck.add("slow")
    names.resolver.want("slow")
    wait_until(lambda: names.dns.waiting, "the look-up")
    with monkeypatch.context() as patch:
        patch.setattr(module.threading.Thread, "start", no_thread)
        names.resolver.want("b")
    names.dns.release()
    names.wait_for("slow", "b")


# -- the end


def test_stop_ends_the_threads(names):
    for n in range(20):
        names.resolver.want(f"host{n}")
    names.resolver.stop()
    wait_until(lambda: not threads(), "the end of all threads")
    names.bench.settle()
    names.resolver.stop()


def test_stop_does_not_wait_for_slow_names(names):
    hosts = {f"slow{n}" for n in range(module.THREADS)}
    names.dns.stuck |= hosts
    for host in sorted(hosts):
        names.resolver.want(host)
    names.resolver.want("queued")
    wait_until(lambda: names.dns.waiting == hosts, "all threads busy")
    names.resolver.stop()
    assert len(threads()) == module.THREADS
    names.bench.loop.close()  # the answers have nowhere to go, which must raise nothing
    names.dns.release()
    wait_until(lambda: not threads(), "the end of all threads")
    assert "queued" not in names.dns.asked


def test_leave_waits_for_nobody_and_the_threads_end_by_themselves(names, monkeypatch):
    names.dns.stuck.add("slow")
    names.resolver.want("slow")
    wait_until(lambda: names.dns.waiting, "the look-up")
    joined = []
    with monkeypatch.context() as patch:
        patch.setattr(module.threading.Thread, "join", lambda *what: joined.append(what))
        names.resolver.leave()
    assert not joined
    assert len(threads()) == 1
    names.dns.release()
    wait_until(lambda: not threads(), "the end of all threads")
    assert names.take() == ()


# -- the real thing


def test_localhost():
    with Bench() as bench:
        answers = []
        resolver = Resolver(bench.loop, answers.append)
        resolver.want("localhost")
        bench.until(lambda: answers)
        assert {ip for _, ip in answers[0].addresses} <= {"127.0.0.1", "::1"}
        assert answers[0].addresses
        assert answers[0].error == ""
        resolver.stop()


def test_look_up_keeps_the_scope_and_gives_each_address_once():
    assert look_up("127.0.0.1") == ((socket.AF_INET, "127.0.0.1"),)
    assert look_up("fe80::1%lo") == ((socket.AF_INET6, f"fe80::1%{socket.if_nametoindex('lo')}"),)
    with pytest.raises(ValueError, match="label"):
        look_up("a" * 64 + ".example")


def test_new_addresses_of_a_name_are_probed(names, service, free_port):
    """From the DNS to the health thread, as the supervisor joins them."""
    echo = service(host="127.0.0.2")
    address = Address("db.example", echo.port)
    findings = queue.SimpleQueue()
    runner = HealthRunner("shop", (Check(interval=3600.0),), findings.put)
    runner.start()
    names.dns.answers["db.example"] = ((socket.AF_INET, "127.0.0.1"),)
    names.resolver.want("db.example")
    for where, state in (("127.0.0.1", State.DOWN), ("127.0.0.2", State.UP)):
        names.dns.answers["db.example"] = ((socket.AF_INET, where),)
        names.resolver.refresh("db.example")
        (answer,) = names.take()
        runner.set_targets({"db": endpoints(address, answer.addresses)})
        assert findings.get(timeout=PATIENCE).state is state
        names.bench.turn(2.0)
    runner.stop()


# -- endpoints


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("127.0.0.1:80", ((socket.AF_INET, ("127.0.0.1", 80)),)),
        ("[::1]:80", ((socket.AF_INET6, ("::1", 80, 0, 0)),)),
        ("[fe80::1%7]:80", ((socket.AF_INET6, ("fe80::1", 80, 0, 7)),)),
        ("[fe80::1%lo]:80", ()),
        ("unix:/run/x.sock", ((socket.AF_UNIX, "/run/x.sock"),)),
        ("db.example:80", ()),
    ],
)
def test_endpoints_of_what_needs_no_dns(text, wanted):
    assert endpoints(parse_target(text), ()) == wanted
    if wanted:
        assert endpoints(parse_target(text), (ONE,)) == wanted, "a literal is itself, whatever anybody answers"


def test_endpoints_of_a_name():
    assert endpoints(Address("db.example", 5432), (ONE, SIX, (socket.AF_INET6, "fe80::1%3"))) == (
        (socket.AF_INET, ("192.0.2.1", 5432)),
        (socket.AF_INET6, ("2001:db8::1", 5432, 0, 0)),
        (socket.AF_INET6, ("fe80::1", 5432, 0, 3)),
    )


@pytest.mark.parametrize("interface", ["nosuch0", "lo"])
def test_the_name_of_an_interface_is_a_name(interface):
    """It may come later, or go and come back as another one: the resolver asks again and again."""
    address = parse_target(f"[fe80::1%{interface}]:80")
    assert endpoints(address, ()) == ()
    assert endpoints(address, ((socket.AF_INET6, "fe80::1%3"),)) == ((socket.AF_INET6, ("fe80::1", 80, 0, 3)),)
