"""The unit of the Debian package under a real systemd, which is process 1 of namespaces of its own: it starts, reloads, is
upgraded and stops; systemd waits for the end of the new program, too, and keeps its listening sockets: who connects while
nobody runs is served by the next one. In a root of its own, an overlay over this machine's,
with one control group; kernel settings are read-only there.
"""

import contextlib
import os
import pathlib
import subprocess
import sysconfig

import pytest

from kit.programs import need
from kit.waiting import wait_until
from tests.packaging.conftest import DEBIAN

# $1: where the root is, and the files below; $2: the package; $3: packages that pip puts; $4: version of control groups
ROOT = """
mkdir "$1/root" "$1/over"; root=$1/root
mount -t tmpfs none "$1/over" && mkdir "$1/over/upper" "$1/over/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/over/upper,workdir=$1/over/work" "$root"
mount -t proc proc "$root/proc"
mount --bind -o ro "$root/proc/sys" "$root/proc/sys"
mount -t sysfs sysfs "$root/sys"
if [ "$4" = 2 ]; then
    mount -t cgroup2 none "$root/sys/fs/cgroup"
else
    mount -t tmpfs none "$root/sys/fs/cgroup"; mkdir "$root/sys/fs/cgroup/systemd"
    mount -t cgroup -o none,name=systemd none "$root/sys/fs/cgroup/systemd"
fi
mount -t tmpfs none "$root/dev"
for name in null zero full random urandom tty; do touch "$root/dev/$name"; mount --bind "/dev/$name" "$root/dev/$name"; done
mkdir "$root/dev/shm" "$root/dev/pts" "$root/dev/mqueue"; mount -t devpts -o newinstance,ptmxmode=0666 none "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"; ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs none "$root/run"; mount -t tmpfs none "$root/tmp"
mkdir "$root/out" "$root/usr/local/lib/tcp-proxy"; mount --bind "$1" "$root/out"
mount --bind "$3" "$root/usr/local/lib/tcp-proxy"
ip link set lo up
install -m 755 "$1/policy-rc.d" "$root/usr/sbin/policy-rc.d"
cp "$2" "$root/package.deb"; chroot "$root" dpkg --install --force-depends /package.deb
cp "$1/config.json" "$root/etc/tcp-proxy/"; cp "$1/steps.service" "$root/etc/systemd/system/"
mkdir "$root/etc/systemd/system/tcp-proxy.service.d"; cp "$1/alone.conf" "$root/etc/systemd/system/tcp-proxy.service.d/"
exec chroot "$root" env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=steps.service
"""
FILES = {
    "policy-rc.d": "#!/bin/sh\nexit 101\n",
    # Nothing else is started, as the journal is not.
    "alone.conf": """
[Unit]
DefaultDependencies=no
[Service]
StandardOutput=null
StandardError=append:/out/program
ExecStopPost=+/bin/sh /out/between
""",
    # Nobody runs now, and a client may want to connect.
    "between": "if [ -e /out/hold ]; then touch /out/nobody; while [ -e /out/hold ]; do sleep 0.1; done; fi\n",
    "target": """
import socket
with socket.create_server(("127.0.0.1", 83)) as listening:
    while True:
        with listening.accept()[0] as sock:
            sock.sendall(sock.recv(9))
""",
    "client": """
import pathlib, socket, subprocess, time
hold, nobody = pathlib.Path("/out/hold"), pathlib.Path("/out/nobody")
for what in (["restart"], ["kill", "--signal=KILL"]):
    hold.touch()
    command = subprocess.Popen(["systemctl", *what, "tcp-proxy"])
    while not nobody.exists():
        time.sleep(0.1)
    nobody.unlink()
    with socket.create_connection(("127.0.0.1", 82)) as client:
        client.sendall(what[0].encode())
        hold.unlink()
        print("client of the next one:", client.recv(9).decode(), flush=True)
    command.wait()
    while subprocess.run(["systemctl", "is-active", "--quiet", "tcp-proxy"]).returncode:
        time.sleep(0.1)
""",
    "steps.service": """
[Unit]
DefaultDependencies=no
Wants=tcp-proxy.service
After=tcp-proxy.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c "sh -e /out/steps >/out/said 2>&1; touch /out/end"
""",
    "config.json": """{
"pid_file": "/run/tcp-proxy/pid", "api": { "listen": "unix:/run/tcp-proxy/api.sock" }, "shutdown_grace": 1,
"apps": [
    { "name": "a", "ports": [80], "targets": ["127.0.0.1:9"] },
    { "name": "b", "ports": [82], "targets": ["127.0.0.1:83"], "health": [] }]
}""",
    "steps": """
export TCP_PROXY_API=unix:/run/tcp-proxy/api.sock
state() { systemctl show --property "$1" --value tcp-proxy; }
systemctl is-active tcp-proxy
ps -o user= -p "$(state MainPID)"
until tcp-proxy-ctl status >/dev/null 2>&1; do sleep 0.1; done
sed -i 's/80/80, 81/' /etc/tcp-proxy/config.json
systemctl reload tcp-proxy; until state StatusText | grep 'done'; do sleep 0.1; done
tcp-proxy-ctl status | grep -q 127.0.0.1:81 && echo 'listens on 81'
before=$(state MainPID); tcp-proxy-ctl upgrade >/dev/null
until [ "$(state MainPID)" != "$before" ]; do sleep 0.1; done; until [ ! -e "/proc/$before" ]; do sleep 0.1; done
echo "parent of the new one: $(ps -o ppid= -p "$(state MainPID)" | tr -d ' ')"
python3 /out/target & python3 /out/client
systemctl stop tcp-proxy; systemctl is-active tcp-proxy || true; state Result
bash -c ': </dev/tcp/127.0.0.1/82' 2>/dev/null || echo 'nobody listens'
grep -o 'SIGTERM: .*' /out/program
ls /run/tcp-proxy 2>/dev/null || echo 'no runtime folder'
""",
}


