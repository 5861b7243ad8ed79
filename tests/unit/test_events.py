"""Events as users see them: JSON, its schema, and the public names."""

from __future__ import annotations

import inspect
import json
import typing
from types import NoneType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cni_collector
from cni_collector.events import (
    AnyEvent,
    Checkpoint,
    CniEnd,
    CniExec,
    CniStart,
    CollectorStart,
    CollectorStop,
    Event,
    Lost,
    Netns,
    NetnsCreate,
    NetnsCreateFailed,
    NetnsDestroy,
    NetnsEnter,
    NetnsEnterFailed,
    NetnsExit,
    NetnsFound,
    Pod,
    json_schema,
)

# In the order of the design.
from ..support.made import always, made

COMMON = "type time netns prev next cause error pid tid ppid uid comm userns cgroup container_id pod_uid name pod node"
CALL = "command plugin parent cni_container_id ifname netns_path args traceparent environment trusted"
OWN: dict[type[Event], tuple[str, str]] = {  # type, and the fields that only it has
    NetnsCreate: ("netns_create", ""),
    NetnsEnter: ("netns_enter", ""),
    NetnsExit: ("netns_exit", "entered_tid"),
    NetnsDestroy: ("netns_destroy", "lifetime_ns teardown_ns healed"),
    NetnsCreateFailed: ("netns_create_failed", "refused_by task_userns"),
    NetnsEnterFailed: ("netns_enter_failed", "refused_by task_userns"),
    NetnsFound: ("netns_found", "members healed"),
    CniStart: ("cni_start", CALL),
    CniEnd: ("cni_end", f"{CALL} duration_ns exit_code signal"),
    CniExec: ("cni_exec", "executable call args duration_ns exit_code signal trusted"),
    Lost: ("lost", "count by_type skipped unreadable"),
    Checkpoint: ("checkpoint", "namespaces members healed"),
    CollectorStart: ("collector_start", "schema version boot_id kernel arch tier host_netns missing uncounted"),
    CollectorStop: ("collector_stop", "events lost skipped unreadable"),
}
NUMBERS = st.integers(1, 2**64 - 1)
TEXTS = st.binary(min_size=1).map(lambda raw: raw.decode("utf-8", "backslashreplace"))
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: NUMBERS,
    bool: st.booleans(),
    str: TEXTS,
    Netns: st.builds(Netns, NUMBERS, NUMBERS),
    Pod: st.builds(Pod, *[st.none() | TEXTS] * 3),
    list[str]: st.lists(TEXTS, min_size=1),
    dict[str, int]: st.dictionaries(TEXTS, NUMBERS, min_size=1),
}


def events(kind: type[Event], full: bool = False) -> st.SearchStrategy[Event]:
    """Events of a type: all fields set, or any of them."""
    values = {}
    for name, hint in typing.get_type_hints(kind).items():
        if name in kind.__struct_fields__:
            (plain,) = {*(typing.get_args(hint) if NoneType in typing.get_args(hint) else (hint,))} - {NoneType}
            values[name] = VALUES[plain]
    if full:
        return st.fixed_dictionaries(values).map(lambda fields: kind(**fields))
    needed = {name: values.pop(name) for name in ("time", *always(kind))}
    return st.fixed_dictionaries(needed, optional=values).map(lambda fields: kind(**fields))


ANY = st.one_of(*map(events, OWN))


def accepts(schema: dict[str, Any], node: Any, definitions: dict[str, Any]) -> bool:
    """Whether a schema accepts a value: the part of JSON Schema that this one uses, and no unknown properties."""
    schema = schema | definitions[schema["$ref"].removeprefix("#/$defs/")] if "$ref" in schema else schema
    if "anyOf" in schema:
        return any(accepts(option, node, definitions) for option in schema["anyOf"])
    if "enum" in schema:
        return node in schema["enum"]
    match schema["type"]:
        case "integer":
            return isinstance(node, int) and not isinstance(node, bool)
        case "boolean":
            return isinstance(node, bool)
        case "string":
            return isinstance(node, str)
        case "array":
            return isinstance(node, list) and all(accepts(schema["items"], item, definitions) for item in node)
        case "object":
            properties, other = schema.get("properties", {}), schema.get("additionalProperties")
            return set(schema.get("required", ())) <= set(node) and all(
                accepts(properties.get(key, other), value, definitions) for key, value in node.items()
            )
    raise AssertionError(f"not understood: {schema}")


