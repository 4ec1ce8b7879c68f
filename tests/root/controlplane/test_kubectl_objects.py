"""Objects by kubectl: made, shown, changed and deleted in every way that it has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.kubectl import Kubectl

pytestmark = pytest.mark.root

_CONFIG = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
  labels: {app: web, tier: front}
data:
  colour: blue
  size: "3"
"""
_SECRET = """\
apiVersion: v1
kind: Secret
metadata:
  name: key
stringData:
  word: hidden
"""


@pytest.fixture
def settings(kubectl: Kubectl) -> Kubectl:
    """Kubectl in a namespace with one ConfigMap, applied."""
    kubectl("apply", "-f", "-", stdin=_CONFIG)
    return kubectl


def test_create_twice_says_that_it_is_there(kubectl: Kubectl) -> None:
    assert kubectl("create", "-f", "-", stdin=_CONFIG) == "configmap/settings created\n"
    again = kubectl("create", "-f", "-", stdin=_CONFIG, code=1)
    assert 'Error from server (AlreadyExists): error when creating "STDIN": ' in again
    assert 'configmaps "settings" already exists' in again


def test_apply_changes_what_the_file_changes_and_nothing_else(settings: Kubectl) -> None:
    assert settings("apply", "-f", "-", stdin=_CONFIG) == "configmap/settings unchanged\n"
    settings("annotate", "configmap", "settings", "by=hand")
    changed = _CONFIG.replace("blue", "red").replace('  size: "3"\n', "")
    assert settings("apply", "-f", "-", stdin=changed) == "configmap/settings configured\n"
    value = settings.json("get", "configmap", "settings")
    assert value["data"] == {"colour": "red"}
    assert value["metadata"]["annotations"]["by"] == "hand"


def test_apply_of_many_kinds_and_pruning_of_what_is_left_out(kubectl: Kubectl) -> None:
    both = f"{_CONFIG}---\n{_SECRET}"
    made = kubectl("apply", "-f", "-", stdin=both)
    assert made.splitlines() == ["configmap/settings created", "secret/key created"]
    assert kubectl("get", "secret", "key", "-o", "jsonpath={.data.word}") == "aGlkZGVu"
    only = both.replace("name: settings\n  labels:", "name: other\n  labels:")
    pruned = kubectl(
        *("apply", "--prune", "-l", "app=web", "-f", "-"),
        *("--prune-whitelist=core/v1/ConfigMap",)
        if kubectl.minor < 26
        else ("--prune-allowlist=core/v1/ConfigMap",),
        stdin=only,
    )
    assert "configmap/settings pruned" in pruned.splitlines()
    assert kubectl("get", "configmaps", "-l", "app", "-o", "name") == "configmap/other\n"


def test_edit_saves_what_the_editor_leaves(settings: Kubectl, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/blue/green/ "$1"\n')
    editor.chmod(0o755)
    said = settings("edit", "configmap", "settings", EDITOR=str(editor))
    assert said == "configmap/settings edited\n"
    assert settings("get", "configmap/settings", "-o", "jsonpath={.data.colour}") == "green"
    editor.write_text("#!/bin/sh\nexit 0\n")
    said = settings("edit", "configmap", "settings", EDITOR=str(editor), code=0)
    assert "cancelled" in said + settings.run("edit", "cm/settings", EDITOR=str(editor)).stderr


def test_replace_needs_the_version_that_is_there(settings: Kubectl) -> None:
    value = settings.json("get", "configmap", "settings")
    value["data"] = {"colour": "black"}
    assert settings("replace", "-f", "-", stdin=json.dumps(value)).endswith(" replaced\n")
    value["data"] = {"colour": "white"}
    said = settings("replace", "-f", "-", stdin=json.dumps(value), code=1)
    assert "the object has been modified; please apply your changes to the latest version" in said
    assert "Conflict" in said


def test_labels_and_annotations(settings: Kubectl) -> None:
    assert settings("label", "cm", "settings", "tier=back", code=1).find("--overwrite") > 0
    assert "labeled" in settings("label", "cm", "settings", "tier=back", "--overwrite")
    settings("label", "cm", "settings", "app-", "zone=a")
    said = settings("label", "cm", "settings", "bad=no spaces", code=1)
    assert "a valid label must be an empty string or consist of" in said
    value = settings.json("get", "cm", "settings")
    assert value["metadata"]["labels"] == {"tier": "back", "zone": "a"}
    settings("annotate", "cm", "settings", "note=some words")
    shown = settings("get", "cm", "settings", "-o", r"jsonpath={.metadata.annotations.note}")
    assert shown == "some words"


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("merge", {"data": {"colour": "red", "size": None}}),
        ("strategic", {"data": {"colour": "red", "size": None}}),
        (
            "json",
            [
                {"op": "test", "path": "/data/colour", "value": "blue"},
                {"op": "replace", "path": "/data/colour", "value": "red"},
                {"op": "remove", "path": "/data/size"},
            ],
        ),
    ],
)
def test_patches(settings: Kubectl, kind: str, patch: object) -> None:
    said = settings("patch", "cm", "settings", f"--type={kind}", "-p", json.dumps(patch))
    assert said == "configmap/settings patched\n"
    assert settings.json("get", "cm", "settings")["data"] == {"colour": "red"}


