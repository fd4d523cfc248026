"""Real servers that the presets of health checks are for, on loopback, each in a folder of its own; none needs root."""

import contextlib
import hashlib
import os
import pathlib
import shutil
import signal
import tempfile

import pytest

from kit.ports import free_port
from kit.programs import Program, need, run

NOBODY = {"user": 65534, "group": 65534, "extra_groups": ()}  # for those that refuse to be root

SLAPD = """
include /etc/ldap/schema/core.schema
pidfile {folder}/pid
argsfile {folder}/args
modulepath /usr/lib/ldap
moduleload back_ldif
{more}
database ldif
directory {folder}
suffix "dc=example"
rootdn "cn=admin,dc=example"
"""

UNBOUND = """
server:
  interface: 127.0.0.1@{port}
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: "{folder}/pid"
  use-syslog: no
remote-control:
  control-enable: no
"""

PGBOUNCER = """
[databases]
postgres = host=127.0.0.1 port={server} dbname=postgres user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = trust
auth_file = {folder}/users
unix_socket_dir =
"""

POSTFIX = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
daemon_directory = /usr/lib/postfix/sbin
command_directory = /usr/sbin
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mail.example
mydestination =
alias_maps =
alias_database =
maillog_file = /dev/stdout
postscreen_access_list =
postscreen_greet_action = enforce
postscreen_greet_wait = 2s
"""

POSTFIX_SERVICES = """
127.0.0.1:{port} inet n - n - 1 {first}
smtpd pass - - n - - smtpd
dnsblog unix - - n - 0 dnsblog
tlsproxy unix - - n - 0 tlsproxy
cleanup unix n - n - 0 cleanup
rewrite unix - - n - - trivial-rewrite
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
"""


def _folder(folder, name):
    made = folder / f"{name}-{free_port()}"
    made.mkdir()
    return made


def _open_to_all(path):
    """For a server that runs as nobody: pytest's folders are root's alone."""
    for folder in (path, *path.parents):
        with contextlib.suppress(PermissionError):
            folder.chmod(folder.stat().st_mode | 0o755)


def sshd(folder, *options):
    folder, port = _folder(folder, "sshd"), free_port()
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key")
    os.makedirs("/run/sshd", exist_ok=True)
    given = {"Port": port, "ListenAddress": "127.0.0.1", "HostKey": folder / "key", "PidFile": "none"}
    flags = [word for key, value in given.items() for word in ("-o", f"{key}={value}")]
    return Program([need("sshd"), "-D", "-e", "-f", "/dev/null", *flags, *options], port, folder)


def nats(folder):
    port = free_port()
    return Program([need("nats-server"), "-a", "127.0.0.1", "-p", port], port, _folder(folder, "nats"))


def memcached(folder):
    port = free_port()
    who = ["-u", "nobody"] if os.geteuid() == 0 else []
    return Program([need("memcached"), "-l", "127.0.0.1", "-p", port, *who], port, _folder(folder, "memcached"))


def beanstalkd(folder):
    port = free_port()
    return Program([need("beanstalkd"), "-l", "127.0.0.1", "-p", port], port, _folder(folder, "beanstalkd"))


def gearmand(folder):
    folder, port = _folder(folder, "gearmand"), free_port()
    return Program([need("gearmand"), "-L", "127.0.0.1", "-p", port, "--log-file", folder / "log"], port, folder)


def mosquitto(folder, anonymous):
    folder, port = _folder(folder, "mosquitto"), free_port()
    config = folder / "conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous {anonymous}\nlog_dest stderr\n")
    return Program([need("mosquitto"), "-c", config], port, folder)


def slapd(folder, more=""):
    folder, port = _folder(folder, "slapd"), free_port()
    config = folder / "slapd.conf"
    config.write_text(SLAPD.format(folder=folder, more=more))
    return Program([need("slapd"), "-d", "256", "-f", config, "-h", f"ldap://127.0.0.1:{port}"], port, folder)


def unbound(folder):
    folder, port = _folder(folder, "unbound"), free_port()
    config = folder / "unbound.conf"
    config.write_text(UNBOUND.format(folder=folder, port=port))
    return Program([need("unbound"), "-d", "-c", config], port, folder)


def pgbouncer(folder, server):
    """Lets the user `known` in, to the PostgreSQL on that port."""
    folder, port = _folder(folder, "pgbouncer"), free_port()
    (folder / "users").write_text('"known" ""\n')
    config = folder / "pgbouncer.ini"
    config.write_text(PGBOUNCER.format(folder=folder, port=port, server=server))
    _open_to_all(folder)
    who = NOBODY if os.geteuid() == 0 else {}
    return Program([need("pgbouncer"), config], port, folder, end=signal.SIGINT, **who)


def etcd(folder, count=1):
    """The members of one cluster."""
    ports, urls = [free_port() for _ in range(count)], [f"http://127.0.0.1:{free_port()}" for _ in range(count)]
    return [_etcd(folder, number, ports[number], urls) for number in range(count)]


def _etcd(folder, number, port, urls):
    folder, address = _folder(folder, "etcd"), f"http://127.0.0.1:{port}"
    argv = [need("etcd"), "--name", f"m{number}", "--data-dir", folder / "data", "--log-level", "error"]
    argv += ["--listen-client-urls", address, "--advertise-client-urls", address]
    argv += ["--listen-peer-urls", urls[number], "--initial-advertise-peer-urls", urls[number]]
    argv += ["--initial-cluster", ",".join(f"m{n}={url}" for n, url in enumerate(urls))]
    return Program(argv, port, folder)


def zookeeper(folder, *more):
    """With these lines in its configuration."""
    folder, port = _folder(folder, "zookeeper"), free_port()
    (folder / "myid").write_text("1\n")
    lines = [f"dataDir={folder}", "clientPortAddress=127.0.0.1", f"clientPort={port}", "admin.enableServer=false"]
    lines += ["tickTime=2000", "initLimit=5", "syncLimit=2", *more]
    (folder / "zoo.cfg").write_text("".join(f"{line}\n" for line in lines))
    need("/usr/share/zookeeper/bin/zkServer.sh")
    jar = "/usr/share/java/zookeeper.jar"
    main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
    return Program([need("java"), "-Xmx128m", "-cp", jar, main, folder / "zoo.cfg"], port, folder)


def clamd(folder):
    """With a database of one signature, of a text that nobody writes."""
    folder, port = _folder(folder, "clamd"), free_port()
    (folder / "db").mkdir()
    (folder / "db" / "own.hsb").write_text(f"{hashlib.sha256(b'no such file').hexdigest()}:12:Own.Test\n")
    config = folder / "clamd.conf"
    config.write_text(f"Foreground yes\nTCPAddr 127.0.0.1\nTCPSocket {port}\nDatabaseDirectory {folder / 'db'}\n")
    return Program([need("clamd"), "--config-file", config], port, folder)


@contextlib.contextmanager
def rabbitmq(folder):
    """With an epmd of its own, which it would leave running."""
    folder, port, names = _folder(folder, "rabbitmq"), free_port(), free_port()
    server = "/usr/lib/rabbitmq/bin/rabbitmq-server"
    need(server)
    env = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "RABBITMQ_BASE": str(folder), "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_NODENAME": f"of-{port}@localhost", "RABBITMQ_MNESIA_BASE": str(folder / "db"),
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port), "RABBITMQ_DIST_PORT": str(free_port()), "ERL_EPMD_PORT": str(names),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"), "RABBITMQ_CONFIG_FILE": str(folder / "none"),
        "RABBITMQ_LOGS": "-", "LANG": "C.UTF-8",
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        epmd = Program([need("epmd"), "-port", names, "-address", "127.0.0.1"], names, _folder(folder, "epmd"))
        stack.callback(epmd.close)
        epmd.wait_listening()
        broker = Program([server], port, folder, env=env)
        stack.callback(broker.close)
        yield broker.wait_listening(60)


def redis(folder, *options, config=""):
    """As a file of its own: Sentinel rewrites it."""
    folder, port = _folder(folder, "redis"), free_port()
    file = folder / "redis.conf"
    file.write_text(f"port {port}\nbind 127.0.0.1\ndir {folder}\n{config}\n")
    return Program([need("redis-server"), file, *options], port, folder)


def postfix(first="smtpd"):
    """`first` answers: smtpd, or postscreen before it. Its master wants to be root; its user wants a way to its folder, so
    that is none of pytest's, which the next run of pytest closes to others."""
    if os.geteuid() != 0:
        pytest.skip("postfix is started by root alone")
    need("postfix")
    folder, port = pathlib.Path(tempfile.mkdtemp(prefix="postfix-")), free_port()
    for name in ("queue", "data"):
        (folder / name).mkdir()
    (folder / "main.cf").write_text(POSTFIX.format(folder=folder))
    (folder / "master.cf").write_text(POSTFIX_SERVICES.format(port=port, first=first))
    shutil.chown(folder / "data", "postfix")
    folder.chmod(0o755)
    run("postfix", "-c", folder, "check")  # makes the folders of its queue
    # What "postfix start-fg" runs, and leaves running when it is ended itself.
    argv, gone = ["/usr/lib/postfix/sbin/master", "-c", folder, "-s"], lambda: shutil.rmtree(folder)
    return Program(argv, port, folder, is_ready=lambda: _is_served(folder, port), gone=gone)


def _is_served(folder, port):
    """Nobody connects only to see: postscreen would know that address."""
    listens = f"0100007F:{port:04X} " in pathlib.Path("/proc/net/tcp").read_text()
    return listens and "daemon started" in (folder / "output.log").read_text()
