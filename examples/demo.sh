#!/usr/bin/env bash
# Shows docker-register at work: two registrars, as on two hosts, keep one etcd in step with four containers.
# Needs a Docker daemon; `make demo` starts one if necessary. DOCKER_REGISTER=PATH uses an existing program.
set -euo pipefail
cd "$(dirname "$0")/.."

export ETCDCTL_API=3
readonly LABEL=docker-register-demo.host
readonly DEADLINE=20 # the time limit of each wait, in seconds

work=$(mktemp -d)
run=${work##*.} # a label on this run's containers, to tell them from another's
processes=()

say() {
  if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi
}

clean_up() {
  trap '' INT TERM
  local ids
  ids=$(docker ps --all --quiet --filter "label=docker-register-demo.run=$run" 2>/dev/null) || true
  # shellcheck disable=SC2086 # a list of ids
  [ -z "$ids" ] || docker rm --force $ids >/dev/null || true
  if [ ${#processes[@]} -gt 0 ]; then
    kill "${processes[@]}" 2>/dev/null || true
    wait "${processes[@]}" 2>/dev/null || true
  fi
  rm -rf "$work"
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

etcd_get() { etcdctl --endpoints "$endpoint" get --prefix "$@"; }
keys_are() { [ "$(etcd_get /backends/ --keys-only | grep -c .)" = "$1" ]; }
show_keys() { etcd_get /backends/ | paste - - | expand -t 46 | sed 's/^/    /'; }

# etcd cannot choose free ports itself, so this tries pairs of ports until it starts.
start_etcd() {
  local port pid deadline=$((SECONDS + DEADLINE))
  while :; do
    port=$((20000 + RANDOM % 20000))
    endpoint=127.0.0.1:$port
    etcd --name demo --data-dir "$work/etcd" --listen-client-urls "http://$endpoint" \
      --advertise-client-urls "http://$endpoint" --listen-peer-urls "http://127.0.0.1:$((port + 1))" \
      --initial-advertise-peer-urls "http://127.0.0.1:$((port + 1))" \
      --initial-cluster "demo=http://127.0.0.1:$((port + 1))" >"$work/etcd.log" 2>&1 &
    pid=$!
    processes+=("$pid")
    until etcdctl --endpoints "$endpoint" endpoint health >/dev/null 2>&1; do
      kill -0 "$pid" 2>/dev/null || break
      [ $SECONDS -lt $deadline ] || give_up "etcd does not answer"
    done
    ! kill -0 "$pid" 2>/dev/null || return 0
    grep -q 'address already in use' "$work/etcd.log" || give_up "etcd does not start"
    rm -rf "$work/etcd"
  done
}

# start_container HOST NAME
start_container() {
  docker run --detach --pull never --name "demo-$2-$run" --label "$LABEL=$1" --label "docker-register-demo.run=$run" \
    --env SERVICE_NAME=service_name --publish-all docker-register-test/web:1 >/dev/null
}

# start_registrar HOST ADDRESS
start_registrar() {
  "$DOCKER_REGISTER" --instance "demo-$1" --host-ip "$2" --etcd "$endpoint" --ttl 5 \
    --filter "label=$LABEL=$1" --filter "label=docker-register-demo.run=$run" >"$work/registrar-$1.log" 2>&1 &
  processes+=($!)
}

docker info >/dev/null 2>&1 || {
  echo "error: no Docker daemon answers: run \`make demo\`, which starts one" >&2
  exit 1
}
if [ -z "${DOCKER_REGISTER-}" ]; then
  echo "demo: compiling the program, which takes minutes the first time"
  cargo build
  DOCKER_REGISTER=${CARGO_TARGET_DIR:-target}/debug/docker-register
fi
bash tests/image.sh test

echo "demo: starting etcd"
start_etcd
say "An etcd listens on $endpoint. Two containers start on each of two hosts, a and b."
for host in a b; do
  for number in 1 2; do start_container $host $host$number; done
done
docker ps --filter "label=docker-register-demo.run=$run" --format '    {{.ID}}  {{.Names}}  {{.Ports}}' | sort -k 2

say "A registrar starts on each host: a is 127.0.0.1, b is 127.0.0.2."
start_registrar a 127.0.0.1
start_registrar b 127.0.0.2
until_true "the ten keys of four containers" keys_are 10
echo "etcdctl get --prefix /backends/"
show_keys

say "Anyone who reads etcd can now reach a container, by the address that is the key's value."
id=$(docker ps --quiet --filter "name=demo-b1-$run")
address=$(etcd_get "/backends/service_name/1/$id" --print-value-only)
until_true "a page from $address" busybox wget -q -O - "http://$address/"
echo "wget http://$address/"
busybox wget -q -O - "http://$address/" | sed 's/^/    /'

say "A container of host b stops. Its two keys are removed when the stop begins."
docker stop "$id" >/dev/null
until_true "the keys of $id are gone" keys_are 8
show_keys

say "Host b's last container stops too. The port keys stay, because host a still needs them."
docker stop "demo-b2-$run" >/dev/null
until_true "host b's keys are gone" keys_are 6
show_keys

say "Both containers of host a stop. The port keys are removed with the last container: nothing is left."
docker stop "demo-a1-$run" "demo-a2-$run" >/dev/null
until_true "no key is left" keys_are 0
echo "    $(etcd_get /backends/ --keys-only | grep -c . || true) keys"
say "That was it. Containers, registrars and etcd are removed."
