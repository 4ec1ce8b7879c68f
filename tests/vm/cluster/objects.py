"""What the scenario declares: servers that say who they are, and clients that ask them."""

from __future__ import annotations

from typing import Any, Final

WEB: Final = "web"
CLIENTS: Final = "clients"
NODE_PORT: Final = 30080
HOST_PORT: Final = 8081
SECONDS_UNREACHABLE: Final = 20
"""How long a pod may stay on a node that is away."""


def daemons(name: str, image: str, script: str, **spec: Any) -> dict[str, Any]:
    """Return a DaemonSet whose pods run a script, one on each node, ready once it serves."""
    labels = {"app": name}
    names = {"MY_NAME": "metadata.name", "MY_NODE": "spec.nodeName", "MY_IP": "status.podIP"}
    container = {
        "name": "main", "image": image, "command": ["sh", "-c", script],
        "env": [
            {"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for key, path in names.items()
        ],
        **spec,
    }  # fmt: skip
    return {
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 1, "containers": [container],
                },
            },
        },
    }  # fmt: skip


def web(image: str) -> list[dict[str, Any]]:
    """Return servers on each node that answer with the node's name, and a Service for them.

    They are also at a port of their node.
    """
    script = "mkdir -p /www && echo $MY_NODE > /www/index.html && exec httpd -f -p 8080 -h /www"
    probe = {"httpGet": {"path": "/", "port": 8080}, "timeoutSeconds": 30, "periodSeconds": 5}
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": WEB, "namespace": "default"},
        "spec": {
            "type": "NodePort", "selector": {"app": WEB}, "ipFamilyPolicy": "PreferDualStack",
            "ports": [{"port": 80, "targetPort": 8080, "nodePort": NODE_PORT}],
        },
    }  # fmt: skip
    ports = [{"containerPort": 8080, "hostPort": HOST_PORT}]
    return [daemons(WEB, image, script, readinessProbe=probe, ports=ports), service]


def clients(image: str) -> dict[str, Any]:
    """Return a pod on each node in which commands are run, and that repeats what it is told."""
    return daemons(CLIENTS, image, "exec cat", stdin=True)


def movable(image: str, replicas: int) -> dict[str, Any]:
    """Return a Deployment whose pods leave a node that is away, after a while."""
    made = daemons("movable", image, "exec sleep 1000000")
    template = made["spec"]["template"]
    template["spec"]["tolerations"] = [
        {
            "key": f"node.kubernetes.io/{reason}", "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": SECONDS_UNREACHABLE,
        }
        for reason in ("unreachable", "not-ready")
    ]  # fmt: skip
    return {**made, "kind": "Deployment", "spec": {**made["spec"], "replicas": replicas}}
