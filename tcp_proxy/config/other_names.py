"""What HAProxy, nginx, Envoy, Traefik and others call our keys: a table, and the sentence that answers such a word.

Pure. A word is looked up as lower case with `_` for `-`. A row of OURS leads to one of our keys, or to several, of which the
one that is known where the word stands is meant (a test looks that each is in the schema); NONE has what there is not.
"""

from collections.abc import Collection

AN_APP, A_TARGET, A_CHECK = "apps[].", "apps[].targets[].", "apps[].health[]."
OWNERS = {
    "": "at the top", AN_APP: "of an app", A_TARGET: "of a target", A_CHECK: 'of a check in "health"',
    "apps[].timeouts.": 'in "timeouts" of an app', "apps[].sticky.": 'in "sticky" of an app',
    "apps[].hash.": 'in "hash" of an app',
    "apps[].failover.": 'in "failover" of an app', "apps[].limits.": 'in "limits" of an app',
    "apps[].access.": 'in "access" of an app', "apps[].outlier.": 'in "outlier" of an app',
    "apps[].routes[].": 'of a route in "routes"', "apps[].tls.": 'in "tls" of an app',
    "api.": 'in "api"', "log.": 'in "log"',
}  # fmt: skip

# Our keys, after "=" the value that does it; and the words that lead there.
_ROWS: tuple[tuple[str, str], ...] = (
    ("apps[].targets", "server servers backend_servers upstream upstreams endpoints lb_endpoints hosts members nodes pool "
     "load_assignment loadbalancer"),
    ("apps", "frontend frontends backend backends cluster clusters service services proxies virtual_servers"),
    ("apps[].ports", "listen listener listeners entrypoint entrypoints bind_port listen_port"),
    ("apps[].targets[].address=HOST:PORT apps[].ports", "port"),
    ("apps[].targets[].address=HOST:PORT apps[].bind", "host ip"),
    ("apps[].targets[].address=HOST:PORT", "url"),
    ("apps[].bind", "bind_addr"),
    ("apps[].targets[].max_connections apps[].limits.sessions", "maxconn max_conns max_conn connection_limit max_sessions"),
    ("apps[].balance", "algorithm lb_policy policy strategy balancing load_balancing"),
    ("apps[].balance=source_hash", "ip_hash source"),
    ("apps[].hash", "hash_policy hash_on hash_key consistent_hash uri_hash hdr"),
    ("apps[].hash.name", "header_name cookie_name hash_header hash_cookie"),
    ("apps[].hash.table_size", "maglev_lb_config maglev_table_size"),
    ("apps[].hash.ring_size", "ring_hash_lb_config minimum_ring_size"),
    ("apps[].hash.balance_factor", "hash_balance_factor"),
    ("apps[].balance=ring_hash", "ketama consistent"),
    ("apps[].balance=least_time", "peak_ewma"),
    ("apps[].overprovisioning", "overprovisioning_factor"),
    ("apps[].targets[].priority", "level tier"),
    ("apps[].targets[].zone zone", "locality region sub_zone availability_zone az"),
    ("apps[].balance=least_connections", "leastconn least_conn least_request"),
    ("apps[].balance=round_robin", "roundrobin wrr"),
    ("apps[].balance=random_two", "random p2c"),
    ("apps[].health", "check checks healthcheck healthchecks health_check health_checks httpchk "
     "tcp_check active_health_check"),
    ("apps[].health[].interval", "inter check_interval"),
    ("apps[].health[].fall", "fails unhealthy_threshold max_fails"),
    ("apps[].health[].rise", "passes healthy_threshold"),
    ("apps[].health[].path", "uri"),
    ("apps[].health[].status", "expected_status expected_statuses"),
    ("apps[].timeouts.connect", "connect_timeout timeout_connect proxy_connect_timeout dial_timeout dialtimeout"),
    ("apps[].timeouts.idle", "idle_timeout timeout_client timeout_server timeout_tunnel proxy_timeout client_timeout "
     "server_timeout"),
    ("apps[].health[].timeout apps[].timeouts", "timeout"),
    ("apps[].timeouts.keepalive", "keepalive tcp_keepalive so_keepalive"),
    ("apps[].timeouts.next_request", "http_keep_alive keepalive_timeout timeout_http_keep_alive"),
    ("apps[].timeouts.request", "http_request timeout_http_request client_header_timeout"),
    ("apps[].timeouts.response", "proxy_read_timeout responseheadertimeout"),
    ("apps[].sticky", "stick_table stick stick_on cookie persistence session_affinity affinity"),
    ("apps[].sticky.expires", "expire ttl"),
    ("apps[].retries", "retry max_retries redispatch proxy_next_upstream_tries"),
    ("apps[].targets[].disabled", "down"),
    ("apps[].targets[].drain", "draining"),
    ("apps[].routes", "acl use_backend rules location locations routers virtual_hosts server_name"),
    ("apps[].accept_proxy apps[].targets[].send_proxy", "proxy_protocol proxyprotocol"),
    ("apps[].access", "ip_allow_list ip_deny_list ipallowlist ipwhitelist rbac remote_ip_prefix allow_from allowed_ips"),
    ("apps[].access.allow apps[].access", "whitelist allowlist permit"),
    ("apps[].access.deny apps[].access", "blacklist denylist blocklist block reject"),
    ("apps[].accept_proxy", "expect_proxy accept_proxy_protocol"),
    ("apps[].targets[].send_proxy", "send_proxy_v2 proxy_protocol_version"),
    ("apps[].health[].send_proxy", "check_send_proxy"),
    ("apps[].trusted_proxies", "set_real_ip_from trustedips trusted_ips"),
    ("apps[].forwarded", "forwardfor x_forwarded_for"),
    ("apps[].source", "proxy_bind source_address upstream_bind_config local_address bind_source"),
    ("apps[].transparent", "usesrc tproxy original_src"),
    ("apps[].limits.rate_per_client", "limit_req rate_limit ratelimit"),
    ("apps[].limits.sessions_per_client", "limit_conn max_connections_per_client max_sessions_per_client maxconn_per_ip"),
    ("apps[].limits.sessions", "max_clients maxclients worker_connections"),
    ("apps[].limits.queue_timeout", "timeout_queue pending_timeout wait_timeout query_wait_timeout"),
    ("apps[].limits.queue", "maxqueue max_queue max_pending max_pending_requests"),
    ("apps[].outlier", "outlier outlier_detection observe passive passive_health_check"),
    ("apps[].outlier.consecutive_failures", "consecutive_5xx error_limit"),
    ("apps[].outlier.consecutive_gateway_failures", "consecutive_gateway_failure"),
    ("apps[].outlier.max_ejected", "max_ejection_percent"),
    ("apps[].outlier.base_ejection_time", "fail_timeout"),
    ("apps[].panic", "panic_threshold healthy_panic_threshold"),
    ("apps[].slow_start", "slow_start slowstart slow_start_config slow_start_window warmup"),
    ("apps[].limits.body", "client_max_body_size max_body_size"),
    ("apps[].limits.head", "large_client_header_buffers max_request_headers_kb"),
    ("apps[].tls apps[].targets[].tls", "ssl tls_context transport_socket"),
    ("apps[].tls.certificates", "crt cert certs certificate ssl_certificate tls_certificates"),
    ("apps[].routes", "sni passthrough ssl_preread hostsni"),
    ("api", "stats stats_socket admin dashboard management metrics prometheus"),
    ("api.token_file", "token auth_token"),
    ("user", "uid run_as runas username"),
    ("group", "gid"),
    ("include", "includes includedir include_dir conf_d confdir"),
    ("workers", "nbproc nbthread threads worker_processes concurrency processes"),
    ("pid_file", "pidfile pid"),
    ("access_log", "accesslog httplog tcplog"),
    ("log.to access_log", "syslog"),
    ("log.to", "destination"),
    ("apps[].access_log_format log.format", "format log_format logformat json_format"),
    ("log", "logging error_log"),
    ("log.level", "log_level loglevel"),
    ("shutdown_grace", "hard_stop_after worker_shutdown_timeout grace drain_time"),
    ("state", "server_state_file load_server_state_from_file state_file"),
)  # fmt: skip
OURS = {word: paths.split() for paths, words in _ROWS for word in words.split()}

