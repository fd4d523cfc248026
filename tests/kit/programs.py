"""Real servers on loopback with configurations of their own: nginx, Redis, PostgreSQL, HAProxy; and any other program.

A program that is not installed fails the test where the environment says CI, and skips it on a developer's machine.
Each server lives in its own folder and process and is ended by its process id.
"""

import contextlib
import glob
import grp
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import urllib.request

import pytest

from kit.peer import connect
from kit.ports import free_port
from kit.waiting import wait_until

ELSEWHERE = ("/usr/sbin", "/usr/local/sbin", *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True))

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{
        listen 127.0.0.1:{port} backlog=4096 reuseport;
        root {folder}/html;
        location = /hello {{ return 200 "hello from nginx\\n"; }}
        location = /status {{ stub_status; }}
        location /upload {{ client_max_body_size 0; return 200 "got $content_length\\n"; }}
    }}
}}
"""


def need(name):
    """The path of a program."""
    path = shutil.which(name, path=os.pathsep.join([*ELSEWHERE, os.environ.get("PATH", "")]))
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed")
    return path


def run(name, *args, seconds=30.0, status=0, **options):
    """A client program, to its end: what it wrote to stdout; its exit status must be the one wanted."""
    argv = [need(name), *map(str, args)]
    done = subprocess.run(
        argv, capture_output=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL, text=True, **options
    )
    assert done.returncode == status, f"{argv} ended with {done.returncode}: {done.stderr}{done.stdout}"
    return done.stdout


class Program:
    """A server process; `address` is where it answers."""

    def __init__(self, argv, port, folder, end=signal.SIGTERM, is_ready=None, gone=None, **who):
        """`gone` is called when it has ended."""
        self.port, self.folder, self._end, self._gone = port, pathlib.Path(folder), end, gone
        self._is_ready = is_ready or self._accepts
        self.log = self.folder / "output.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(word) for word in argv], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **who,
            )  # fmt: skip

    def __repr__(self):
        return f"<Program {self.process.args[0]} on {self.port}>"

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def wait_listening(self, seconds=20.0):
        wait_until(self._is_alive_and_ready, lambda: f"{self!r} listens:\n{self.log.read_text()}", seconds)
        return self

    def _is_alive_and_ready(self):
        assert self.process.poll() is None, f"{self!r} ended: {self.log.read_text()}"
        return self._is_ready()

    def _accepts(self):
        with contextlib.suppress(OSError), connect(self.port):
            return True
        return False

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(self._end)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        if self._gone is not None:
            self._gone()


def nginx(folder):
    """An HTTP server: /hello, /upload, and files of `folder`/html."""
    folder = _folder(folder, "nginx")
    (folder / "html").mkdir()
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port))
    user = "user root;" if os.geteuid() == 0 else ""
    return Program([need("nginx"), "-p", folder, "-e", folder / "error.log", "-g", user, "-c", config], port, folder)


def nginx_requests(server):
    """How many requests it has had, those that asked so among them."""
    with urllib.request.urlopen(f"http://{server.address}/status", timeout=20) as answer:
        return int(answer.read().split()[9])


def redis(folder):
    folder, port = _folder(folder, "redis"), free_port()
    flags = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
    return Program([need("redis-server"), *flags], port, folder)


def haproxy(folder, text):
    """`text` is the configuration but for the port of its listener, {port}."""
    folder, port = _folder(folder, "haproxy"), free_port()
    config = folder / "haproxy.cfg"
    config.write_text(text.format(port=port))
    return Program([need("haproxy"), "-db", "-f", config], port, folder)


def postgres(folder, standby_of=None, **more):
    """A fresh database cluster; user and database postgres, no password. Root may not run it: user postgres does.

    `standby_of`: another one, which it follows by streaming replication; `more`: settings. As root it lives in a folder of
    its own: pytest's are closed to the user postgres whenever another pytest begins.
    """
    initdb, server = need("initdb"), need("postgres")
    who, gone = {}, None
    if os.geteuid() == 0:
        entry = pwd.getpwnam("postgres")
        who = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": ()}
        home = tempfile.TemporaryDirectory()
        folder, gone = home.name, home.cleanup
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    folder, port = _folder(folder, "standby" if standby_of else "postgres"), free_port()
    if who:
        os.chown(folder, who["user"], who["group"])
    if standby_of is None:
        flags = ["-U", "postgres", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8"]
        run(initdb, "-D", folder / "data", *flags, cwd=folder, seconds=60, **who)
    else:
        flags = ["-h", "127.0.0.1", "-p", standby_of.port, "-U", "postgres", "-R", "-X", "stream", "-c", "fast", "--no-sync"]
        run("pg_basebackup", "-D", folder / "data", *flags, cwd=folder, seconds=60, **who)
    options = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder, "fsync": "off", **more}
    flags = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
    asks = [need("pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-q"]

    def is_ready():
        return subprocess.run(asks, check=False).returncode == 0

    how = {"end": signal.SIGINT, "is_ready": is_ready, "gone": gone, **who}
    return Program([server, "-D", folder / "data", *flags], port, folder, **how)


def _folder(folder, name):
    made = pathlib.Path(folder) / name
    made.mkdir()
    return made


DOVECOT = """
base_dir = {folder}/run
log_path = {folder}/log
protocols = imap
ssl = no
listen = 127.0.0.1
haproxy_trusted_networks = 127.0.0.0/8
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {login}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
    haproxy = {behind}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
