from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.config import Config, RuntimeSettings
from runtime.handlers.external import ExternalRuntime
from runtime.handlers.features import FeatureReader, Features, read_features
from runtime.handlers.table import (
    Handlers,
    MissingProgramError,
    UnknownHandlerError,
    check_program,
)

RUNC = RuntimeSettings(path=Path("/usr/sbin/runc"), args=("--debug",))
CRUN = RuntimeSettings(path=Path("/usr/bin/crun"), root=Path("/run/crun"))


def handlers(default: str = "kubeletpy") -> Handlers:
    return Handlers(Config(default_runtime=default, runtimes={"runc": RUNC, "crun": CRUN}))


def test_names_begin_with_the_default() -> None:
    assert handlers().names() == ["", "kubeletpy", "crun", "runc"]


@pytest.mark.parametrize(
    ("default", "asked", "found"),
    [
        ("kubeletpy", "", None),
        ("kubeletpy", "kubeletpy", None),
        ("kubeletpy", "runc", "runc"),
        ("runc", "", "runc"),
        ("runc", "kubeletpy", None),
        ("runc", "crun", "crun"),
    ],
)
def test_resolve(default: str, asked: str, found: str | None) -> None:
    external = handlers(default).resolve(asked)
    assert (external and external.name) == found


def test_an_unknown_handler_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownHandlerError, match="'gvisor' is not configured; known are kubelet"):
        handlers().resolve("gvisor")


def test_a_pod_keeps_how_its_runtime_is_called() -> None:
    external = handlers().resolve("runc")
    assert external is not None
    again = msgspec.json.decode(msgspec.json.encode(external), type=ExternalRuntime)
    assert again == external
    line = again.command_line(Path("/s"))
    assert (line.root, line.roots, line.arguments) == ("/s/runtime", "/s/roots", ["--debug"])
    elsewhere = handlers().resolve("crun")
    assert elsewhere is not None
    assert elsewhere.command_line(Path("/s")).root == "/run/crun"


def test_programs_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "runtime"
    external = ExternalRuntime(name="it", path=str(path))
    with pytest.raises(MissingProgramError, match=r"runtime is not there.*\[runtimes.it\] path"):
        check_program(external)
    path.touch(mode=0o600)
    with pytest.raises(MissingProgramError, match="is not executable"):
        check_program(external)
    path.chmod(0o700)
    check_program(external)


@pytest.mark.parametrize(
    ("answer", "features"),
    [
        # runc 1.1.5
        ({"mountOptions": ["ro", "rro"], "linux": {"namespaces": ["user"]}}, (True, False)),
        # runc 1.2 and later
        (
            {
                "mountOptions": ["rro"],
                "linux": {
                    "namespaces": ["pid", "user"],
                    "mountExtensions": {"idmap": {"enabled": True}},
                },
            },
            (True, True),
        ),
        ({"linux": {"mountExtensions": {"idmap": {"enabled": True}}}}, (False, False)),
        ({"mountOptions": None, "linux": None}, (False, False)),
        ({}, (False, False)),
    ],
)
def test_features(answer: Any, features: tuple[bool, bool]) -> None:
    found = read_features(answer)
    assert (found.recursive_read_only_mounts, found.user_namespaces) == features
    assert found.problem == ""


def test_runc_is_known_by_its_annotation() -> None:
    assert read_features({"annotations": {"org.opencontainers.runc.version": "1.1.5"}}).exec_cgroups
    assert not read_features({"annotations": {"run.oci.crun.version": "1.14"}}).exec_cgroups
    assert not read_features({}).exec_cgroups


def test_an_answer_that_is_none() -> None:
    assert "no JSON object" in read_features(["rro"]).problem


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


async def test_a_program_is_asked_once_for_each_of_its_versions(tmp_path: Path) -> None:
    reader, path = FeatureReader(), tmp_path / "runtime"
    count = tmp_path / "count"
    answer = json.dumps({"mountOptions": ["rro"]})
    program(path, f"echo x >> {count}; [ $1 = features ] && echo '{answer}'")
    expected = Features(recursive_read_only_mounts=True)
    assert [await reader.read(str(path)) for _ in range(3)] == [expected] * 3
    assert count.read_text() == "x\n"
    program(path, "echo 'unknown command features' >&2; exit 1")
    os.utime(path, ns=(1, 1))
    assert "failed with status 1" in (await reader.read(str(path))).problem
    program(path, "echo hello")
    assert "no answer that makes sense" in (await reader.read(str(path))).problem
    path.unlink()
    assert "No such file" in (await reader.read(str(path))).problem
