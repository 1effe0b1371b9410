#!/usr/bin/env bash
# Builds the Debian package of a program, with dpkg's own tools. Nothing is compiled or downloaded.
#
#   packaging/deb.sh BINARY DIRECTORY      DIRECTORY/docker-register_VERSION_ARCHITECTURE.deb
#
# The version is the program's, without the commit. The maintainer is DEBFULLNAME <DEBEMAIL>. The same program at the
# same commit, or at the same SOURCE_DATE_EPOCH, makes the same package.
set -euo pipefail
umask 022

readonly NAME=docker-register
readonly MAINTAINER="${DEBFULLNAME:-The docker-register authors} <${DEBEMAIL:-docker-register@packages.example}>"

die() {
  echo "error: $1" >&2
  exit 1
}

usage() {
  sed -n '2,/^set/ s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

# The units of examples/, without their instructions, which are for an installation by hand.
units() {
  local unit
  for unit in examples/*.service; do
    sed -e '1,/^\[Unit\]$/ { /^\[Unit\]$/ !d }' -e 's|/usr/local/bin/|/usr/bin/|' "$unit" >"$system/${unit##*/}"
  done
}

documents() {
  "$program" man | gzip -9n >"$tree/usr/share/man/man1/$NAME.1.gz"
  "$program" completions bash >"$tree/usr/share/bash-completion/completions/$NAME"
  "$program" completions zsh >"$tree/usr/share/zsh/vendor-completions/_$NAME"
  "$program" completions fish >"$tree/usr/share/fish/vendor_completions.d/$NAME.fish"

  cp LICENSE "$doc/copyright"
  make --silent licences >"$doc/licences"
  {
    echo "$NAME ($version) unstable; urgency=medium"
    echo
    echo "  * The changes are in CHANGELOG.md.gz."
    echo
    echo " -- $MAINTAINER  $(LC_ALL=C date --utc --rfc-email --date "@$SOURCE_DATE_EPOCH")"
  } | gzip -9n >"$doc/changelog.gz"
  gzip -9n <CHANGELOG.md >"$doc/CHANGELOG.md.gz"

  # Their links to one another and to the policies work from here too.
  cp README.md SECURITY.md "$doc"
  cp -r docs examples "$doc"
  rm "$doc/examples/demo.sh" # it needs the source tree
  cp -r scripts/. "$tree/usr/share/$NAME"
  ln -s "../../$NAME" "$doc/scripts"
}

# The libraries' packages, with the newest version of the C library that a symbol asks for.
dependencies() {
  local needed newest library
  needed=$(objdump -p "$program")
  for library in $(awk '$1 == "NEEDED" { print $2 }' <<<"$needed"); do
    case $library in
    libc.so.* | libm.so.* | libgcc_s.so.1 | ld-linux*) ;;
    *) die "$library is needed by the program, and by no dependency of the package: name its package in packaging/deb.sh" ;;
    esac
  done
  newest=$(grep -o 'GLIBC_[0-9.]*' <<<"$needed" | sed 's/.*_//' | sort -V | tail -n 1)
  echo "libc6 (>= $newest), libgcc-s1"
}

control() {
  local depends size
  depends=$(dependencies)
  # In KiB, as dpkg-gencontrol counts: a file in whole ones, and one for anything else.
  size=$(find "$tree" -path "$tree/DEBIAN" -prune -o -printf '%y %s\n' |
    awk '$1 == "f" { sum += int(($2 + 1023) / 1024); next } { sum++ } END { print sum }')
  {
    cat packaging/debian/control
    echo "Version: $version"
    echo "Architecture: $(dpkg --print-architecture)"
    echo "Maintainer: $MAINTAINER"
    echo "Depends: $depends"
    echo "Installed-Size: $size"
  } >"$tree/DEBIAN/control"
  echo "/etc/default/$NAME" >"$tree/DEBIAN/conffiles"
  cp packaging/debian/{postinst,prerm,postrm} "$tree/DEBIAN"
  (cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
}

[ $# = 2 ] || usage
binary=$(realpath "$1")
directory=$(realpath "$2")
cd "$(dirname "$0")/.."
for tool in dpkg dpkg-deb objdump strip; do
  command -v $tool >/dev/null || die "$tool is missing: apt-get install dpkg binutils"
done
# Another system's program could be packed, but it could not print its manual page.
said=$("$binary" --version) || die "$binary cannot be run here"
version=$(awk '{ print $2 }' <<<"$said")

if [ -z "${SOURCE_DATE_EPOCH-}" ]; then
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) || SOURCE_DATE_EPOCH=$(date +%s)
fi
export SOURCE_DATE_EPOCH

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
system=$tree/usr/lib/systemd/system
doc=$tree/usr/share/doc/$NAME
program=$tree/usr/bin/$NAME
mkdir -p "$tree"/{DEBIAN,etc/default,usr/bin} "$system" "$doc" \
  "$tree"/usr/share/{"$NAME",man/man1,bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}

# A release is stripped already, but not of the compiler's name.
strip --remove-section=.comment --remove-section=.note -o "$program" "$binary"
units
cp packaging/debian/default "$tree/etc/default/$NAME"
documents
find "$tree" -type f -exec chmod 644 {} +
chmod 755 "$program"
control
chmod 755 "$tree"/DEBIAN/{postinst,prerm,postrm}
find "$tree" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group --build "$tree" "$directory"
