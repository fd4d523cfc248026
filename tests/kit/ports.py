"""Free ports that nobody else takes, no other test session and no benchmark either (benchmarks.ports)."""

from benchmarks.ports import SESSION


def free_port():
    """A port that is free on every address of this machine."""
    return free_ports(1)[0]


def free_ports(count):
    """That many free ports, one after another."""
    return SESSION.take(count)


def take_first_block():
    """Before the first test, which then finds one at once."""
    SESSION.take(1)


def lock_descriptors():
    """Of the locks of this session, which are nobody's leak."""
    return set(SESSION.locks)
