"""Which controllers run."""

from __future__ import annotations

import pytest

from controlplane.controllers import catalog


def test_words_of_the_flag() -> None:
    everything = catalog.selected(["*"])
    assert "replicaset-controller" in everything
    # They are processes of their own, unless they are named.
    assert "scheduler" not in everything
    assert "scheduler" in catalog.selected(["*", "scheduler"])
    assert "replicaset-controller" not in catalog.selected(["*", "-replicaset"])
    assert catalog.selected(["replicaset"]) == ["replicaset-controller"]
    assert catalog.selected([]) == []
    with pytest.raises(catalog.UnknownControllerError, match="replicasets"):
        catalog.selected(["replicasets"])


def test_every_controller_is_of_its_name() -> None:
    for name in catalog.names():
        assert catalog.kind_of(name).name == name