_NOT: tuple[tuple[str, str], ...] = (
    ("what starts the program sets it (systemd: RootDirectory=)", "chroot"),
    ("it stays in the foreground; systemd or a container starts it", "daemon daemonize background"),
    ("the system is asked for names, every 30 s and after a failed connect", "resolver resolvers dns nameserver"),
    ("messages pass on as they are", "compression gzip cache rewrite middlewares"),
    ("one file says everything, each app for itself", "defaults global providers"),
)  # fmt: skip
NONE = {word: why for why, words in _NOT for word in words.split()}

_HASH = 'that is "rendezvous", "maglev" or "ring_hash" with "hash": {{"key": "{}"}}'
_PRESET = 'that is "type": "exchange" with "preset": "{}"'
# (key, value) that is none of ours: what does it.
VALUES: dict[tuple[object, str], str] = {
    **{("type", name): _PRESET.format(name) for name in ("redis", "mysql", "postgres", "smtp")},
    ("type", "postgresql"): _PRESET.format("postgres"), ("type", "pgsql"): _PRESET.format("postgres"),
    ("type", "mariadb"): _PRESET.format("mysql"),
    ("type", "icmp"): 'that is "ping"',
    ("type", "exec"): 'that is "script"', ("type", "external"): 'that is "script"', ("type", "command"): 'that is "script"',
    ("balance", "roundrobin"): 'that is "round_robin"', ("balance", "wrr"): 'that is "round_robin"',
    ("balance", "leastconn"): 'that is "least_connections"', ("balance", "least_conn"): 'that is "least_connections"',
    ("balance", "least_request"): 'that is "least_connections"',
    ("balance", "source"): 'that is "source_hash"', ("balance", "ip_hash"): 'that is "source_hash"',
    ("balance", "hash"): 'that is "rendezvous", "maglev" or "ring_hash"',
    ("balance", "hdr"): _HASH.format("header"), ("balance", "cookie"): _HASH.format("cookie"),
    ("balance", "uri"): _HASH.format("path"), ("balance", "url_hash"): _HASH.format("path"),
    ("balance", "ring"): 'that is "ring_hash"', ("balance", "ketama"): 'that is "ring_hash"',
    ("balance", "consistent"): 'that is "ring_hash"', ("balance", "hrw"): 'that is "rendezvous"',
    ("balance", "ewma"): 'that is "least_time"', ("balance", "peak_ewma"): 'that is "least_time"',
    ("balance", "random"): 'that is "random_two"', ("balance", "p2c"): 'that is "random_two"',
    ("balance", "first"): 'that is "failover"', ("balance", "priority"): 'that is "failover"',
    ("level", "warn"): 'that is "warning"', ("level", "crit"): 'that is "error"',
}  # fmt: skip


def answer(key: str, known: Collection[str], *, elsewhere: bool) -> str:
    """The clause for an unknown key where these are known, `elsewhere` also when ours belongs there; "" when the table has
    nothing to say."""
    word = key.lower().replace("-", "_").replace(" ", "_")
    if word in NONE:
        return f"there is none: {NONE[word]}"
    rows = [_split(row) for row in OURS.get(word, [])]
    for _, name, value in rows:
        if name in known:
            return f'it is "{name}"{value} here'
    if not rows or not elsewhere:
        return ""
    owner, name, value = rows[0]
    return f'here it is "{name}"{value} {OWNERS[owner]}'


def _split(row: str) -> tuple[str, str, str]:
    path, _, value = row.partition("=")
    owner, _, name = path.rpartition(".")
    return f"{owner}." if owner else "", name, f': "{value}"' if value else ""


def answer_value(key: object, found: str) -> str:
    """The clause for a value of such a key that is none of ours; "" when the table has nothing to say."""
    return VALUES.get((key, found.lower().replace("-", "_")), "")
