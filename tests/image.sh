#!/usr/bin/env bash
# Builds the images of this project from what is on the machine. Nothing is pulled.
#
#   tests/image.sh test                     the images that the tests and the demo run, unless they are there already
#   tests/image.sh register BINARY [IMAGE [FLAG...]]
#                                           IMAGE (docker-register:latest) as the Dockerfile has it, with BINARY; each
#                                           FLAG is one of `docker build`
#   tests/image.sh discover BINARY IMAGE    IMAGE as the Dockerfile's target `discover` has it, with this machine's HAProxy
#   tests/image.sh programs IMAGE PROGRAM...
#                                           IMAGE with programs of this machine, and the libraries that they need
#   tests/image.sh systemd IMAGE            IMAGE with nothing but places, for a systemd with this machine's /usr
set -euo pipefail

# Both have the same files, and stop at once when told to. Change the tag with the content, or it is not built anew.
readonly WEB=docker-register-test/web:1   # exposes 8005 and 8006 and serves "<hostname> <port>" on both
readonly BARE=docker-register-test/bare:1 # exposes nothing

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

usage() {
  sed -n '2,/^set/ s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

# Imports the root filesystem as image $1; each further argument is a line of a Dockerfile.
import() {
  local image=$1 line changes=()
  shift
  for line in "$@"; do changes+=(--change "$line"); done
  tar --create --directory "$root" --owner 0 --group 0 --numeric-owner . |
    docker import "${changes[@]}" - "$image" >/dev/null
  echo "image: built $image"
}

# Applets are links relative to /bin, for where the host has its busybox is not where the image has it.
busybox_root() {
  local applet
  busybox --list | grep -x httpd >/dev/null || {
    echo "error: this busybox has no httpd: install the package busybox-static" >&2
    exit 1
  }
  mkdir -p "$root"/{bin,etc,tmp,www}
  cp -L "$(command -v busybox)" "$root/bin/busybox"
  for applet in $(busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
  done
}

# Process 1 ignores a signal that it has no handler for, hence the trap. It waits in the background so that the trap
# runs at once.
web_server() {
  cat <<'SH'
#!/bin/sh
trap 'exit 0' TERM INT
for port in "$@"; do
  mkdir -p "/www/$port"
  echo "$(hostname) $port" >"/www/$port/index.html"
  httpd -p "$port" -h "/www/$port"
done
while :; do
  sleep 3600 &
  wait $!
done
SH
}

build_test_images() {
  # Several test programs may come here at once; the first builds, the others wait for it.
  exec 9<"$0"
  flock 9
  ! docker image inspect "$WEB" "$BARE" >/dev/null 2>&1 || return 0
  busybox_root
  web_server >"$root/serve"
  chmod 755 "$root/serve"
  import "$WEB" 'EXPOSE 8005 8006' 'CMD ["/serve", "8005", "8006"]'
  import "$BARE" 'CMD ["/serve"]'
}

# Puts programs, the libraries that they need and CA certificates into the root filesystem.
programs_root() {
  local program library certificates=/etc/ssl/certs/ca-certificates.crt
  for program in "$@"; do
    install -D -m 755 "$(command -v "$program")" "$root/usr/local/bin/${program##*/}"
    for library in $(ldd "$(command -v "$program")" | grep -o '/[^ ]*'); do
      install -D -m 755 "$library" "$root$library"
    done
  done
  [ ! -e $certificates ] || install -D -m 644 $certificates "$root$certificates"
}

# Puts the licences of what is in the program into the root filesystem.
licences_root() {
  install -d "$root/usr/share/doc/docker-register"
  make --silent -C "${0%/*}/.." licences >"$root/usr/share/doc/docker-register/licences"
}

build_register_image() {
  programs_root "$1"
  licences_root
  build_image runtime "${2-docker-register:latest}" "${@:3}"
}

build_discover_image() {
  programs_root "$1" haproxy
  licences_root
  build_image discover-runtime "$2"
}

# build_image TARGET IMAGE FLAG...: builds a target of the Dockerfile on the root filesystem.
build_image() {
  local image=$2 base
  docker info >/dev/null 2>&1 || {
    echo "error: no Docker daemon answers, which the image is built by: install Docker, or start it" >&2
    exit 1
  }
  base=${image%:*}-base:${BASHPID}
  import "$base"
  docker build --quiet --target "$1" --build-arg RUNTIME="$base" --build-arg DISCOVER="$base" --tag "$image" \
    "${@:3}" - <"${0%/*}/../Dockerfile" >/dev/null
  docker rmi "$base" >/dev/null # the name alone, for the image is built on it
  echo "image: built $image"
}

# Its control groups are its own, and what it mounts is seen by what it starts, as on a machine.
systemd_root() {
  mkdir -p "$root"/{dev,etc/systemd/system,proc,run,sys,tmp,usr,var}
  local name
  for name in bin lib lib64 sbin; do ln -s "usr/$name" "$root/$name"; done
  ln -s ../run "$root/var/run"
  cp /etc/{passwd,nsswitch.conf,ld.so.cache} "$root/etc"
  { grep -v ^docker: /etc/group && echo "docker:x:$(stat -L -c %g /var/run/docker.sock):"; } >"$root/etc/group"
  touch "$root/etc/machine-id"
  cat >"$root/start" <<'SH'
#!/bin/sh
set -e
mount --make-rshared /
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec /lib/systemd/systemd --unit=basic.target
SH
  chmod 755 "$root/start"
}

case "${1-} $#" in
"test 1") build_test_images ;;
"register 1" | "programs 1" | "programs 2") usage ;;
"register "*) build_register_image "${@:2}" ;;
"discover 3") build_discover_image "${@:2}" ;;
"systemd 2") systemd_root && import "$2" 'ENV container=docker' 'CMD ["/start"]' ;;
"programs "*) programs_root "${@:3}" && import "$2" ;;
*) usage ;;
esac
