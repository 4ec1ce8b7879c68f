"""A node that has joined: our API server, a kubelet and a runtime, in a network of their own."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from kubeletpy_common.linux.namespaces import in_namespace
from tests.root.kubeletpy.engine.process import NODE, condition, wait_for
from tests.support.circumstances import patient

Object = dict[str, Any]
STRATEGIC = "application/strategic-merge-patch+json"
JSON = "application/json"


class Api:
    """The API server, as its administrator uses it.

    Args:
        netns: where it listens.
        kubeconfig: of the administrator.
    """

    def __init__(self, netns: Path, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.netns, self.kubeconfig = netns, kubeconfig
        self.url = cluster["server"]
        self.context = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )
        with tempfile.NamedTemporaryFile() as file:
            for name in ("client-certificate-data", "client-key-data"):
                file.write(base64.b64decode(user[name]))
            file.flush()
            self.context.load_cert_chain(file.name)

    def connect(self, timeout: float = 30.0) -> http.client.HTTPSConnection:
        """Return a connection."""
        place = urlsplit(self.url)
        connection = http.client.HTTPSConnection(
            str(place.hostname), place.port, timeout=timeout, context=self.context
        )
        with in_namespace(self.netns):
            connection.connect()
        return connection

    def ask(
        self, method: str, path: str, body: Object | None = None, kind: str = JSON
    ) -> tuple[int, Object]:
        """Send a request; return the status and the decoded answer."""
        connection = self.connect()
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": kind})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()

    def must(self, method: str, path: str, body: Object | None = None, kind: str = JSON) -> Object:
        """Send a request that succeeds."""
        status, answer = self.ask(method, path, body, kind)
        assert status < 300, (method, path, status, answer)
        return answer

    def create(self, pod: Object) -> Object:
        """Create a pod that is bound to the node."""
        return self.must("POST", "/api/v1/namespaces/default/pods", pod)

    def pod(self, name: str) -> Object | None:
        """Return a pod, or None."""
        status, answer = self.ask("GET", f"/api/v1/namespaces/default/pods/{name}")
        return answer if status == 200 else None

    def delete(self, name: str, **options: Any) -> None:
        """Ask for the deletion of a pod."""
        self.must("DELETE", f"/api/v1/namespaces/default/pods/{name}", options)

    def patch(self, name: str, changes: Object, subresource: str = "") -> Object:
        """Patch a pod."""
        path = f"/api/v1/namespaces/default/pods/{name}{subresource}"
        return self.must("PATCH", path, changes, STRATEGIC)

    def wait(self, name: str, check: Callable[[Any], Any], what: str, timeout: float = 20.0) -> Any:
        """Wait until ``check`` of a pod is true, and return the pod."""

        def look() -> Object | None:
            pod = self.pod(name)
            return pod if pod is not None and check(pod) else None

        try:
            return wait_for(look, f"pod {name}: {what}", timeout)
        except AssertionError as error:
            status = (self.pod(name) or {}).get("status")
            raise AssertionError(f"{error}\n{json.dumps(status, indent=1)}") from None

    def wait_ready(self, name: str, timeout: float = 20.0) -> Any:
        """Wait until a pod is ready."""
        return self.wait(name, lambda pod: condition(pod, "Ready") == "True", "Ready", timeout)

    def wait_gone(self, name: str, timeout: float = 20.0) -> None:
        """Wait until there is no such pod."""
        wait_for(lambda: self.pod(name) is None, f"pod {name} to be gone", timeout)

    @contextlib.contextmanager
    def watch(self) -> Iterator[list[Object]]:
        """Gather all events of pods; those that are there come first, as ADDED."""
        connection = self.connect(timeout=120.0)
        connection.request("GET", "/api/v1/namespaces/default/pods?watch=1")
        # Where the answer has no length the connection hands its socket over to it.
        raw = connection.sock
        answer = connection.getresponse()
        assert answer.status == 200
        found: list[Object] = []

        def read() -> None:
            with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
                for line in iter(answer.readline, b""):
                    found.append(json.loads(line))

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            with contextlib.suppress(OSError):
                raw.shutdown(socket.SHUT_RDWR)
            thread.join(patient(10))
            answer.close()
            connection.close()


def bound(name: str, *containers: Mapping[str, Any], **spec: Any) -> Object:
    """Return a pod that is bound to the node."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeName": NODE,
            "terminationGracePeriodSeconds": 3,
            "automountServiceAccountToken": False,
            "containers": list(containers),
            **spec,
        },
    }
