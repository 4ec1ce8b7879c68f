#!/bin/sh
# Makes this machine a node of a cluster, or brings it up to date; running it again changes only what
# differs.
#
# Environment:
#   SERVER             URL of the API server, like https://192.0.2.10:6443 (required)
#   TOKEN              a bootstrap token of that cluster (required)
#   CA_CERT_HASH       sha256:..., comma-separated: what the authority of the server has to be
#   CA_CERT_HASH_FILE  a file with that; one of the two is required
#   ADDRESS            the address at which other machines reach this one
#   ADDRESS6           its address of IPv6, which the private network does not set by itself
#   DEB                the package; otherwise package.sh finds or builds one
set -eu

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=vagrant/provision/common.sh
. "$here/common.sh"

require_root
require SERVER "the URL of the API server, like https://192.0.2.10:6443"
require TOKEN "a bootstrap token, which \`kubeletpy token create\` on the server prints"
if [ -z "${CA_CERT_HASH:-}" ] && [ -n "${CA_CERT_HASH_FILE:-}" ]; then
    [ -r "$CA_CERT_HASH_FILE" ] || fail "CA_CERT_HASH_FILE=$CA_CERT_HASH_FILE cannot be read"
    CA_CERT_HASH=$(cat "$CA_CERT_HASH_FILE")
    [ -n "$CA_CERT_HASH" ] ||
        fail "the hash of the server's authority is not known yet: start the server first (vagrant up server), then this node"
fi
require CA_CERT_HASH "the hash of the server's authority, which \`kubeletpy token create --print-join-command\` on the server prints"
deb=$(sh "$here/package.sh")
install_package "$deb"
[ -z "${ADDRESS6:-}" ] || add_second_address "$ADDRESS" "$ADDRESS6"

set -- --server "$SERVER" --token "$TOKEN"
for hash in $(printf '%s' "$CA_CERT_HASH" | tr ',' ' '); do
    set -- "$@" --ca-cert-hash "$hash"
done
[ -z "${ADDRESS:-}" ] || set -- "$@" --node-ip "$ADDRESS${ADDRESS6:+,$ADDRESS6}"
kubeletpy install node "$@"
