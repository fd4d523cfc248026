"""What sources that are new say, asked there and then: a reload that brings them has their targets from the beginning.

In the thread that reads the file. Who does not answer well, or in time, is asked again when the configuration runs, as all
are (control.changes.discovered), and it is said then what is wrong.
"""

import contextlib
import json
import threading
from collections.abc import Mapping, Sequence

from tcp_proxy.config.discovery import FILE, SRV
from tcp_proxy.config.model import App, Config
from tcp_proxy.control.discovery.target_files import read_targets
from tcp_proxy.sansio.srv import targets_of

WAIT = 2.0  # seconds for all that are asked of the DNS


def first_answers(config: Config, known: Mapping[str, str]) -> dict[str, str]:
    """By source: the text of those that nothing is known of."""
    apps: dict[str, tuple[App, ...]] = {}
    for app in config.apps:
        for discovery in app.discoveries:
            if discovery.source not in known:
                apps[discovery.source] = (*apps.get(discovery.source, ()), app)
    found: dict[str, str] = {}
    names = [source for source in apps if source.startswith(SRV)]
    asking = threading.Thread(target=_ask, args=(names, config, found), name="srv", daemon=True)
    with contextlib.suppress(RuntimeError):  # no more threads for this user or machine
        if names:
            asking.start()
    for source, listed in apps.items():
        if source.startswith(FILE):
            text, fault = read_targets(source.removeprefix(FILE), listed)
            if not fault:
                found[source] = text
    if asking.ident is not None:
        asking.join(WAIT)
    return dict(found)


def _ask(names: Sequence[str], config: Config, found: dict[str, str]) -> None:
    """In a thread of its own: the DNS may take long, or for ever."""
    from tcp_proxy.control.discovery.srv import SrvLookup  # noqa: PLC0415  nobody else pays for it

    lookup = SrvLookup(config.nameservers)
    for source in names:
        with contextlib.suppress(OSError, ImportError):
            records = lookup(source.removeprefix(SRV))
            if records:
                found[source] = json.dumps(targets_of(records))
