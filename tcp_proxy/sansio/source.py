"""From where connects to targets come: the words of the key `source`. Pure.

    192.0.2.10                   an address of this machine
    192.0.2.10-192.0.2.20        a range of them, both ends included; IPv6 too
    eth1                         an interface: what the kernel sends goes out there
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

MOST = 4096  # addresses in one range
INTERFACE = re.compile(r"[A-Za-z][A-Za-z0-9_.@-]{0,14}")
WANTED = 'wanted an IP address, a range "FIRST-LAST", or the name of an interface'


def is_interface(entry: str) -> bool:
    """Of what is right."""
    return ":" not in entry and entry[:1].isalpha()


def parse_source(text: str) -> str:
    """One entry in its shortest spelling. Raises ValueError with a clause for the user."""
    first, dash, last = text.partition("-")
    begin = _ip(first)
    if begin is None:
        if ":" not in text and INTERFACE.fullmatch(text):
            return text
        raise ValueError(WANTED)
    if not dash:
        return str(begin)
    end = _ip(last)
    if end is None or end.version != begin.version:
        raise ValueError(WANTED)
    if not 0 <= int(end) - int(begin) < MOST:
        raise ValueError(f"wanted a range of 1 to {MOST} addresses, the first one first")
    return f"{begin}-{end}"


def addresses_of(entry: str) -> list[str]:
    """All of an entry that `parse_source` has given; none of an interface."""
    if is_interface(entry):
        return []
    first, _, last = entry.partition("-")
    begin = ip_address(first)
    return [str(begin + number) for number in range(int(ip_address(last or first)) - int(begin) + 1)]


def _ip(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        return None if found.scope_id else found.ipv4_mapped or found
    return found
