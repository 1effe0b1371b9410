#!/usr/bin/env bash
# Shows the whole at work on two hosts: containers are registered in etcd, and reached through a HAProxy on each host.
# A host is a network namespace with a Docker daemon of its own, so this needs root, and asks sudo for it; everything is
# removed at the end. `make demo` installs what it needs. DOCKER_REGISTER=PATH uses an existing program.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${DOCKER_REGISTER-}" ]; then
  echo "demo: compiling the program, which takes minutes the first time"
  cargo build
  DOCKER_REGISTER=$PWD/${CARGO_TARGET_DIR:-target}/debug/docker-register
fi
[ "$(id -u)" = 0 ] || exec sudo env "PATH=$PATH" "DOCKER_REGISTER=$DOCKER_REGISTER" bash examples/demo.sh

export ETCDCTL_API=3
readonly ETCD=10.77.0.254:2379
readonly TTL=5       # seconds
readonly DEADLINE=60 # the time limit of each wait, in seconds
readonly IMAGE=docker-register-test/web:1
declare -rA ADDRESSES=([a]=10.77.0.1 [b]=10.77.0.2)

work=$(mktemp -d /tmp/docker-register-demo.XXXXXX)
run=${work##*.} # in the names of this run's network namespaces

say() {
  if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi
}

# inside NAMESPACE COMMAND...: a host's name, or `between`, where the cable and etcd are. It keeps /sys, which
# `ip netns exec` would not.
inside() { nsenter --net="/run/netns/demo-$run-$1" "${@:2}"; }
# on HOST ARGUMENTS...: the docker client.
on() { docker --host "unix://$work/$1.sock" "${@:2}"; }
# start NAMESPACE NAME COMMAND...: in the background, with a log. `inside` would be a process between.
start() { nsenter --net="/run/netns/demo-$run-$1" "${@:3}" >"$work/$2.log" 2>&1 & }

clean_up() {
  trap '' INT TERM
  local host pid mount
  for host in a b; do
    # shellcheck disable=SC2046 # a list of ids
    on $host rm --force $(on $host ps --all --quiet 2>/dev/null) >/dev/null 2>&1 || true
  done
  for pid in $(jobs -p); do kill "$pid" 2>/dev/null || true; done
  wait || true
  for host in a b between; do ip netns delete "demo-$run-$host" 2>/dev/null || true; done
  # dockerd mounts its directory on itself, and not everywhere does it undo that.
  awk -v inside="$work/" 'index($2, inside) == 1 { print $2 }' /proc/mounts | sort -r |
    while read -r mount; do umount "$mount" || true; done
  rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# give_up WHY: prints the end of the programs' logs, and ends the demo.
give_up() {
  tail -n 20 "$work"/*.log >&2
  printf '\nerror: %s\n' "$1" >&2
  exit 1
}

# until_true WHAT COMMAND...: waits for COMMAND to succeed.
until_true() {
  local what=$1 deadline=$((SECONDS + DEADLINE))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || give_up "waited $DEADLINE seconds in vain: $what"
    sleep 0.05
  done
}

# Two hosts on one cable. All addresses are in namespaces, so none can be in this machine's way.
lay_cable() {
  local host
  for host in between a b; do
    ip netns add "demo-$run-$host"
    inside $host ip link set lo up
  done
  inside between ip link add name cable type bridge
  inside between ip address add "${ETCD%:*}/24" dev cable
  inside between ip link set cable up
  for host in a b; do
    inside between ip link add name $host type veth peer name eth0 netns "demo-$run-$host"
    inside between ip link set dev $host master cable up
    inside $host ip address add "${ADDRESSES[$host]}/24" dev eth0
    inside $host ip link set eth0 up
    inside $host ip route add default via "${ETCD%:*}"
  done
}

etcd_get() { inside between etcdctl --endpoints "$ETCD" get --prefix /backends/ "$@"; }
keys_are() { [ "$(etcd_get --keys-only | grep -c .)" = "$1" ]; }

start_host() {
  start "$1" "dockerd-$1" dockerd --host "unix://$work/$1.sock" --data-root "$work/$1/data" \
    --exec-root "$work/$1/exec" --pidfile "$work/$1.pid"
  until_true "the Docker daemon of host $1 answers" on "$1" info
  DOCKER_HOST=unix://$work/$1.sock bash tests/image.sh test >/dev/null
  DOCKER_HOST=unix://$work/$1.sock start "$1" "registrar-$1" \
    "$DOCKER_REGISTER" --host-ip "${ADDRESSES[$1]}" --etcd "$ETCD" --ttl $TTL --instance "$1"
  start "$1" "discover-$1" "$DOCKER_REGISTER" discover --etcd "$ETCD" --directory "$work/discover-$1"
}

# start_container HOST NAME
start_container() {
  on "$1" run --detach --pull never --name "$2" --hostname "$2" --publish-all \
    --env SERVICE_NAME=web --env SERVICE_8005_HTTP=web.example.com $IMAGE >/dev/null
}

# ask HOST: prints the answer of port 8005. It is bash alone, because a static busybox cannot look names up.
ask() {
  exec 3<>"/dev/tcp/$1/8005" && printf "GET / HTTP/1.0\r\n\r\n" >&3 && mapfile -t answer <&3 &&
    [[ ${answer[0]} == *" 200 "* ]] && echo "${answer[-1]}"
}
ASK=$(declare -f ask)

# Five loops in a container on host a ask without a pause, from begin_requests to end_requests.
readonly LOOPS='for loop in 1 2 3 4 5; do while :; do (ask host.docker.internal) || echo failed; done & done; wait'
begin_requests() {
  on a run --detach --pull never --name client --env SERVICE_IGNORE=true --add-host host.docker.internal:host-gateway \
    demo-client bash -c "$ASK; $LOOPS" >/dev/null
}
answers_of() { on a logs client 2>/dev/null | grep "^$1 "; }
end_requests() {
  on a logs client 2>/dev/null >"$work/answers"
  on a rm --force client >/dev/null
  printf '    %s answers, %s requests failed\n' "$(grep -vc '^failed' "$work/answers")" \
    "$(grep -c '^failed' "$work/answers")"
  grep -v '^failed' "$work/answers" | cut -d ' ' -f 1 | sort | uniq -c | awk '{ print "    " $1 " by " $2 }' || true
}

echo "demo: starting two hosts and an etcd, which takes some seconds"
lay_cable
start between etcd etcd --data-dir "$work/etcd" --listen-client-urls "http://$ETCD" --advertise-client-urls "http://$ETCD"
until_true "etcd answers" inside between etcdctl --endpoints "$ETCD" endpoint health
start_host a
start_host b
DOCKER_HOST=unix://$work/a.sock bash tests/image.sh programs demo-client bash >/dev/null
say "On each of two hosts, a and b, run a Docker daemon, a registrar and a discover. Two containers start on each."
for host in a b; do
  for number in 1 2; do start_container $host $host$number; done
done
until_true "the eleven keys of four containers" keys_are 11
echo "etcdctl get --prefix /backends/"
etcd_get | paste - - | expand -t 36 | sed 's/^/    /'

say "The same as a person reads it."
echo "docker-register services"
inside between "$DOCKER_REGISTER" services --etcd "$ETCD" | sed 's/^/    /'

say "A container on host a asks host.docker.internal:8005. Containers of both hosts answer."
begin_requests
for name in a1 a2 b1 b2; do until_true "an answer of $name" answers_of $name; done
end_requests

say "A rolling replacement: each container is replaced by a new one, while the requests go on."
begin_requests
for old in a1 a2 b1 b2; do
  host=${old%?}
  start_container "$host" "$old-new"
  until_true "an answer of $old-new" answers_of "$old-new"
  on "$host" stop $old >/dev/null
done
end_requests

say "The network of host b is cut off without a word. Its keys are removed after the TTL of $TTL seconds."
begin_requests
until_true "an answer of b1-new" answers_of b1-new
inside between ip link set dev b down
until_true "the keys of host b expire" keys_are 7
end_requests
echo "    meanwhile host b goes on with what it has: $(inside b bash -c "$ASK; ask 127.0.0.1" || echo failed)"

say "The network is back, and with it the keys and the routes."
begin_requests
inside between ip link set dev b up
until_true "an answer of b1-new" answers_of b1-new
end_requests

say "All containers stop. Nothing is left."
for host in a b; do on $host stop "${host}1-new" "${host}2-new" >/dev/null; done
until_true "no key is left" keys_are 0
echo "    $(etcd_get --keys-only | grep -c . || true) keys"
say "That was it. Hosts, containers and etcd are removed."
