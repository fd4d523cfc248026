"""tcp_proxy: a TCP load balancer and failover proxy. Every worker imports this file: the version and nothing else."""

__version__ = "0.1.0"
