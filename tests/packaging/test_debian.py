"""The Debian package: dpkg-buildpackage makes it, lintian finds no fault, dpkg installs it, it runs, purging takes it away.

It is installed in a root of its own, an overlay over this machine's in a mount namespace: nothing here is changed.
"""

import os
import re
import subprocess
import sysconfig

import pytest

from kit.programs import need, run
from tcp_proxy import __version__
from tests.packaging.conftest import DEBIAN, HOME

pytestmark = pytest.mark.timeout(900)  # 15 seconds of processor time, but hundreds of processes one after another
SCRATCH = """
mount -t tmpfs none "$1" && mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t proc proc "$1/root/proc" && mount --bind /dev "$1/root/dev"
mkdir "$1/root/usr/local/lib/tcp-proxy" && mount --bind "$4" "$1/root/usr/local/lib/tcp-proxy"
cp "$2" "$1/root/package.deb"
printf '#!/bin/sh\\nexit 101\\n' >"$1/root/usr/sbin/policy-rc.d" && chmod 755 "$1/root/usr/sbin/policy-rc.d"
exec chroot "$1/root" sh -ec "$3"
"""
STEPS = """
dpkg --install --force-depends /package.deb >&2
tcp-proxy --version; tcp-proxy-ctl --version
id --user --name tcp-proxy
cd /tmp; python3 -c 'import tcp_proxy; print(tcp_proxy.__file__)'
ls /usr/lib/python3/dist-packages/tcp_proxy/control/api/assets | sort | tr '\n' ' '; echo
tcp-proxy --init /etc/tcp-proxy/config.json >&2
tcp-proxy --check /etc/tcp-proxy/config.json
systemd-analyze verify /lib/systemd/system/tcp-proxy.service >&2
man --where 5 tcp-proxy.json
app='{"name": "a", "bind": "*", "ports": [80], "targets": ["127.0.0.1:9"]}'
printf '{"api": {"listen": "unix:/tmp/api.sock"}, "apps": [%s]}' "$app" >/tmp/api.json
(
    export "$(sed -n 's/^Environment=PYTHONPATH/PYTHONPATH/p' /lib/systemd/system/tcp-proxy.service)"
    exec tcp-proxy /tmp/api.json
) >/tmp/api.log 2>&1 & program=$!
until test -S /tmp/api.sock; do kill -0 $program || { cat /tmp/api.log >&2; exit 1; }; sleep 0.1; done
tcp-proxy-ctl --api unix:/tmp/api.sock status >&2 && echo 'the API answers'
kill $program; wait $program; umount /usr/local/lib/tcp-proxy; rmdir /usr/local/lib/tcp-proxy
logrotate --debug /etc/logrotate.d/tcp-proxy 2>&1 | grep 'rotating pattern'
rm /etc/tcp-proxy/config.json
dpkg --force-depends --purge tcp-proxy >&2
find /etc /usr /var /lib -name '*tcp?proxy*' -newer /package.deb | sed 's/^/left: /'
"""


@pytest.mark.slow
def test_it_is_built_with_its_sources_and_lintian_finds_no_error(package):
    (changes,) = package.parent.glob("*.changes")
    assert {".dsc", ".deb", ".tar.xz"} <= set(re.findall(r"(\.dsc|\.deb|\.tar\.xz)$", changes.read_text(), re.MULTILINE))
    found = run("lintian", "--fail-on", "none", "--allow-root", "--tag-display-limit", "0", changes, env=DEBIAN, seconds=120)
    assert [line for line in found.splitlines() if line.startswith(("E:", "W:"))] == []


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs a root of its own")
def test_it_installs_runs_and_goes_without_a_trace(package, tmp_path):
    if subprocess.run([need("unshare"), "--mount", "true"], capture_output=True, check=False).returncode:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no mount namespace may be made here")
    for program in ("systemd-analyze", "logrotate", "man"):
        need(program)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    # What pip puts where README.Debian says; Debian's Python is of the version that the tests are run with, or has nothing.
    packages = sysconfig.get_path("purelib")
    command = ["unshare", "--mount", "--net", "sh", "-ec", SCRATCH, "sh", str(scratch), str(package), STEPS, packages]
    done = subprocess.run(command, env=DEBIAN, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assets = " ".join(sorted(path.name for path in (HOME / "tcp_proxy/control/api/assets").iterdir()))
    assert lines.pop(4).strip() == assets, "the dashboard"
    assert lines[:5] == [
        f"tcp_proxy {__version__} (pure Python)", f"tcp_proxy {__version__} (pure Python)", "tcp-proxy",
        "/usr/lib/python3/dist-packages/tcp_proxy/__init__.py",
        "/etc/tcp-proxy/config.json: right, 1 app on 1 listener",
    ]  # fmt: skip
    assert lines[5].startswith("/usr/share/man/man5/tcp-proxy.json.5")
    assert lines.pop(6) == "the API answers", "with what pip has put where README.Debian says"
    assert lines[6].startswith("rotating pattern: /var/log/tcp-proxy/*.log  after 1 days")
    assert lines[7:] == [], "nothing of it is left"


def test_the_unit_names_what_is_there():
    """Each path that the package makes or needs, and nothing that a program of ours would not take."""
    unit = (HOME / "packaging" / "tcp-proxy.service").read_text()
    starts = re.findall(r"^ExecStart(?:Pre)?=(\S+) (.*)$", unit, re.MULTILINE)
    assert starts == [
        ("/usr/bin/tcp-proxy", "--check /etc/tcp-proxy/config.json"), ("/usr/bin/tcp-proxy", "/etc/tcp-proxy/config.json"),
    ]  # fmt: skip
    links = [HOME / "debian" / name for name in ("tcp-proxy.service", "tcp-proxy.logrotate")]
    assert not any(path.exists() for path in links), "the package is built with those of packaging/"


def test_its_changelog_has_this_version():
    assert (HOME / "debian" / "changelog").read_text().startswith(f"tcp-proxy ({__version__}) ")
