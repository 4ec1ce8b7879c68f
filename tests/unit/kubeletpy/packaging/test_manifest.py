from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from kubeletpy.packaging.manifest import Compiled, Manifest, ManifestError, Pinned
from kubeletpy_common.releases import is_release_name

_A = Pinned("a", "1.0", "a-1.0-py3-none-any.whl", "aa", 10)
_B = Pinned("b", "2.0", "b-2.0-cp311-cp311-linux_x86_64.whl", "bb", 20)


def test_the_same_wheels_give_the_same_release_in_any_order() -> None:
    first, second = Manifest("0.1.0", {"3.11": (_A, _B)}), Manifest("0.1.0", {"3.11": (_B, _A)})
    assert first.release_name("3.11") == second.release_name("3.11")
    assert is_release_name(first.release_name("3.11"))
    assert first.to_json() == second.to_json()


@pytest.mark.parametrize(
    ("other", "python"),
    [
        (Manifest("0.1.0", {"3.11": (_A,)}), "3.11"),
        (Manifest("0.1.1", {"3.11": (_A, _B)}), "3.11"),
        (Manifest("0.1.0", {"3.13": (_A, _B)}), "3.13"),
        (Manifest("0.1.0", {"3.11": (_A, Pinned("b", "2.0", _B.file, "cc", 20))}), "3.11"),
    ],
)
def test_another_version_wheel_or_python_is_another_release(other: Manifest, python: str) -> None:
    assert other.release_name(python) != Manifest("0.1.0", {"3.11": (_A, _B)}).release_name("3.11")


def test_it_survives_being_written_and_read() -> None:
    compiled = Compiled("compiled-3.11.zip", "cc", "a70d0d0a")
    manifest = Manifest("0.1.0", {"3.11": (_A, _B), "3.13": (_A,)}, {"3.11": compiled})
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.files() == {_A.file: _A, _B.file: _B, compiled.file: compiled}


def test_packages_of_earlier_versions_have_nothing_compiled() -> None:
    pythons = {"3.11": [asdict(_A)]}
    text = json.dumps({"format": 1, "version": "0.1.0", "pythons": pythons})
    assert Manifest.from_json(text) == Manifest("0.1.0", {"3.11": (_A,)})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        json.dumps({"format": 1, "version": "1", "pythons": {"3.11": [{"name": "a"}]}}),
    ],
)
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(ManifestError, match="no manifest of kubeletpy"):
        Manifest.from_json(text)


def test_a_later_format_is_refused() -> None:
    with pytest.raises(ManifestError, match="format 9"):
        Manifest.from_json(json.dumps({"format": 9, "version": "1", "pythons": {}}))


def test_a_changed_or_missing_wheel_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    with pytest.raises(ManifestError, match=r"a\.whl: No such file"):
        _A.verify(path)
    path.write_bytes(b"other")
    with pytest.raises(ManifestError, match="changed or damaged"):
        _A.verify(path)
