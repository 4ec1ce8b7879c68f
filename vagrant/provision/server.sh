#!/bin/sh
# Makes this machine the control plane of a cluster, or brings it up to date; running it again changes
# only what differs.
#
# Environment:
#   ADDRESS       the address at which nodes reach this machine (required)
#   ADDRESS6      its address of IPv6, which the private network does not set by itself
#   TOKEN         a bootstrap token that nodes will join with
#   RUN_PODS      yes: this machine is a node, too; no: it is not
#   POD_CIDR      ranges of pods and of Services, one for each family, comma-separated
#   SERVICE_CIDR
#   DEB           the package; otherwise package.sh finds or builds one
set -eu

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=vagrant/provision/common.sh
. "$here/common.sh"

require_root
require ADDRESS "the address at which nodes reach this machine"
deb=$(sh "$here/package.sh")
install_package "$deb"
# shellcheck disable=SC2153  # both are asked for above
[ -z "${ADDRESS6:-}" ] || add_second_address "$ADDRESS" "$ADDRESS6"

set -- --advertise-address "$ADDRESS"
[ -z "${TOKEN:-}" ] || set -- "$@" --token "$TOKEN"
[ -z "${POD_CIDR:-}" ] || set -- "$@" --pod-cidr "$POD_CIDR"
[ -z "${SERVICE_CIDR:-}" ] || set -- "$@" --service-cidr "$SERVICE_CIDR"
case ${RUN_PODS:-} in
    "") ;;
    yes) set -- "$@" --node ;;
    no) set -- "$@" --no-node ;;
    *) fail "RUN_PODS=$RUN_PODS has to be yes or no" ;;
esac
# shellcheck disable=SC2153
[ -z "${ADDRESS6:-}" ] || set -- "$@" --node-ip "$ADDRESS,$ADDRESS6"
kubeletpy install server "$@"
