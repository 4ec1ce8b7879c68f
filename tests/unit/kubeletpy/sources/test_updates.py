from __future__ import annotations

from kubeletpy.api.meta import ObjectMeta
from kubeletpy.api.pod import Pod
from kubeletpy.sources.updates import PodChange, diff


def pod(name: str, uid: str, content: str = "1", seen: str = "") -> Pod:
    annotations = {"kubernetes.io/config.hash": content, "kubernetes.io/config.seen": seen}
    return Pod(metadata=ObjectMeta(name=name, namespace="n", uid=uid, annotations=annotations))


def keyed(*pods: Pod) -> dict[str, Pod]:
    return {f"n/{each.metadata.name}": each for each in pods}


def test_added_removed_changed() -> None:
    before = keyed(pod("a", "1"), pod("b", "2"), pod("c", "3"))
    after = keyed(pod("b", "2", seen="later"), pod("c", "4"), pod("d", "5"))
    updates = diff(before, after)
    assert updates.added == (after["n/d"],)
    assert updates.removed == (before["n/a"],)
    assert updates.changed == (PodChange(before["n/c"], after["n/c"]),)


def test_new_content_under_one_uid_is_a_change() -> None:
    assert diff(keyed(pod("a", "1", "x")), keyed(pod("a", "1", "y"))).changed


def test_nothing() -> None:
    assert not diff({}, {})
    assert not diff(keyed(pod("a", "1")), keyed(pod("a", "1", seen="later")))
