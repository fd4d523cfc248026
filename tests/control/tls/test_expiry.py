"""Who is told that a certificate ends, and when."""

import dataclasses

import pytest

from kit.clock import Clock
from tcp_proxy.config.model import App, Config, Target
from tcp_proxy.config.tls_model import Certificate, PemFile, TargetTls, Tls
from tcp_proxy.control.events import Events
from tcp_proxy.control.tls.expiry import DAY, LOOK_EVERY, Expiry, Held, HeldList, held, held_lists, list_warning, warning
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.address import Address

END = 1_800_000_000.0
ONE = Certificate("/a.pem", "", "", "", "SECRET", not_before=END - 90 * DAY, not_after=END, fingerprint="f1")
OWN = dataclasses.replace(ONE, chain_file="/own.pem", fingerprint="f2", not_after=END + 1000 * DAY)
TARGETS = Target("t", Address("a", 1), tls=TargetTls(certificate=OWN)), Target("u", Address("b", 1))
CONFIG = Config((App("web", (), TARGETS, tls=Tls((ONE,))),))


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (22 * DAY, ""),
        (21 * DAY, "expires in 21 days, at 2027-01-15T08:00:00.000Z"),
        (7.5 * DAY, "expires in 7 days, at 2027-01-15T08:00:00.000Z"),
        (1.5 * DAY, "expires in 1 day, at 2027-01-15T08:00:00.000Z"),
        (0.5 * DAY, "expires in less than a day, at 2027-01-15T08:00:00.000Z"),
        (0, "has expired, at 2027-01-15T08:00:00.000Z"),
        (-5 * DAY, "has expired, at 2027-01-15T08:00:00.000Z"),
        (91 * DAY, "is not valid before 2026-10-17T08:00:00.000Z"),
    ],
)
def test_the_words(left, text):
    found = warning(Held("web", "", ONE), END - left)
    assert found == (f"app web: the certificate in /a.pem {text}" if text else "")


def test_whose_certificates_there_are():
    assert list(held(CONFIG)) == [Held("web", "", ONE), Held("web", "t", OWN)]
    assert [one.owner for one in held(CONFIG)] == ["app web", "app web: target t"]


def test_21_7_and_1_days_before_and_when_it_has_happened(caplog):
    clock, events = Clock(END - 30 * DAY), Events()
    wall = Clock(END - 30 * DAY)
    loop = Loop("test", clock=clock)
    expiry = Expiry(loop, lambda: CONFIG, events, clock=wall)
    expiry.start()
    said = []
    while wall.now < END + 3 * DAY:
        wall.turn(LOOK_EVERY)
        clock.turn(LOOK_EVERY)
        loop.run_once(0)
        if caplog.messages:
            said.append((round((END - wall.now) / DAY), *caplog.messages))
            caplog.clear()
    assert [(days, text.split(" ", 6)[6].split(",")[0]) for days, text in said] == [
        (21, "expires in 21 days"), (7, "expires in 7 days"), (1, "expires in 1 day"), (0, "has expired"),
    ]  # fmt: skip
    assert [event.kind for event in events.kept] == ["certificate"] * 4
    assert events.kept[0].data["file"] == "/a.pem"
    assert "SECRET" not in str([event.data for event in events.kept])
    loop.close()


def test_a_look_that_is_not_new_says_nothing(caplog):
    loop = Loop("test")
    expiry = Expiry(loop, lambda: CONFIG, Events(), clock=lambda: END)
    for _ in range(2):
        expiry.start()
    assert len(caplog.messages) == 1
    loop.close()


def revoked(days):
    return PemFile("/crl.pem", "", not_before=END - days * DAY, not_after=END)


@pytest.mark.parametrize(
    ("days", "left", "says"),
    [(30, 8, ""), (30, 7, "at"), (1, 0.26, ""), (1, 0.25, "at"), (30, 0, "since"), (30, -9, "since")],
)
def test_a_list_is_spoken_of_in_the_last_quarter_of_its_time(days, left, says):
    found = list_warning(HeldList("web", revoked(days)), END - left * DAY)
    begins = f"app web: the list of revoked certificates in /crl.pem is over its time {says} 2027-01-15T08:00:00.000Z"
    assert found.startswith(begins) if says else not found
    assert "all clients with a certificate are refused" in found or not says


def test_a_list_is_spoken_of_twice(caplog):
    wall, events = Clock(END - 2 * DAY), Events()
    config = dataclasses.replace(CONFIG, apps=(dataclasses.replace(CONFIG.apps[0], tls=Tls((OWN,), crl=revoked(4))),))
    assert [one.app for one in held_lists(config)] == ["web"]
    loop = Loop("test")
    expiry = Expiry(loop, lambda: config, events, clock=wall)
    for _ in range(72):
        expiry.start()
        wall.turn(3600)
    loop.close()
    assert [" since " in text for text in caplog.messages] == [False, True]
    assert [(event.kind, event.data["file"]) for event in events.kept] == [("certificate", "/crl.pem")] * 2


def test_a_list_without_an_end_is_not_spoken_of():
    config = dataclasses.replace(CONFIG, apps=(dataclasses.replace(CONFIG.apps[0], tls=Tls((OWN,), crl=PemFile("/c", ""))),))
    assert list(held_lists(config)) == []
