"""What a node may read of a cluster that is not ours, and what is said where it may not."""

from __future__ import annotations

import pytest

from kubeletpy.install.rights import WANTED, Right, judge, remedy

SERVICES = tuple(one for one in WANTED if not one.policies)
POLICIES = tuple(one for one in WANTED if one.policies)


@pytest.mark.parametrize(
    ("lacking", "error", "note"),
    [
        ((), "", ""),
        (SERVICES[:1], "list and watch services, so the proxy cannot work", ""),
        (WANTED, "list and watch services, endpointslices.discovery.k8s.io, nodes", ""),
        (POLICIES[1:], "", "list and watch pods, networkpolicies.networking.k8s.io"),
    ],
)
def test_without_services_nothing_works_and_without_pods_policies_do_not(
    lacking: tuple[Right, ...], error: str, note: str
) -> None:
    found = judge(lacking)
    assert [bool(text) for text in found] == [bool(error), bool(note)]
    assert error in found[0]
    assert note in found[1]
    for text in filter(None, found):
        assert "kubectl create clusterrole" in text


def test_the_remedy_is_as_small_as_can_be() -> None:
    assert remedy(()) == ""
    [services] = remedy(SERVICES).splitlines()
    assert "--clusterrole system:node-proxier --group system:nodes" in services
    role, binding = remedy(POLICIES).splitlines()
    assert "--resource namespaces,pods,networkpolicies.networking.k8s.io" in role
    assert "--verb list,watch" in role
    assert "--group system:nodes" in binding
    assert len(remedy(WANTED).splitlines()) == 3
