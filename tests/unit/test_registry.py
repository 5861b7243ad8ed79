"""Collectors by name."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from types import SimpleNamespace

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


def test_create_takes_what_the_collector_takes() -> None:
    """Type checkers are told so: what it says for `cni` is what `Collector` says, in the same order."""
    own, _ = typing.get_overloads(create)
    assert {option.name: (option.kind, option.annotation) for option in options(own)[1:]} == {
        option.name: (option.kind, option.annotation) for option in options(Collector)[1:]
    }


def options(function: Callable[..., object]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


class Other:
    """What another package may register."""

    def __init__(self, name: str, **config: object) -> None:
        self.name, self.config = name, config


def test_create_calls_what_another_package_has_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "available", lambda: {"other": SimpleNamespace(load=lambda: Other)})
    collector = create("other", depth=3)
    assert isinstance(collector, Other)
    assert (collector.name, collector.config) == ("other", {"depth": 3})
