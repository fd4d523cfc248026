#!/bin/sh
# Redis 7.0 (Debian 12). The surprise: SETRANGE with an empty value on a key that does not exist changes nothing, makes no key and
# answers 0, and yet it is judged as a write: a replica refuses it (READONLY), and so does a primary with too few replicas
# (NOREPLICAS). So it tells whether a Redis takes writes, which ROLE and PING do not, without writing.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q redis-tools=5:7.0.15-1~deb12u10 redis-server=5:7.0.15-1~deb12u10 \
    libjemalloc2 liblua5.1-0 lua-bitop lua-cjson liblzf1 libhiredis0.14 libatomic1 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH="$PWD/root/usr/lib/x86_64-linux-gnu"
cp root/usr/bin/redis-check-rdb redis-server
./redis-server --port 16379 --save '' --loglevel warning >/dev/null &
server=$!
trap 'kill $server; rm -rf "$folder"' EXIT
ask() { root/usr/bin/redis-cli -p 16379 "$@"; }
for _ in $(seq 50); do ask ping >/dev/null 2>&1 && break; sleep 0.1; done
expect() { echo "$1: $2"; case "$2" in $3) ;; *) echo "expected $3"; exit 1 ;; esac; }
expect "version" "$(ask info server | grep redis_version | tr -d '\r')" "redis_version:7.0.15"
before=$(ask info replication | grep master_repl_offset)
expect "a primary" "$(ask setrange probe 0 '')" "0"
expect "is there a key now" "$(ask exists probe)" "0"
expect "dirty changes" "$(ask info persistence | grep rdb_changes_since_last_save | tr -d '\r')" "rdb_changes_since_last_save:0"
[ "$before" = "$(ask info replication | grep master_repl_offset)" ]
ask config set min-replicas-to-write 1 >/dev/null
expect "a primary with too few replicas" "$(ask setrange probe 0 '')" "NOREPLICAS*"
expect "its answer to PING" "$(ask ping)" "PONG"
ask config set min-replicas-to-write 0 >/dev/null
ask replicaof 127.0.0.1 1 >/dev/null
expect "a replica" "$(ask setrange probe 0 '')" "READONLY*"
