"""When certificates expire, and who is told: the log and the events, DAYS before, and when it has happened. And the same of
lists of revoked certificates, which refuse everybody when they are over: they are made anew every day or every month, so one
is spoken of when a quarter of its time is left, a week at most.

`Expiry` is the main thread's. The rest is pure.
"""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tcp_proxy.config.model import Config
from tcp_proxy.config.tls_model import Certificate, PemFile
from tcp_proxy.control.events import Events
from tcp_proxy.runtime.log import utc
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.words import counted

logger = logging.getLogger(__name__)

DAY = 86400.0
DAYS = (1, 7, 21)
LOOK_EVERY = 600.0  # seconds
AT_ONCE = 500  # in a slice


class Held(NamedTuple):
    """A certificate, and who has it; `target` is "" for one that an app shows its clients."""

    app: str
    target: str
    certificate: Certificate

    @property
    def owner(self) -> str:
        return f"app {self.app}: target {self.target}" if self.target else f"app {self.app}"


def held(config: Config) -> Iterator[Held]:
    for app in config.apps:
        for certificate in app.tls.certificates if app.tls is not None else ():
            yield Held(app.name, "", certificate)
        for target in app.targets:
            if target.tls is not None and target.tls.certificate is not None:
                yield Held(app.name, target.name, target.tls.certificate)


class HeldList(NamedTuple):
    """A file of lists of revoked certificates that ends, and the app that has it."""

    app: str
    file: PemFile


def held_lists(config: Config) -> Iterator[HeldList]:
    for app in config.apps:
        if app.tls is not None and app.tls.crl is not None and app.tls.crl.not_after:
            yield HeldList(app.name, app.tls.crl)


def list_warning(one: HeldList, now: float) -> str:
    """One line; "" when there is nothing to be said."""
    file, left = one.file, one.file.not_after - now
    what = f"app {one.app}: the list of revoked certificates in {file.path}"
    if left <= 0:
        return f"{what} is over its time since {utc(file.not_after)}: all clients with a certificate are refused"
    if left > min((file.not_after - file.not_before) / 4, 7 * DAY):
        return ""
    return f"{what} is over its time at {utc(file.not_after)}; from then on all clients with a certificate are refused"


def days_left(certificate: Certificate, now: float) -> int | None:
    """The smallest of DAYS that is not over, 0 when it has expired; None while there is time."""
    left = certificate.not_after - now
    return 0 if left <= 0 else next((days for days in DAYS if left <= days * DAY), None)


def warning(one: Held, now: float) -> str:
    """One line; "" when there is nothing to be said."""
    certificate = one.certificate
    what = f"{one.owner}: the certificate in {certificate.chain_file}"
    if certificate.not_before > now:
        return f"{what} is not valid before {utc(certificate.not_before)}"
    left = days_left(certificate, now)
    if left is None:
        return ""
    if left == 0:
        return f"{what} has expired, at {utc(certificate.not_after)}"
    days = int((certificate.not_after - now) // DAY)
    text = f"in {counted(days, 'day')}" if days else "in less than a day"
    return f"{what} expires {text}, at {utc(certificate.not_after)}"


def warnings(config: Config) -> list[str]:
    now = time.time()
    texts = [warning(one, now) for one in held(config)] + [list_warning(one, now) for one in held_lists(config)]
    return [text for text in texts if text]


class Expiry:
    """`config()` is what runs now; `do` has done what comes in slices. Each certificate is spoken of once for each
    of DAYS, and once when it has expired."""

    def __init__(
        self, loop: Loop, config: Callable[[], Config], events: Events, clock: Callable[[], float] = time.time,
        do: Callable[[Iterator[None]], Any] = list,
    ) -> None:  # fmt: skip
        self._loop = loop
        self._config = config
        self._events = events
        self._clock = clock
        self._do = do
        self._said: dict[tuple[str, str, str], int] = {}  # app, target, which one: days left

    def __repr__(self) -> str:
        return f"<Expiry: {len(self._said)} said>"

    def start(self) -> None:
        self._do(self.looking())
        self._loop.call_later(LOOK_EVERY, self.start)

    def looking(self) -> Iterator[None]:
        """In slices."""
        now, said = self._clock(), dict[tuple[str, str, str], int]()
        for number, one in enumerate(held(self._config()), 1):
            text = warning(one, now)
            if text:
                key = one.app, one.target, one.certificate.fingerprint
                left = days_left(one.certificate, now)
                said[key] = -1 if left is None else left
                if self._said.get(key) != said[key]:
                    self._say(one.app, one.target, one.certificate.chain_file, one.certificate.not_after, text)
            if not number % AT_ONCE:
                yield
        for listed in held_lists(self._config()):
            text = list_warning(listed, now)
            if text:
                file = listed.file
                key = listed.app, "", f"{file.path} {file.not_after}"
                said[key] = int(file.not_after > now)
                if self._said.get(key) != said[key]:
                    self._say(listed.app, "", file.path, file.not_after, text)
        self._said = said

    def _say(self, app: str, target: str, file: str, not_after: float, text: str) -> None:
        logger.warning("%s", text)
        data: dict[str, Any] = {"app": app, "target": target, "file": file, "not_after": not_after, "text": text}
        self._events.publish("certificate", data)
