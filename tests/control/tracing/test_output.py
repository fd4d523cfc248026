"""Lines go as datagrams of whole lines; what there is no room for is counted, and nobody waits."""

import socket

from tcp_proxy.control.tracing.output import PART, TraceOutput


def received(output):
    found = []
    while True:
        try:
            found.append(output.exporter_end.recv(1 << 20, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return found


def test_whole_lines_in_parts():
    output = TraceOutput()
    lines = [b"%d %s\n" % (number, b"x" * 997) for number in range(200)] + [b"y" * (PART + 9) + b"\n", b"z\n"]
    output.write(b"".join(lines), 0.0)
    found = received(output)
    assert b"".join(found).splitlines(keepends=True) == lines
    assert all(part.endswith(b"\n") for part in found)
    assert len(found) == 200 * 1000 // PART + 3
    output.close()
    output.exporter_end.close()


def test_what_does_not_fit_is_counted():
    output = TraceOutput()
    lines = b"".join([b"%s\n" % (b"x" * 999)] * 1000)
    for _ in range(20):
        output.write(lines, 0.0)
    kept = sum(part.count(b"\n") for part in received(output))
    assert output.dropped == 20_000 - kept > 0
    output.write(b"again\n", 0.0)
    assert received(output) == [b"again\n"]
    output.exporter_end.close()
    output.write(b"nobody\n", 0.0)
    assert output.dropped == 20_001 - kept
    output.close()
