"""A process that is no child of ours, watched and ended by its descriptor."""

import os
import signal
import socket
import subprocess
import sys

from kit import procfs
from kit.waiting import wait_until
from tcp_proxy.control.processes.adopted import AdoptedHandle, AdoptedProcess
from tcp_proxy.control.processes.workers import Worker
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire.channel import Channel
from tcp_proxy.wire.messages import Ready, encode


def grandchild():
    """The pid of a process whose parent is not this one."""
    code = "import subprocess; print(subprocess.Popen(['sleep', '60'], stdout=-3, stderr=-3).pid)"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_it_is_heard_from_where_the_other_program_has_stopped_and_its_end_is_seen():
    loop, heard, ended = Loop(), [], []
    pid = grandchild()
    ours, theirs = socket.socketpair()
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    frame = encode(Ready(7))
    handle = AdoptedHandle(pid, os.pidfd_open(pid))
    process = AdoptedProcess(handle, ours.detach(), frame[:9], reads, b"a line that ")
    worker = Worker(loop, 3, process, lambda _worker, message: heard.append(message), lambda _, text: ended.append(text))
    theirs.sendall(frame[9:])
    os.write(writes, b"goes on\n")
    while not heard:
        loop.run_once(1)
    assert heard == [Ready(7)]
    worker.kill()
    while not ended:
        loop.run_once(1)
    assert ended == ["exit status 0"], "its parent alone knows better"
    worker.kill()  # nothing, and nobody else's
    wait_until(lambda: not procfs.is_running(pid), "its end")
    theirs.close()
    os.close(writes)
    loop.close()


def test_of_a_child_of_ours_the_status_is_known():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    handle = AdoptedHandle(child.pid, os.pidfd_open(child.pid))
    handle.send_signal(signal.SIGTERM)
    assert handle.wait() == -signal.SIGTERM
    assert handle.wait() == handle.returncode
    handle.kill()
    child.returncode = 0  # it is reaped


def test_a_channel_and_a_worker_stand_still_and_go_on():
    loop, heard = Loop(), []
    ours, theirs = socket.socketpair()
    channel = Channel(loop, ours, lambda message, _: heard.append(message), lambda: None)
    frame = encode(Ready(1))
    theirs.sendall(frame[:5])
    loop.run_once(1)
    fd, begun = channel.pause()
    assert (fd, begun) == (ours.fileno(), frame[:5])
    theirs.sendall(frame[5:])
    loop.run_once(0)
    assert heard == []
    channel.resume()
    loop.run_once(1)
    assert heard == [Ready(1)]
    channel.close()
    loop.run_once(0)
    theirs.close()
    loop.close()