passdb {{
  driver = static
  args = nopassword=y
}}
"""


def dovecot(folder, behind="yes"):
    """IMAP, `behind` a PROXY header or not; its log names each client. Root's logins run as users of Debian's package."""
    server, gone = need("dovecot"), None
    entry = pwd.getpwuid(os.geteuid())
    who = {"user": entry.pw_name, "group": grp.getgrgid(entry.pw_gid).gr_name, "login": entry.pw_name}
    if os.geteuid() == 0:
        who = {"user": "dovecot", "group": "dovecot", "login": "dovenull"}
        home = tempfile.TemporaryDirectory()  # pytest's folders are closed to them
        folder, gone = home.name, home.cleanup
        os.chmod(folder, 0o755)
    folder, port = _folder(folder, "dovecot"), free_port()
    config = folder / "dovecot.conf"
    config.write_text(DOVECOT.format(folder=folder, port=port, behind=behind, **who))
    log = folder / "log"

    def is_ready():
        return log.exists() and "starting up" in log.read_text()

    return Program([server, "-F", "-c", config], port, folder, is_ready=is_ready, gone=gone)


def mariadb(folder, *flags):
    """A fresh one that resolves no names; root without a password by its socket, `folder`/s."""
    install, server = need("mariadb-install-db"), need("mariadbd")
    folder, port = _folder(folder, "mariadb"), free_port()
    home = tempfile.TemporaryDirectory()  # a socket's path is short
    data = pathlib.Path(home.name) / "data"
    me = pwd.getpwuid(os.geteuid()).pw_name
    how = ["--auth-root-authentication-method=normal", "--skip-test-db", f"--user={me}"]
    run(install, "--no-defaults", f"--datadir={data}", *how, seconds=60)
    own = [f"--user={me}", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1", f"--socket={home.name}/s"]
    rest = [f"--pid-file={home.name}/pid", "--skip-name-resolve", f"--log-error={folder}/log", *flags]
    flags = ["--no-defaults", *own, *rest]
    made = Program([server, *flags], port, folder, is_ready=lambda: _pings(home.name), gone=home.cleanup)
    made.socket = f"{home.name}/s"
    return made


def _pings(folder):
    asked = [need("mariadb-admin"), "--no-defaults", f"--socket={folder}/s", "-u", "root", "ping"]
    return subprocess.run(asked, check=False, capture_output=True).returncode == 0


def varnish(folder, vcl):
    """It speaks the PROXY protocol on its port."""
    server = need("varnishd")
    home = tempfile.TemporaryDirectory()  # its parts run as another user
    os.chmod(home.name, 0o755)
    folder, port = _folder(folder, "varnish"), free_port()
    file = pathlib.Path(home.name) / "default.vcl"
    file.write_text(vcl)
    flags = ["-F", "-a", f"127.0.0.1:{port},PROXY", "-n", f"{home.name}/work", "-f", file, "-s", "malloc,16m"]
    return Program([server, *flags], port, folder, gone=home.cleanup)
