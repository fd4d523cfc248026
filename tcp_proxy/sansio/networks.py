"""Networks, and which one of many an address is in: the most exact one, found in a table that is made once.

Values in, values out. Of each family the table has the addresses at which another network begins to count, in order, and for
each what counts from there on; so to find an address is one search for its bytes, whatever the networks' lengths are, and
however they lie in each other. An IPv4 address or network that is written as IPv6 is the IPv4 one.
"""

from array import array
from base64 import b64decode, b64encode
from bisect import bisect_right
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network

Network = IPv4Network | IPv6Network
Table = tuple[str, str, str, str]  # of IPv4, then of IPv6: where ranges begin, and what counts there; as text for a message

BYTES = {4: 4, 6: 16}  # of an address, by version


def parse_network(text: str) -> Network:
    """An address is a network of one. Raises ValueError with a clause for the user."""
    network = ip_network(text)
    if isinstance(network, IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:
            return IPv4Network((mapped, network.prefixlen - 96))
    return network


def table_of(networks: Mapping[Network, int], otherwise: int) -> Table:
    """The numbers say what counts (0 to 65535); `otherwise` does for addresses in none of the networks."""
    packed: list[str] = []
    for version, size in BYTES.items():
        bits = 8 * size
        wanted = sorted(
            (int(network.network_address), network.prefixlen, number)
            for network, number in networks.items()
            if network.version == version
        )
        begins, numbers = [0], [otherwise]
        within = [(1 << bits, otherwise)]  # networks that have begun: where each ends, and its number
        for begin, length, number in wanted:
            _end_before(begin, within, begins, numbers)
            _note(begin, number, begins, numbers)
            within.append((begin + (1 << bits - length), number))
        _end_before((1 << bits) - 1, within, begins, numbers)
        packed.append(_text(b"".join(begin.to_bytes(size, "big") for begin in begins)))
        packed.append(_text(array("H", numbers).tobytes()))
    return packed[0], packed[1], packed[2], packed[3]


def _end_before(begin: int, within: list[tuple[int, int]], begins: list[int], numbers: list[int]) -> None:
    """Those that have ended by then; what is around each counts again."""
    while within[-1][0] <= begin:
        end, _ = within.pop()
        _note(end, within[-1][1], begins, numbers)


def _note(begin: int, number: int, begins: list[int], numbers: list[int]) -> None:
    if begins[-1] == begin:
        numbers[-1] = number
    else:
        begins.append(begin)
        numbers.append(number)


def _text(data: bytes) -> str:
    return b64encode(data).decode()


class Ranges:
    """A table at work, of one family: addresses are their bytes, in network order. `numbers` has what counts from each of
    `begins` on."""

    __slots__ = ("begins", "numbers")

    def __init__(self, begins: str, numbers: str, size: int) -> None:
        data = b64decode(begins)
        self.begins = [data[at : at + size] for at in range(0, len(data), size)]
        self.numbers = array("H", b64decode(numbers)).tolist()

    def __repr__(self) -> str:
        return f"<Ranges {len(self.begins)}>"

    def find(self, address: bytes) -> int:
        return self.numbers[bisect_right(self.begins, address) - 1]


def ranges_of(table: Table) -> tuple[Ranges, Ranges]:
    """Of IPv4 and of IPv6."""
    return Ranges(table[0], table[1], BYTES[4]), Ranges(table[2], table[3], BYTES[6])