def test_strategic_patches_merge_lists_by_their_keys(kubectl: Kubectl) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]},
    }
    kubectl("create", "-f", "-", stdin=json.dumps(service))
    more = {"spec": {"ports": [{"name": "https", "port": 443}]}}
    kubectl("patch", "service", "web", "-p", json.dumps(more))
    ports = kubectl.json("get", "service", "web")["spec"]["ports"]
    assert sorted((port["name"], port["port"]) for port in ports) == [("http", 80), ("https", 443)]


def test_server_side_apply_knows_who_owns_what(kubectl: Kubectl) -> None:
    apply = ("apply", "--server-side", "-f", "-")
    said = kubectl(*apply, "--field-manager=one", stdin=_CONFIG)
    assert said == "configmap/settings serverside-applied\n"
    other = _CONFIG.replace("blue", "red")
    refused = kubectl(*apply, "--field-manager=two", stdin=other, code=1)
    assert 'conflict with "one": .data.colour' in refused
    kubectl(*apply, "--field-manager=two", "--force-conflicts", stdin=other)
    without = _CONFIG.replace("  colour: blue\n", "")
    kubectl(*apply, "--field-manager=one", stdin=without)
    assert kubectl.json("get", "cm", "settings")["data"] == {"colour": "red", "size": "3"}


def test_dry_run_on_the_server_keeps_nothing(kubectl: Kubectl) -> None:
    said = kubectl("create", "--dry-run=server", "-f", "-", stdin=_CONFIG)
    assert said == "configmap/settings created (server dry run)\n"
    assert "NotFound" in kubectl("get", "cm", "settings", code=1)


def test_diff_tells_by_its_status_and_shows_the_lines(settings: Kubectl) -> None:
    assert settings("diff", "-f", "-", stdin=_CONFIG) == ""
    changed = settings("diff", "-f", "-", stdin=_CONFIG.replace("blue", "red"), code=1)
    assert "-  colour: blue\n" in changed
    assert "+  colour: red\n" in changed


def test_output_formats(settings: Kubectl) -> None:
    get = ("get", "configmap", "settings")
    assert "  colour: blue\n" in settings(*get, "-o", "yaml")
    assert settings(*get, "-o", "jsonpath={.data.colour}/{.data.size}") == "blue/3"
    assert settings(*get, "-o", "go-template={{len .data}}") == "2"
    table = settings(*get, "-o", "custom-columns=N:.metadata.name,C:.data.colour")
    assert [line.split() for line in table.splitlines()] == [["N", "C"], ["settings", "blue"]]
    shown = settings(*get, "--show-labels").splitlines()
    assert shown[0].split() == ["NAME", "DATA", "AGE", "LABELS"], "of the server's table"
    assert shown[1].split()[:2] == ["settings", "2"]
    assert shown[1].split()[3] == "app=web,tier=front"
    assert settings(*get, "-L", "tier").splitlines()[1].split()[-1] == "front"
    assert settings(*get, "-o", "name") == "configmap/settings\n"


