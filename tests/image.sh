#!/usr/bin/env bash
# Builds the images of this project from what is on the machine. Nothing is pulled.
#
#   tests/image.sh test                     the images that the tests and the demo run, unless they are there already
#   tests/image.sh register BINARY [IMAGE]  IMAGE (docker-register:latest) with BINARY, the libraries that it needs, and
#                                           CA certificates
set -euo pipefail

# Both have the same files, and stop at once when told to. Change the tag with the content, or it is not built anew.
readonly WEB=docker-register-test/web:1   # exposes 8005 and 8006 and serves "<hostname> <port>" on both
readonly BARE=docker-register-test/bare:1 # exposes nothing

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

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

build_register_image() {
  local binary=$1 image=$2 library certificates=/etc/ssl/certs/ca-certificates.crt
  cp "$binary" "$root/docker-register"
  for library in $(ldd "$binary" | grep -o '/[^ ]*'); do
    install -D -m 755 "$library" "$root$library"
  done
  [ ! -e $certificates ] || install -D -m 644 $certificates "$root$certificates"
  import "$image" 'ENTRYPOINT ["/docker-register"]'
}

case "${1-} $#" in
"test 1") build_test_images ;;
"register 2" | "register 3") build_register_image "$2" "${3-docker-register:latest}" ;;
*)
  sed -n '2,/^set/ s/^# \{0,1\}//p' "$0" >&2
  exit 2
  ;;
esac
