# shellcheck shell=sh
# What the provisioning scripts share; sourced by them, with `set -eu` in force.

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# Standard output belongs to what a script prints for others to read.
say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

fail() {
    say "$*"
    exit 1
}

require_root() {
    [ "$(id -u)" -eq 0 ] || fail "has to run as root: start it with sudo"
}

# require NAME MEANING: the variable NAME is set.
require() {
    eval "value=\${$1:-}"
    # shellcheck disable=SC2154  # assigned by eval
    [ -n "$value" ] || fail "$1 is not set: it is $2"
}

# apt-get that waits for others: boxes upgrade themselves at their first start.
apt() {
    apt-get --yes --quiet -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o APT::Sandbox::User=root "$@" >&2
}

# apt_install PACKAGE-OR-FILE...: asks the package index only for what the machine lacks.
apt_install() {
    apt install --no-install-recommends "$@" && return
    say "refreshing the package lists, then trying again"
    apt update || fail "apt-get update failed, see above: look at the network and /etc/apt/sources.list*"
    apt install --no-install-recommends "$@" ||
        fail "apt-get could not install $*, see above; after a failure of the network run this again"
}

# holds FILE.deb: that very package is installed. Not by its version alone: a copied checkout has no
# commit to name it by.
holds() {
    # shellcheck disable=SC2016  # dpkg-query's own variable
    [ "$(dpkg-query --show --showformat '${db:Status-Status}' kubeletpy 2>/dev/null)" = installed ] &&
        dpkg-deb --ctrl-tarfile "$1" | tar --extract --to-stdout ./md5sums |
        cmp --quiet - /var/lib/dpkg/info/kubeletpy.md5sums
}

# install_package FILE.deb: no work where it is installed.
install_package() {
    if holds "$1"; then
        say "$1 is installed"
        return
    fi
    say "installing $1"
    # An older version of the checkout may be wanted again.
    apt_install --allow-downgrades "$1"
    # apt leaves a package alone whose version is the same.
    holds "$1" || dpkg --install "$1" >&2 || fail "dpkg could not install $1, see above"
}

# add_second_address ADDRESS ADDRESS6: now and at each boot, on the link that has ADDRESS.
add_second_address() {
    cat >"${UNITS:-/etc/systemd/system}/kubeletpy-second-address.service" <<UNIT
[Unit]
Description=Address of IPv6 on the private network
Wants=network-online.target
After=network-online.target
Before=kubeletpy-kubelet.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec 'link=\$(ip -oneline -4 address show to $1 | { read -r _ name _; echo "\$name"; }); ip -6 address replace $2/64 dev "\$link" nodad'

[Install]
WantedBy=multi-user.target
UNIT
    systemctl daemon-reload
    systemctl --quiet enable kubeletpy-second-address.service
    systemctl restart kubeletpy-second-address.service ||
        fail "could not add $2: no link has $1; the private network is not up: vagrant reload"
}
