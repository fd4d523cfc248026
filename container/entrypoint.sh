#!/bin/sh
# What a container runs: the file /etc/tcp_proxy/config.json if there is one, else what flopsy's image is told with:
# PORT, HOSTS, MAX_BACKOFF, /etc/flopsy/check-host.sh and /etc/flopsy/triggers.d. Arguments of the container come last.
# It becomes the program (exec), so that signals arrive. ROOT is for its test: a folder to look in instead of /.
set -eu

root=${ROOT-}
config=$root/etc/tcp_proxy/config.json
check=$root/etc/flopsy/check-host.sh
triggers=$root/etc/flopsy/triggers.d

say() {
    printf '%s\n' "entrypoint: $*" >&2
}

if [ -e "$config" ]; then
    for name in PORT HOSTS MAX_BACKOFF; do
        eval "value=\${$name-}"
        [ -z "$value" ] || say "$name ignored: there is $config"
    done
    [ ! -e "$check" ] || say "$check ignored: there is $config"
    exec tcp-proxy "$config" "$@"
fi

# The flags go before the arguments that came.
[ ! -d "$triggers" ] || set -- --on-failover "$triggers" "$@"
if [ ! -e "$check" ]; then
    :
elif [ -f "$check" ] && [ -x "$check" ]; then
    set -- --check-host "$check" "$@"
else
    say "$check ignored: it is not an executable file, so every host that accepts a connection can be primary"
fi
[ -z "${MAX_BACKOFF-}" ] || set -- --max-backoff "$MAX_BACKOFF" "$@"
[ -z "${HOSTS-}" ] || set -- --hosts "$HOSTS" "$@"
[ -z "${PORT-}" ] || set -- --port "$PORT" "$@"
exec tcp-proxy --api 127.0.0.1:8687 "$@"
