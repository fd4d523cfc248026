"""A DNS server of a test's own, unbound, with zones that the test says: it answers as the real thing does.

    with DnsServer(tmp_path) as dns:
        dns.serve("_db._tcp.example.", ["10 5 5432 db1.example."], ttl=1)       SRV records; the server reads them again
        dns.port
"""

import shutil
import socket
import subprocess

import pytest

from kit.ports import free_port
from kit.waiting import wait_until

CONFIG = """
server:
    interface: 127.0.0.1@{port}
    port: {port}
    chroot: ""
    username: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
    logfile: "{folder}/log"
    do-daemonize: no
    num-threads: 1
    cache-max-ttl: 0
    module-config: "iterator"
    local-zone: "example." static
{records}
remote-control:
    control-enable: no
"""


class DnsServer:
    def __init__(self, folder):
        if shutil.which("unbound") is None:
            pytest.skip("unbound is not installed")
        self.folder = folder / "dns"
        self.folder.mkdir()
        self.port = free_port()
        self._records = {}
        self._process = None

    def __enter__(self):
        self._begin()
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def serve(self, name, records, ttl=1):
        """SRV records of this name from now on; addresses of theirs are those of this machine."""
        self._records[name] = [f"{name} {ttl} IN SRV {record}" for record in records]
        if self._process is not None:
            self.stop()
            self._begin()

    def stop(self):
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def _begin(self):
        lines = [f'    local-data: "{one}"' for some in self._records.values() for one in some]
        path = self.folder / "unbound.conf"
        path.write_text(CONFIG.format(port=self.port, folder=self.folder, records="\n".join(lines)))
        command = ["unbound", "-d", "-c", str(path)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._is_there, "the DNS server")

    def _is_there(self):
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0
