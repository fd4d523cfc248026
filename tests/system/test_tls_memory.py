"""What a core of each process would have of a key and its password: memory is read as a debugger reads it."""

import contextlib

from kit.api import api_config
from kit.certificates import Authority, pem_of
from kit.ports import free_port
from kit.procfs import children
from tests.system.test_tls_files import Visit, trusting

PASSWORD = "correct-horse-9c41-battery-staple"


def memory(pid):
    """All of it that can be read, a mapping at a time."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as core:
        for line in maps:
            span, rights, *_ = line.split()
            first, last = (int(end, 16) for end in span.split("-"))
            with contextlib.suppress(OSError, OverflowError):  # what is the kernel's, or given back meanwhile
                if rights.startswith("r"):
                    core.seek(first)
                    yield core.read(last - first)


def has(pid, *needles):
    """Which of these are there."""
    return {needle for part in memory(pid) for needle in needles if needle in part}


def test_no_core_has_the_password_and_only_who_speaks_tls_has_the_key(proxy, service, tmp_path):
    root = Authority()
    issued = root.issue("a.org")
    said = issued.write(tmp_path, password=PASSWORD)
    app = {"name": "app", "ports": [free_port()], "targets": [f"127.0.0.1:{service().port}"], "health": []}
    program = proxy({"apps": [{**app, "tls": {"certificates": [said]}}], "workers": 2, "api": api_config()})
    program.uncounted = None
    Visit(program, trusting(root))
    password, text = PASSWORD.encode(), pem_of(issued.key).splitlines()[1].encode()
    number = issued.key.private_numbers().private_value
    key = {text, number.to_bytes(32, "big"), number.to_bytes(32, "little")}
    started = children(program.process.pid)
    assert has(program.process.pid, password, text) == {text}, "the supervisor gives it to the next worker"
    for pid, words in started.items():
        found = has(pid, password, *key)
        assert password not in found, words
        assert bool(found) == (b"dataplane.worker" in words), words
    assert {b"api.server" in words for words in started.values()} == {False, True}
    program.baseline.clear()  # to read all that is mapped has brought all of it into memory
