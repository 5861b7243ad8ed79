"""Collectors by name."""

from __future__ import annotations

import pytest

from cni_collector import Collector, CollectorError, available, create, registry
from cni_collector.events import NetnsCreate


def test_the_package_registers_its_own_collector() -> None:
    assert available()["cni"].load() is Collector


def test_create_passes_the_name_and_the_options_on() -> None:
    collector = create("cni", types=["netns_create"])
    assert isinstance(collector, Collector)
    assert collector.name == "cni"
    assert collector._wanted == {NetnsCreate}


def test_create_refuses_options_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="unknown event types"):
        create("cni", types=["nonsense"])


@pytest.mark.parametrize(("names", "told"), [("b a", "there are a, b"), ("", "there are none")])
def test_an_unknown_name_is_answered_with_those_that_are_known(
    monkeypatch: pytest.MonkeyPatch, names: str, told: str
) -> None:
    monkeypatch.setattr(registry, "available", lambda: dict.fromkeys(names.split()))
    with pytest.raises(CollectorError, match=f"no collector 'cnl' is registered: {told}$"):
        create("cnl")
