# docker build -t tcp_proxy .        docs/container.md says how to run it
# The first stage has a C compiler, compiles the data plane and installs; the second has what is installed, on the same Python,
# and nothing to build with.
FROM python:3.11.14-bookworm AS build
WORKDIR /usr/local/src/tcp_proxy
COPY setup.py setup.cfg pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY docs docs
COPY examples examples
COPY packaging packaging
COPY monitoring monitoring
COPY tcp_proxy tcp_proxy
RUN python -m venv /opt/tcp_proxy \
    && TCP_PROXY_COMPILE=1 /opt/tcp_proxy/bin/python -m pip install --no-cache-dir '.[tls]'

FROM python:3.11.14-slim-bookworm
LABEL org.opencontainers.image.title="tcp_proxy" \
    org.opencontainers.image.description="TCP and HTTP load balancer and failover proxy" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.documentation="/opt/tcp_proxy/share/doc/tcp-proxy"
# /var/lib/tcp_proxy is for "state".
RUN groupadd --gid 10001 tcp_proxy \
    && useradd --uid 10001 --gid tcp_proxy --no-create-home --shell /usr/sbin/nologin tcp_proxy \
    && mkdir -p /etc/flopsy/triggers.d /etc/tcp_proxy \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/tcp_proxy
COPY --from=build /opt/tcp_proxy /opt/tcp_proxy
COPY container/entrypoint.sh /usr/local/bin/tcp-proxy-start
COPY container/health.sh /usr/local/bin/tcp-proxy-health

ENV PATH=/opt/tcp_proxy/bin:$PATH \
    PORT= HOSTS= MAX_BACKOFF= \
    TCP_PROXY_HEALTH_FILE=/dev/shm/tcp_proxy.health HEALTH_URL=
# Numbers, for an engine that wants to know that they are not root's (runAsNonRoot).
USER 10001:10001
WORKDIR /var/lib/tcp_proxy
VOLUME /var/lib/tcp_proxy
EXPOSE 8080 8687
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
    CMD ["/usr/local/bin/tcp-proxy-health"]
ENTRYPOINT ["/usr/local/bin/tcp-proxy-start"]
