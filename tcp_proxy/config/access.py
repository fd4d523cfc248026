"""What an app says of who may connect becomes an Access, files of networks among it. A part of config.build."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tcp_proxy.config.files import read_file
from tcp_proxy.config.model import ALLOW, COUNTED_RULES, DENY, Access, AccessEntry, Config
from tcp_proxy.config.positions import Path, shown
from tcp_proxy.config.report import Report
from tcp_proxy.config.values import Plain
from tcp_proxy.sansio.networks import Network, parse_network, table_of

MOST_BYTES = 16 * 1024 * 1024  # of a file
MOST_NETWORKS = 200_000  # of an app: they go to every worker, as one message
SAID = 5  # faults of a file, and networks of both lists, that are said one by one
FILE = "@"
LIKE_A_NETWORK = re.compile(r"[0-9A-Fa-f:./%]+")
WANTED = 'wanted an address or a network, such as "192.0.2.0/24"'


class _Lists:
    """The networks of both lists as they are found: the first entry of a list that has one counts, and `deny` before
    `allow`."""

    def __init__(self) -> None:
        self.networks: dict[str, dict[Network, int]] = {ALLOW: {}, DENY: {}}  # with the number of the entry

    @property
    def count(self) -> int:
        return sum(map(len, self.networks.values()))

    def add(self, action: str, network: Network, entry: int) -> None:
        self.networks[action].setdefault(network, entry)


def build_access(app: Plain, path: Path, report: Report) -> Access | None:
    plain: Any = app.get("access")
    if plain is None:
        return None
    lists = _Lists()
    found: dict[str, tuple[AccessEntry, ...]] = {}
    for action in (ALLOW, DENY):
        place = (*path, "access", action)
        entries = [(text, (*place, i)) for i, text in enumerate(plain.get(action) or ()) if text is not None]
        found[action] = tuple(
            _entry(action, number, text, here, lists, report) for number, (text, here) in enumerate(entries)
        )
    both = sorted(map(str, lists.networks[ALLOW].keys() & lists.networks[DENY].keys()))
    allow = found[ALLOW] if plain.get(ALLOW) is not None else None
    access = Access(
        allow, found[DENY], in_both=(*both[:SAID], f"{len(both) - SAID} more") if len(both) > SAID else tuple(both)
    )
    return Access(access.allow, access.deny, _table(access, lists), access.in_both)


def _table(access: Access, lists: _Lists) -> tuple[str, str, str, str]:
    """Numbers of rules, as they are counted."""
    numbers = {rule: number for number, rule in enumerate(access.rules)}
    networks: dict[Network, int] = {}
    for action in (ALLOW, DENY):
        entries = (access.allow if action == ALLOW else access.deny) or ()
        of_entry = [numbers[access.rule_of(action, entries, number)] for number in range(len(entries))]
        networks |= {network: of_entry[entry] for network, entry in lists.networks[action].items()}
    return table_of(networks, len(numbers) - 1)


def _entry(action: str, number: int, text: str, path: Path, lists: _Lists, report: Report) -> AccessEntry:
    if text.startswith(FILE):
        return _file(action, number, text, path, lists, report)
    try:
        network = parse_network(text)
    except ValueError as error:
        report.value(path, f'found {shown(text)}: {error}; {WANTED}, or "@" and the path of a file of them')
        return AccessEntry(text)
    lists.add(action, network, number)
    is_one = network.num_addresses == 1
    return AccessEntry(str(network.network_address if is_one else network))


def _file(action: str, number: int, text: str, path: Path, lists: _Lists, report: Report) -> AccessEntry:
    """A file with one on each line; "#" and what follows it is for people."""
    name, whole = text.removeprefix(FILE), json.dumps(text, ensure_ascii=False)
    try:
        contents = read_file(name, MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        report.value(path, f"{whole}: cannot be read: {reason}")
        return AccessEntry(text)
    if len(contents) > MOST_BYTES:
        report.value(path, f"{whole}: this is bigger than {MOST_BYTES} bytes")
        return AccessEntry(text)
    count = faults = 0
    for line, words in _lines(contents):
        try:
            network = parse_network(words)
        except ValueError as error:
            faults += 1
            if faults <= SAID:
                report.value(path, f"{whole}: line {line}: {_fault(words, error)}; {WANTED}")
            continue
        count += 1
        lists.add(action, network, number)
    if faults > SAID:
        report.value(path, f"{whole}: {faults - SAID} more lines are wrong")
    if lists.count > MOST_NETWORKS:
        report.value(path, f"{whole}: with this the app has more than {MOST_NETWORKS} networks in its lists")
    import hashlib  # noqa: PLC0415  it loads OpenSSL, which a start need not wait for

    return AccessEntry(text, count, hashlib.sha256(contents).hexdigest()[:16])


def _fault(words: str, error: ValueError) -> str:
    """Who may say which file it is need not be one who may read it: what looks like no network is not shown."""
    if len(words) < 64 and LIKE_A_NETWORK.fullmatch(words):
        return f"found {shown(words)}: {error}"
    return "this is no network"


def _lines(contents: bytes) -> Iterator[tuple[int, str]]:
    """(number, text) of those that say something."""
    for number, line in enumerate(contents.decode("utf-8-sig", "replace").split("\n"), 1):
        words = line.partition("#")[0].strip()
        if words:
            yield number, words


def doubts(config: Config) -> Iterator[str]:
    """What is to be said of lists that may not be meant so, in words."""
    for app in config.apps:
        access = app.access
        if access is None:
            continue
        for network in access.in_both:
            yield f"app {app.name}: access: {network} in allow and in deny: denied"
        for entry in access.entries:
            if not entry.count:
                nobody = (
                    " (nobody may connect)"
                    if access.allow is not None and not any(one.count for one in access.allow)
                    else ""
                )
                yield f"app {app.name}: access: no address stands in {entry.entry}{nobody}"
        for name, entries in ((ALLOW, access.allow or ()), (DENY, access.deny)):
            if len(entries) > COUNTED_RULES:
                yield (
                    f"app {app.name}: access: {name} has {len(entries)} entries: the first {COUNTED_RULES} are counted "
                    "each, the others together (a file is one entry)"
                )
