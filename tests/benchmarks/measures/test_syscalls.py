"""strace's table of calls."""

import pytest

from benchmarks.measures.syscalls import parse_strace
from benchmarks.programs import Failed

TABLE = """\
strace: Process 4711 attached
    calls syscall
--------- ----------------
      300 epoll_wait
       12 accept4
--------- ----------------
      312 total
"""


def test_the_table():
    assert parse_strace(TABLE) == {"epoll_wait": 300, "accept4": 12}


@pytest.mark.parametrize("text", ["", TABLE.replace("312", "313"), "strace: attach: Operation not permitted"])
def test_no_table(text):
    with pytest.raises(Failed, match="strace"):
        parse_strace(text)
