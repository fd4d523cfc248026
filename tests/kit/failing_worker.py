"""A worker with a bug: the third client makes its loop raise. Started in place of the real one, as a module."""

import sys

from tcp_proxy.dataplane import worker
from tcp_proxy.dataplane.server import Server

begin = Server.begin


def begin_or_fail(self, *args):
    if self.sessions == 2:
        raise RuntimeError("the third client")
    begin(self, *args)


if __name__ == "__main__":
    Server.begin = begin_or_fail
    sys.exit(worker.main(sys.argv))
