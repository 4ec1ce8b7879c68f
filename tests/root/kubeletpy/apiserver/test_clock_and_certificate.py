"""The API server's clock is set, its certificate and its authority are replaced: pods go on."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kubeletpy.server.selfsigned import SelfSigned, self_signed
from tests.root.kubeletpy.engine.process import (
    NODE,
    KubeletProcess,
    condition,
    container,
    wait_for,
)
from tests.support.certificates import CA_PEM, SERVER_KEY, SERVER_PEM

from .cluster import Api, Object, bound
from .faults import Faults, Mode, write_kubeconfig

pytestmark = pytest.mark.root
Run = Callable[..., dict[str, Any]]
FOREVER = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"


@contextmanager
def between(
    kubelet: KubeletProcess, api: Api, tls: ssl.SSLContext | None = None, authority: str = ""
) -> Iterator[Faults]:
    """Put a proxy between the kubelet and its API server within the block."""
    made = Faults(api.url, api.context, tls)
    with made.serving(api.netns):
        kubelet.stop()
        kubeconfig = kubelet.directory / "faulty"
        write_kubeconfig(kubeconfig, made.url, authority)
        straight, kubelet.flags = kubelet.flags, (f"--kubeconfig={kubeconfig}",)
        kubelet.start()
        try:
            yield made
        finally:
            kubelet.kill()
            kubelet.flags = straight


def told(kubelet: KubeletProcess, name: str) -> Object:
    """Return container a of a pod as the kubelet itself tells."""
    [pod] = [one for one in kubelet.pods() if one["metadata"]["name"] == name]
    return dict(container(pod, "a"))


def unchanged(api: Api, before: Object) -> bool:
    """Whether a pod runs on as it did; its status has not moved since."""
    after = api.pod(before["metadata"]["name"])
    return after is not None and after["status"] == before["status"]


def test_the_clock_of_the_api_server_is_set(joined: KubeletProcess, api: Api, run: Run) -> None:
    token = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    mounts = [{"name": "t", "mountPath": "/t"}]
    with between(joined, api) as faults:
        api.create(bound("still", run("a", FOREVER, volumeMounts=mounts), volumes=[token]))
        before = api.wait_ready("still")
        for number, mode in enumerate((Mode.AHEAD, Mode.BEHIND, Mode.THROUGH)):
            faults.switch(mode)
            name = f"new{number}"
            api.create(bound(name, run("a", FOREVER, volumeMounts=mounts), volumes=[token]))
            api.wait_ready(name)
            # By the other clock its grace was over an hour ago, or is so in an hour.
            api.delete(name)
            api.wait_gone(name, 10)
            assert mode in faults.seen
            assert unchanged(api, before)
        # One for each pod: none is renewed because the other clock says that it is over.
        assert faults.tokens == 4


def test_the_certificate_and_the_authority_are_replaced(
    joined: KubeletProcess, api: Api, run: Run, tmp_path: Path
) -> None:
    first, third = (self_signed("127.0.0.1", 1) for _ in range(2))
    second = SelfSigned(SERVER_PEM.encode(), SERVER_KEY.encode())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load(tls, first, tmp_path)
    once = "[ -e /once/done ] || { touch /once/done; sleep 5; exit 3; }; " + FOREVER
    mounts = [{"name": "once", "mountPath": "/once"}]
    volumes = [{"name": "once", "emptyDir": {}}]
    authorities = first.certificate.decode() + CA_PEM
    with between(joined, api, tls, authorities) as faults:
        api.create(bound("still", run("a", FOREVER)))
        before = api.wait_ready("still")
        load(tls, second, tmp_path)
        faults.switch(Mode.THROUGH)
        api.create(bound("second", run("a", once, volumeMounts=mounts), volumes=volumes))
        api.wait_ready("second")
        # One of an authority that the kubelet does not know: nothing is believed that it says.
        load(tls, third, tmp_path)
        faults.switch(Mode.THROUGH)
        api.create(bound("third", run("a", FOREVER)))
        api.delete("second", gracePeriodSeconds=60)
        wait_for(lambda: told(joined, "second")["restartCount"] == 1, "a restart meanwhile")
        assert [one["metadata"]["name"] for one in joined.pods()] == ["second", "still"]
        write_kubeconfig(joined.directory / "new", faults.url, third.certificate.decode())
        os.replace(joined.directory / "new", joined.directory / "faulty")
        api.wait_ready("third")
        api.wait_gone("second")
        assert unchanged(api, before)
        assert told(joined, "still")["restartCount"] == 0
        found = api.must("GET", f"/api/v1/nodes/{NODE}")
        assert condition(found, "Ready") == "True"


def load(context: ssl.SSLContext, pair: SelfSigned, directory: Path) -> None:
    """Serve with a certificate from the next connection on."""
    file = directory / "pair.pem"
    file.write_bytes(pair.certificate + pair.key)
    context.load_cert_chain(file)
