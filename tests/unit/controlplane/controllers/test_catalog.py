"""Which controllers run."""

from __future__ import annotations

import pytest

from controlplane.controllers import catalog


def test_words_of_the_flag() -> None:
    everything = catalog.selected(["*"])
    assert "deployment-controller" in everything
    # They are processes of their own, unless they are named.
    assert "scheduler" not in everything
    assert "scheduler" in catalog.selected(["*", "scheduler"])
    assert "deployment-controller" not in catalog.selected(["*", "-deployment"])
    assert catalog.selected(["deployment"]) == ["deployment-controller"]
    assert catalog.selected([]) == []
    with pytest.raises(catalog.UnknownControllerError, match="deployments"):
        catalog.selected(["deployments"])


def test_every_controller_is_of_its_name() -> None:
    for name in catalog.names():
        assert catalog.kind_of(name).name == name