@contextlib.contextmanager
def a_cgroup():
    """One of our own, below ours in the hierarchy that systemd uses: its path, and the version."""
    top = pathlib.Path("/sys/fs/cgroup/systemd")
    version = 1 if top.is_dir() else 2
    own = (top if version == 1 else top.parent) / f"tcp-proxy-test-{os.getpid()}"
    try:
        own.mkdir()
    except OSError as error:
        pytest.skip(f"no control group may be made here: {error}")
    try:
        yield own, version
    finally:
        wait_until(lambda: not any(path.read_text() for path in own.rglob("cgroup.procs")), "the end of all in it")
        for folder in sorted((path for path in own.rglob("*") if path.is_dir()), reverse=True):
            folder.rmdir()
        own.rmdir()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs a root of its own")
def test_systemd_starts_reloads_and_stops_its_unit(package, tmp_path):
    need("systemctl")
    if subprocess.run([need("unshare"), "--mount", "--pid", "--fork", "--cgroup", "true"], check=False).returncode:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no namespaces may be made here")
    scratch, log = tmp_path / "scratch", tmp_path / "log"
    scratch.mkdir()
    for name, text in FILES.items():
        (scratch / name).write_text(text)
    with a_cgroup() as (group, version), log.open("w") as file:
        inside = "unshare --mount --net --pid --fork --kill-child --uts --ipc --cgroup"
        script = f'echo $$ >{group}/cgroup.procs; exec {inside} sh -ec "$0" "$@"'
        what = [ROOT, "sh", str(scratch), str(package), sysconfig.get_path("purelib"), str(version)]
        program = subprocess.Popen(["sh", "-ec", script, *what], env=DEBIAN, stdout=file, stderr=file)
        end = scratch / "end"
        try:
            wait_until(lambda: end.exists() or program.poll() is not None, log.read_text, 300)
        finally:
            program.kill()
            program.wait()
    assert end.exists(), log.read_text()
    assert (scratch / "said").read_text().splitlines() == [
        "active", "tcp-proxy", "SIGHUP: done, 1 change", "listens on 81", "parent of the new one: 1",
        "client of the next one: restart", "client of the next one: kill", "inactive", "success", "nobody listens",
        *["SIGTERM: no new clients; running sessions have 1 s to end"] * 2, "no runtime folder",
    ]  # fmt: skip
