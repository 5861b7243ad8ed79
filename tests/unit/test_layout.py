"""Both sides of bpf/record.h: what the compiled object says of itself, against what Python believes."""

from __future__ import annotations

import itertools
import re
import struct

import pytest

from cni_collector.events import type_name
from cni_collector.kernel import hooks, tiers
from cni_collector.stream import decoder as record

from .btf import Btf, Field, programs

BTF = Btf(tiers.OBJECT)  # a missing object fails here, loudly

LAYOUTS = {  # the fields in the order of the format; those that Python reads as one are joined by "+"
    "netns_record": (
        record.NETNS_RECORD,
        "type cause error userns time cookie other_cookie inum other_inum pid tid ppid uid cgroup+hierarchy "
        "entered_tid lifetime teardown comm",
    ),
    "cgroup_record": (record.CGROUP_RECORD, "type level length hierarchy id"),
    "lost": (record.LOST, "count"),
    "state": (record.STATE, "host_cookie host_inum cgroup_epoch ready"),
    "tracked": (record.TRACKED, "net born inum userns reported"),
    "task_place": (record.TASK_PLACE, "cookie inum tid"),
}


def python_fields(layout: struct.Struct, names: str) -> dict[str, Field]:
    """Where a format without alignment places the fields of these names."""
    fields, offset = {}, 0
    for code, name in zip(re.findall(r"\d*[a-zA-Z]", layout.format), names.split(), strict=True):
        size = struct.calcsize(f"={code}")
        fields[name] = Field(offset, size)
        offset += size
    return fields


def kernel_fields(struct_name: str, names: str) -> dict[str, Field]:
    """Where the object has the fields of these names."""
    members = BTF.fields(struct_name)
    fields = {}
    for name in names.split():
        parts = [members[part] for part in name.split("+")]
        for one, following in itertools.pairwise(parts):
            assert one.offset + one.size == following.offset, f"{name} cannot be read as one"
        fields[name] = Field(parts[0].offset, sum(part.size for part in parts))
    return fields


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_field_lies_where_python_reads_it(name: str) -> None:
    layout, names = LAYOUTS[name]
    assert layout.format.startswith("=")
    assert python_fields(layout, names) == kernel_fields(name, names)


@pytest.mark.parametrize("name", LAYOUTS)
def test_python_reads_every_field(name: str) -> None:
    assert re.split(r"[ +]", LAYOUTS[name][1]) == [field for field in BTF.fields(name) if field != "names"]


def test_sizes_by_which_records_are_told_apart_and_maps_are_read() -> None:
    assert record.NETNS_RECORD.size == BTF.size("netns_record") != BTF.size("cgroup_record")
    assert record.CGROUP_RECORD.size == BTF.fields("cgroup_record")["names"].offset
    assert record.LOST.size == BTF.size("lost")
    assert record.TRACKED.size == BTF.size("tracked")
    assert record.TASK_PLACE.size == BTF.size("task_place")
    assert record.STATE.size <= BTF.size("state")


def test_a_calls_record_is_a_task_then_two_numbers_then_text() -> None:
    fields = BTF.fields("cni_record")
    assert list(fields) == ["task", "length", "cut", "text"]
    assert fields["task"] == Field(0, record.NETNS_RECORD.size)
    assert record.CNI_RECORD.format.startswith("=")
    for name, field in python_fields(record.CNI_RECORD, "length cut").items():
        assert fields[name] == field._replace(offset=field.offset + record.NETNS_RECORD.size)
    assert fields["text"].offset == record.NETNS_RECORD.size + record.CNI_RECORD.size


def test_the_fields_that_python_writes() -> None:
    assert BTF.fields("state")["cgroup_epoch"].offset == record.STATE_EPOCH
    assert BTF.fields("state")["ready"].offset == record.STATE_READY


def test_record_types() -> None:
    kinds = BTF.enum("record_type")
    assert kinds.pop("RECORD_TYPES") == len(record.TYPES) == len(record.LOST.unpack(bytes(record.LOST.size)))
    assert kinds == {
        f"RECORD_{type_name(kind).upper() if kind else 'CGROUP'}": number for number, kind in enumerate(record.TYPES)
    }
    assert kinds == {
        "RECORD_CGROUP": record.CGROUP,
        "RECORD_NETNS_CREATE": record.CREATE,
        "RECORD_NETNS_ENTER": record.ENTER,
        "RECORD_NETNS_EXIT": record.EXIT,
        "RECORD_NETNS_DESTROY": record.DESTROY,
        "RECORD_NETNS_CREATE_FAILED": record.CREATE_FAILED,
        "RECORD_NETNS_ENTER_FAILED": record.ENTER_FAILED,
        "RECORD_NETNS_FOUND": record.FOUND,
        "RECORD_CNI_START": record.CNI_START,
        "RECORD_CNI_END": record.CNI_END,
    }


def test_causes() -> None:
    causes = {f"CAUSE_{(cause or 'none').upper()}": number for number, cause in enumerate(record.CAUSES)}
    assert BTF.enum("cause") == causes


def test_programs_show_their_owner_and_fit_the_kernels_names() -> None:
    names = programs(tiers.OBJECT)
    assert names
    assert [name for name in names if not name.startswith("cni_") or len(name) > 15] == []


def test_every_program_that_python_names_is_in_the_object() -> None:
    named = {program for tier in hooks.TIERS.values() for hook in tier for program in hook.programs}
    assert named | set(tiers.SNAPSHOT) == set(programs(tiers.OBJECT))
