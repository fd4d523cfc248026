"""tcp_proxy: a TCP load balancer and failover proxy. Every worker imports this file: version and build, nothing else."""

import os.path
from importlib.machinery import EXTENSION_SUFFIXES

__version__ = "0.2.0"


def build() -> str:
    """ "compiled", or "pure Python" (setup.py): which of the two the data plane of this installation is."""
    loop = os.path.join(os.path.dirname(__file__), "runtime", "loop")  # the first of the modules that are compiled
    return "compiled" if any(os.path.exists(loop + suffix) for suffix in EXTENSION_SUFFIXES) else "pure Python"