def test_every_event_class_is_one_of_any_event() -> None:
    def below(kind: type[Event]) -> set[type[Event]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    told = {kind for kind in below(Event) if kind.__struct_config__.tag not in (None, False)}
    assert set(OWN) == set(typing.get_args(AnyEvent)) == told - {Event}


@pytest.mark.parametrize("kind", OWN)
def test_type_is_the_same_in_python_and_in_json(kind: type[Event]) -> None:
    event = made(kind, "now")
    assert event.type == OWN[kind][0] == json.loads(msgspec.json.encode(event))["type"]


@given(st.one_of(*(events(kind, full=True) for kind in OWN)))
def test_keys_keep_the_order_of_the_design(event: Event) -> None:
    assert list(json.loads(msgspec.json.encode(event))) == f"{COMMON} {OWN[type(event)][1]}".split()


@pytest.mark.parametrize("kind", OWN)
def test_what_does_not_apply_is_absent(kind: type[Event]) -> None:
    assert set(json.loads(msgspec.json.encode(made(kind, "now")))) == {"type", "time"} | always(kind)


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind in OWN for field in sorted(always(kind))])
def test_what_a_type_always_has_cannot_be_left_out(kind: type[Event], field: str) -> None:
    """Not in Python, not in JSON, and not in the schema."""
    event = made(kind, "now")
    fields = msgspec.structs.asdict(event)
    del fields[field]
    with pytest.raises(ValueError, match=f"always has `{field}`"):
        kind(**fields)
    line = json.loads(msgspec.json.encode(event))
    del line[field]
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps(line), type=AnyEvent)
    schema = json_schema()
    assert not accepts(schema, line, schema["$defs"])


@pytest.mark.parametrize(
    ("time", "nanoseconds"),
    [
        ("1970-01-01T00:00:00.000000000Z", 0),
        ("2026-01-02T03:04:05.123456789Z", 1_767_323_045_123_456_789),
        ("2026-01-02T03:04:05.999999999Z", 1_767_323_045_999_999_999),
        ("2100-02-28T23:59:59.000000001Z", 4_107_542_399_000_000_001),
    ],
)
def test_a_time_is_a_number_too(time: str, nanoseconds: int) -> None:
    assert made(NetnsDestroy, time).time_ns == nanoseconds


def test_zero_is_told_where_it_is_an_answer() -> None:
    assert json.loads(msgspec.json.encode(made(NetnsFound, "now", uid=0, members=0))).keys() >= {"uid", "members"}
    assert json.loads(msgspec.json.encode(CollectorStop("now", events=0, lost=0))).keys() >= {"events", "lost"}


@given(ANY)
def test_an_event_survives_json(event: Event) -> None:
    assert msgspec.json.decode(msgspec.json.encode(event), type=AnyEvent) == event


@given(ANY)
def test_the_schema_accepts_what_is_written(event: Event) -> None:
    schema = json_schema()
    assert accepts(schema, json.loads(msgspec.json.encode(event)), schema["$defs"])


def test_the_schema_refuses_null_and_what_lacks_its_time() -> None:
    schema = json_schema()
    for line in ({"type": "netns_create"}, {"type": "netns_create", "time": "now", "cause": None}):
        assert not accepts(schema, line, schema["$defs"])
    assert "null" not in json.dumps(schema)


@pytest.mark.parametrize("event", [Netns(1, 2), made(NetnsCreate, "now")])
def test_events_cannot_be_changed(event: Any) -> None:
    with pytest.raises(AttributeError):
        setattr(event, event.__struct_fields__[0], 3)


@pytest.mark.parametrize("name", cni_collector.__all__)
def test_public_names_exist_and_are_documented(name: str) -> None:
    public = getattr(cni_collector, name)
    if name in ("__version__", "AnyEvent"):  # values: nothing can carry a docstring
        return
    assert public.__dict__.get("__doc__") if inspect.isclass(public) else public.__doc__
    for member, value in vars(public).items() if inspect.isclass(public) else ():
        if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
            assert value.__doc__, f"{name}.{member}"


def test_all_is_sorted_and_complete() -> None:
    assert cni_collector.__all__ == sorted(cni_collector.__all__)
    public = {
        name for name, value in vars(cni_collector).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public <= set(cni_collector.__all__)
