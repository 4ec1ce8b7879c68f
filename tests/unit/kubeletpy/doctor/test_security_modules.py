"""AppArmor and SELinux, by what real machines show."""

from __future__ import annotations

import pytest

from kubeletpy.doctor import security_modules
from kubeletpy.doctor.purpose import NODE
from kubeletpy.doctor.security_modules import Facts
from tests.unit.kubeletpy.doctor.test_machine import named

# Ubuntu 24.04 and Debian 12, /sys/kernel/security/apparmor/profiles, shortened.
PROFILES = """\
/usr/sbin/nginx (enforce)
lsb_release (enforce)
nvidia_modprobe//kmod (enforce)
unprivileged_userns (unconfined)
/usr/bin/man (complain)
"""
NGINX = "/usr/sbin/nginx"
CONFINED = "docker-default (enforce)"


def test_enforced_profiles_are_read() -> None:
    found = security_modules.enforced(PROFILES)
    assert found == (NGINX, "lsb_release", "nvidia_modprobe//kmod")
    assert security_modules.enforced("") == ()


@pytest.mark.parametrize(
    ("facts", "name", "verdict", "found", "remedy"),
    [
        (Facts(apparmor=False), "AppArmor", "ok", "off", ""),
        (Facts(True, "unconfined"), "AppArmor", "ok", "Localhost", ""),
        (Facts(True, ""), "AppArmor", "ok", "unconfined", ""),
        (Facts(True, "kubeletpy (unconfined)"), "AppArmor", "ok", "unconfined", ""),
        (Facts(True, "x (complain)"), "AppArmor", "ok", "unconfined", ""),
        (Facts(True, CONFINED), "AppArmor", "error", "docker-default", "apparmor=unconfined"),
        (Facts(True, "/usr/bin/x//y (enforce)"), "AppArmor", "error", "x//y",
         "aa-disable /usr/bin/x "),
        (Facts(True, "unconfined", (NGINX,), (NGINX, "/usr/sbin/nft")), "AppArmor profiles",
         "warning", NGINX, f"aa-complain {NGINX}"),
        (Facts(True, "unconfined", ("nginx",), (NGINX,)), "AppArmor profiles", "warning", "nginx",
         "aa-complain nginx"),
        (Facts(False), "SELinux", "ok", "off", ""),
        (Facts(False, selinux="0", context="x:y:z:s0"), "SELinux", "ok", "permissive", ""),
        (Facts(False, selinux="1", context="unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023"),
         "SELinux", "ok", "unconfined_t", ""),
        (Facts(False, selinux="1", context="system_u:system_r:init_t:s0"), "SELinux", "error",
         "init_t", "semanage permissive -a init_t"),
        (Facts(False, selinux="1", context="system_u:system_r:container_t:s0:c1,c2"), "SELinux",
         "error", "container_t", "semanage permissive"),
        (Facts(False, selinux="1", labels=(
            ("/var/lib/kubeletpy/runtime", "system_u:object_r:var_lib_t:s0"),)),
         "SELinux labels", "warning", "var_lib_t",
         "semanage fcontext -a -t container_var_lib_t '/var/lib/kubeletpy/runtime(/.*)?' && "
         "restorecon -R /var/lib/kubeletpy/runtime"),
        (Facts(False, selinux="1", semanage=False, labels=(("/var/log/pods", ""),)),
         "SELinux labels", "warning", "without a label", "dnf install"),
    ],
)  # fmt: skip
def test_security_modules(facts: Facts, name: str, verdict: str, found: str, remedy: str) -> None:
    one = named(security_modules.judge(facts, NODE), name)
    assert one.verdict == verdict
    assert found in one.found
    assert remedy in one.remedy
    assert bool(one.remedy) == (verdict != "ok")


def test_right_labels_are_no_finding() -> None:
    right = (("/var/log/pods", "system_u:object_r:container_log_t:s0"),)
    names = {
        one.name for one in security_modules.judge(Facts(False, selinux="1", labels=right), NODE)
    }
    assert "SELinux labels" not in names
