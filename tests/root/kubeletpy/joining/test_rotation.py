"""Certificates that live for seconds: the kubelet has the next ones before they end."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.root.controlplane.server import ApiServer, api_server
from tests.root.kubeletpy.apiserver.cluster import Api
from tests.root.kubeletpy.engine.process import wait_for
from tests.root.runtime.cri.node import running_node
from tests.support.circumstances import patient
from tests.support.machine import Allowances

from .test_joining import NAME, kubelet, machine_scope, place, secret

__all__ = ["machine_scope", "place"]

pytestmark = pytest.mark.root

LIFE = int(min(patient(20), 60))
"""Seconds that a certificate is good. Like kube-controller-manager the signer dates it back by five
minutes, so 90% of its life are over when it comes, and the next is asked for at once."""
CLIENT, SERVING = "kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


@contextmanager
def approving(server: ApiServer) -> Iterator[Api]:
    """Approve all requests within the block, as an administrator does for serving ones."""
    api, stop = Api(Path("/proc/self/ns/net"), server.kubeconfig), threading.Event()
    approved = {"type": "Approved", "status": "True", "reason": "Test", "message": "approved"}

    def work() -> None:
        while not stop.wait(0.05):
            with contextlib.suppress(OSError):
                for one in api.must("GET", REQUESTS)["items"]:
                    if one["spec"]["signerName"] == SERVING and not one["status"]:
                        one["status"] = {"conditions": [approved]}
                        api.ask("PUT", f"{REQUESTS}/{one['metadata']['name']}/approval", one)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield api
    finally:
        stop.set()
        thread.join(patient(10))


def signed(api: Api, signer: str) -> list[x509.Certificate]:
    """Return what was signed so far, the oldest first."""
    found = []
    for one in api.must("GET", REQUESTS)["items"]:
        pem = one.get("status", {}).get("certificate")
        if one["spec"]["signerName"] == signer and pem:
            found.append(x509.load_pem_x509_certificate(base64.b64decode(pem)))
    return sorted(found, key=lambda certificate: certificate.not_valid_before_utc)


def third(api: Api, signer: str) -> list[x509.Certificate]:
    """Return the third and later ones."""
    return signed(api, signer)[2:]


def over(end: datetime) -> bool:
    """Say whether it is later than that."""
    return datetime.now(UTC) > end


def served(port: int) -> int:
    """Return the serial number of the certificate that the kubelet serves with."""
    pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=patient(5))
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def test_certificates_are_renewed_before_they_end(
    place: Any, machine: None, machine_allowances: Allowances, tmp_path: Path
) -> None:
    for name in ("-m runtime", "spawner", "unpacker"):
        machine_allowances.allow("processes", name)
    with (
        api_server(tmp_path, f"--cluster-signing-duration={LIFE}s") as server,
        approving(server) as api,
        running_node(place),
        kubelet(server, place, tmp_path) as joined,
    ):
        joined.kubectl("apply", "-f", "-", text=secret())
        wait_for(partial(signed, api, CLIENT), "the first certificate")
        # Until its token was known, it was refused.
        position = len(joined.log())
        for signer in (CLIENT, SERVING):
            # The third of each: the second was good enough to ask for it.
            wait_for(partial(third, api, signer), f"three certificates of {signer}", 40)
        for signer in (CLIENT, SERVING):
            certificates = signed(api, signer)
            for before, after in itertools.pairwise(certificates):
                assert after.not_valid_before_utc < before.not_valid_after_utc
                assert after.subject == before.subject
            first = certificates[0].not_valid_after_utc
            wait_for(partial(over, first), "the end of the first")
        # The node goes on: it writes its status with the new one, and serves its API with it.
        wait_for(lambda: joined.ready().get("status") == "True", "a ready node")
        joined.kubectl("annotate", "node", NAME, "seen=after")
        node = json.loads(joined.kubectl("get", "node", NAME, "-o", "json"))
        port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        wait_for(
            lambda: served(port) in {one.serial_number for one in signed(api, SERVING)[1:]},
            "a renewed certificate to be served",
        )
        assert [
            one
            for one in joined.log()[position:].splitlines()
            if "certificate cannot be had" in one
        ] == []
        joined.process.terminate()
        assert joined.process.wait(patient(30)) == 0, joined.log()[-3000:]
        assert "kubelet broke" not in joined.log()
