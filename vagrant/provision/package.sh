#!/bin/sh
# Prints the path of a .deb of kubeletpy that fits this machine: one of dist/ that is as new as the
# code beside it, else one built now, which takes the Python package index and a minute or two.
#
# Environment, all optional:
#   DEB     this file, whatever its age
#   BUILT   where to build; a copied checkout's dist/ would not outlive the next copy
set -eu

here=$(cd "$(dirname "$0")" && pwd)
checkout=$(dirname "$(dirname "$here")")
built=${BUILT:-/var/cache/kubeletpy-package}
# shellcheck source=vagrant/provision/common.sh
. "$here/common.sh"

fits() {
    # apt knows whether the Python that the file asks for, and the rest, is to be had here.
    apt install --no-install-recommends --simulate --allow-downgrades "$1" >/dev/null 2>&1
}

stale() {
    newer=$(cd "$checkout" && find kubeletpy kubeletpy_common kubeletpy_proto runtime proxy controlplane \
        pyproject.toml -newer "$1" -type f ! -name '*.pyc' 2>/dev/null | head -n 1)
    [ -n "$newer" ]
}

if [ -n "${DEB:-}" ]; then
    [ -f "$DEB" ] || fail "DEB=$DEB is no file"
    realpath "$DEB"
    exit
fi
# The newest first; names of packages have neither blanks nor newlines.
# shellcheck disable=SC2012,SC2045
for file in $(ls -t "$checkout"/dist/kubeletpy_*.deb "$built"/kubeletpy_*.deb 2>/dev/null); do
    if stale "$file"; then
        say "$file is older than the code (than $newer)"
    elif ! fits "$file"; then
        say "$file does not fit this machine: $(dpkg-deb --field "$file" Depends)"
    else
        echo "$file"
        exit
    fi
done

require_root
command -v python3 >/dev/null || apt_install python3
mkdir -p "$built"
rm -f "$built"/kubeletpy_*.deb
say "building the package"
cd "$checkout"
python3 -m kubeletpy package deb --output "$built" >&2 ||
    fail "the package could not be built, see above; one built on a machine like this can be put into dist/"
for file in "$built"/kubeletpy_*.deb; do
    [ -f "$file" ] || fail "kubeletpy package deb left no kubeletpy_*.deb in $built"
    echo "$file"
    exit
done
