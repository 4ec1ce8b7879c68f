"""Makes ``defaults.json``, the default roles and bindings, from what an API server has made.

``kubectl get clusterroles,clusterrolebindings,roles,rolebindings -A -o json \\
-l kubernetes.io/bootstrapping=rbac-defaults | python -m controlplane.auth.authorization.derive``
"""

from __future__ import annotations

import json
import sys
from typing import Any

from controlplane.auth.authorization.bootstrap import BOOTSTRAPPING, TABLE

_KEPT = ("rules", "aggregationRule", "roleRef", "subjects")
_KINDS = ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


def derive(items: list[dict[str, Any]]) -> str:
    """Return the table, an object a line (pure)."""
    table: dict[str, dict[str, Any]] = {kind: {} for kind in _KINDS}
    for item in items:
        meta = item["metadata"]
        labels = {k: v for k, v in meta.get("labels", {}).items() if k != BOOTSTRAPPING}
        entry: dict[str, Any] = {"labels": labels} if labels else {}
        entry |= {key: item[key] for key in _KEPT if item.get(key)}
        name = f"{meta['namespace']}/{meta['name']}" if "namespace" in meta else meta["name"]
        table[item["kind"]][name] = entry
    kinds = []
    for kind, entries in table.items():
        lines = [
            f"{json.dumps(name)}: {json.dumps(entry, sort_keys=True)}"
            for name, entry in sorted(entries.items())
        ]
        kinds.append(f"{json.dumps(kind)}: {{\n" + ",\n".join(lines) + "\n}")
    return "{\n" + ",\n".join(kinds) + "\n}\n"


if __name__ == "__main__":
    TABLE.write_text(derive(json.load(sys.stdin)["items"]))