def test_selectors(settings: Kubectl) -> None:
    settings("create", "configmap", "plain", "--from-literal=a=b")

    def names(*arguments: str) -> list[str]:
        found = settings("get", "cm", "-o", "name", *arguments).split()
        return [name for name in found if name != "configmap/kube-root-ca.crt"]

    assert names("-l", "app=web") == ["configmap/settings"]
    assert names("-l", "app in (web,db),tier!=back") == ["configmap/settings"]
    assert names("-l", "!app") == ["configmap/plain"]
    assert names("--field-selector", "metadata.name=plain") == ["configmap/plain"]
    refused = settings("get", "cm", "--field-selector", "data.a=b", code=1)
    assert '"data.a" is not a known field selector: only "metadata.name"' in refused


def test_lists_come_in_chunks(kubectl: Kubectl) -> None:
    items = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"one-{number:02d}"}}
        for number in range(23)
    ]
    listed = {"kind": "List", "apiVersion": "v1", "items": items}
    kubectl("create", "-f", "-", stdin=json.dumps(listed))
    names = kubectl("get", "secrets", "--chunk-size=5", "-o", "name").split()
    assert names == [f"secret/one-{number:02d}" for number in range(23)]
    seen = kubectl.run("get", "secrets", "--chunk-size=10", "-v=6").stderr
    assert seen.count("limit=10") == 3
    assert seen.count("continue=") == 2


def test_watch_shows_each_change(settings: Kubectl) -> None:
    columns = "custom-columns=C:.data.colour"
    with settings.running("get", "cm", "-w", "--no-headers", "-o", columns) as watcher:
        watcher.until("blue")
        settings("patch", "cm", "settings", "--type=merge", "-p", '{"data":{"colour":"red"}}')
        assert watcher.until("red") == ["red"]
        settings("create", "cm", "late", "--from-literal=colour=grey")
        assert watcher.until("grey") == ["grey"]
        settings("delete", "cm", "late")
        assert watcher.until("grey") == ["grey"], "a deletion shows the last state"


def test_wait_returns_when_the_object_is_gone(settings: Kubectl) -> None:
    settings("patch", "cm", "settings", "-p", '{"metadata":{"finalizers":["test.io/hold"]}}')
    settings("delete", "cm", "settings", "--wait=false")
    shown = settings.json("get", "cm", "settings")
    assert shown["metadata"]["deletionTimestamp"]
    late = settings("wait", "--for=delete", "cm/settings", "--timeout=1s", code=1)
    assert "timed out" in late
    waiting = ("wait", "--for=delete", "cm/settings", "--timeout=20s", "-v=6")
    with settings.running(*waiting) as waiter:
        waiter.until("watch=true")
        settings(
            "patch", "cm", "settings", "--type=merge", "-p", '{"metadata":{"finalizers":null}}'
        )
        waiter.end()


def test_deletion_by_name_by_label_and_of_all(settings: Kubectl) -> None:
    settings("create", "cm", "plain", "--from-literal=a=b")
    assert settings("delete", "cm", "-l", "app=web") == 'configmap "settings" deleted' + (
        "\n" if settings.minor < 34 else f" from {settings.namespace} namespace\n"
    )
    assert "deleted" in settings("delete", "cm", "--all")
    assert "NotFound" in settings("delete", "cm", "plain", code=1)
    assert settings("delete", "cm", "plain", "--ignore-not-found") == ""


def test_unknown_fields_are_refused_or_told(kubectl: Kubectl) -> None:
    wrong = f"{_CONFIG}surprise: 1\n"
    # Old ones check by the OpenAPI document, newer ones have the server do it.
    assert "surprise" in kubectl("create", "-f", "-", stdin=wrong, code=1)
    done = kubectl.run("create", "--validate=false", "-f", "-", stdin=wrong)
    assert done.returncode == 0, done.stderr


def test_what_is_wrong_is_named(kubectl: Kubectl) -> None:
    wrong = _CONFIG.replace("name: settings", "name: Bad_Name")
    said = kubectl("create", "-f", "-", stdin=wrong, code=1)
    assert 'metadata.name: Invalid value: "Bad_Name": a lowercase RFC 1123 subdomain' in said
