"""The same contenders in mode http: requests are balanced, on kept connections to the target.

HAProxy in mode http with `http-reuse always`, splicing answers where it pays; nginx by proxy_pass with kept connections.
All say X-Forwarded-For; we say what docs/http.md names besides.
"""

import os
import pathlib
from collections.abc import Mapping

from benchmarks.programs import find
from benchmarks.proxies import PIPES, SPARE, Argv, Contender, descriptor_limit, project_of

HAPROXY = """\
global
    maxconn {maxconn}
    maxpipes {pipes}
    nbthread {workers}
    tune.pipesize 1048576
defaults
    mode http
    backlog 4096
    timeout connect 10s
    timeout client 1h
    timeout server 1h
    http-reuse always
    option splice-auto
    option forwardfor
"""
HAPROXY_APP = """\
listen {name}
    bind 127.0.0.1:{port}
    server target 127.0.0.1:{target}
"""
NGINX = """\
daemon off;
worker_processes {workers};
worker_rlimit_nofile {descriptors};
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections {connections}; multi_accept on; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_buffers 16 64k; proxy_buffer_size 64k; proxy_max_temp_file_size 0;
"""
NGINX_APP = """\
    upstream {name} {{ server 127.0.0.1:{target}; keepalive 100; keepalive_requests 1000000000; }}
    server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://{name}; }} }}
"""


def write_project(
    contender: Contender, ports: Mapping[str, int], targets: Mapping[str, int], folder: pathlib.Path
) -> tuple[Argv, dict[str, str]]:
    apps = [
        {"name": name, "mode": "http", "ports": [ports[name]], "targets": [f"127.0.0.1:{port}"], "health": []}
        for name, port in targets.items()
    ]
    log = str(folder / "access.log") if contender.access_log else None
    text = {"workers": contender.workers, "shutdown_grace": 10, "log": {"level": "warning"}, "access_log": log, "apps": apps}
    return project_of(text, folder)


def write_haproxy(
    contender: Contender, ports: Mapping[str, int], targets: Mapping[str, int], folder: pathlib.Path
) -> tuple[Argv, None]:
    maxconn = (descriptor_limit() - 2 * PIPES - SPARE) // 2
    text = HAPROXY.format(maxconn=maxconn, pipes=PIPES, workers=contender.workers)
    for name, target in targets.items():
        text += HAPROXY_APP.format(name=name, port=ports[name], target=target)
    config = folder / "haproxy.cfg"
    config.write_text(text)
    return [find("haproxy"), "-db", "-f", config], None


def write_nginx(
    contender: Contender, ports: Mapping[str, int], targets: Mapping[str, int], folder: pathlib.Path
) -> tuple[Argv, None]:
    limit = descriptor_limit()
    text = NGINX.format(workers=contender.workers, descriptors=limit, connections=limit - SPARE, folder=folder)
    for name, target in targets.items():
        text += NGINX_APP.format(name=name, port=ports[name], target=target)
    config = folder / "nginx.conf"
    config.write_text(text + "}\n")
    user = "user root;" if os.geteuid() == 0 else ""
    return [find("nginx"), "-p", folder, "-e", folder / "error.log", "-g", user, "-c", config], None


WRITERS = {"project": write_project, "haproxy": write_haproxy, "nginx": write_nginx}
