from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.install import removing
from kubeletpy.install.changes import Memory
from kubeletpy.install.draining import leaves
from kubeletpy.install.errors import InstallError
from kubeletpy.install.removing import Plan, Remover
from kubeletpy.up.progress import Progress

from .installations import node

STEPS = (
    "_stop_makers", "_end_pods", "_remove_proxy", "_stop_rest", "_unmount", "_remove_network",
    "_restore_sysctls", "_remove_files", "_remove_users",
)  # fmt: skip


def test_a_step_that_fails_stops_none_that_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    def step(name: str) -> Any:
        def take(_: Remover) -> None:
            taken.append(name)
            if name == "_unmount":
                raise InstallError("busy")

        return take

    for name in STEPS:
        monkeypatch.setattr(Remover, name, step(name))
    remover = Remover(Plan(node(), Memory()), Progress())
    remover.run()
    assert tuple(taken) == STEPS
    assert remover.problems == ["Unmounting: busy"]
    assert len(remover.done) == len(STEPS) - 1


def test_without_systemd_nothing_is_asked_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("systemctl was called")

    monkeypatch.setattr("kubeletpy.install.systemd.call", never)
    Remover(Plan(node(), Memory()), Progress(), has_systemd=False)._stop_rest()


def test_what_is_told_before_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removing, "present_units", lambda: ["kubeletpy-kubelet.service"])
    text = "\n".join(Plan(node(), Memory()).lines())
    assert "kubeletpy-kubelet.service" in text
    assert "/etc/kubeletpy" in text


def pod(phase: str = "Running", **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "n", **meta}, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (pod(), True),
        (pod("Pending", ownerReferences=[{"kind": "ReplicaSet", "controller": True}]), True),
        (pod(ownerReferences=[{"kind": "DaemonSet", "controller": True}]), False),
        (pod(annotations={"kubernetes.io/config.mirror": "x"}), False),
        (pod("Succeeded"), False),
        (pod("Failed"), False),
    ],
)
def test_which_pods_a_drain_evicts(value: dict[str, Any], expected: bool) -> None:
    assert leaves(value) is expected
