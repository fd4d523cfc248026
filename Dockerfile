# docker build -t tcp_proxy .        docs/container.md says how to run it
FROM python:3.11-slim

WORKDIR /usr/local/src/tcp_proxy
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY tcp_proxy tcp_proxy
RUN pip install --no-cache-dir . \
    && groupadd --system tcp_proxy \
    && useradd --system --gid tcp_proxy --no-create-home --shell /usr/sbin/nologin tcp_proxy \
    && mkdir -p /etc/flopsy/triggers.d /etc/tcp_proxy
COPY container/entrypoint.sh /usr/local/bin/tcp-proxy-start

ENV PORT= HOSTS= MAX_BACKOFF= \
    HEALTH_URL=http://127.0.0.1:8687/healthz
USER tcp_proxy
WORKDIR /
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(os.environ['HEALTH_URL'], timeout=3)"]
ENTRYPOINT ["/usr/local/bin/tcp-proxy-start"]
