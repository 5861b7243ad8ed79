"""Both sides of bpf/record.h: what the compiled object says of itself, against what Python believes."""

from __future__ import annotations

import itertools
import re
import struct

import pytest

from cni_collector.events import type_name
from cni_collector.kernel import hooks, tiers, wire

from .btf import Btf, Field, global_functions, helpers, programs

BTF = Btf(tiers.OBJECT)  # a missing object fails here, loudly

TASK = "pid tid ppid uid cgroup+hierarchy comm"
LAYOUTS = {  # the fields in the order of the format; those that Python reads as one are joined by "+"
    "netns_record": (
        wire.NETNS_RECORD,
        f"type cause error userns time cookie other_cookie inum other_inum {TASK} entered_tid/refuser "
        "lifetime/task_userns teardown",
    ),
    "cni_start_record": (
        wire.CNI_START_RECORD,
        f"type cut length own_inum time started own_cookie path_cookie {TASK} outer outer_started trusted "
        "args_length path_inum args",
    ),
    "cni_end_record": (
        wire.CNI_END_RECORD,
        f"type unreadable status entered_inum {TASK} trusted several nested helper "
        "time started duration entered_cookie",
    ),
    "cni_entered_record": (wire.CNI_ENTERED_RECORD, "type pid started cookie inum"),
    "cgroup_record": (wire.CGROUP_RECORD, "type level length hierarchy id"),
    "lost": (wire.LOST, "count"),
    "state": (wire.STATE, "host_cookie cleanup_start host_inum cgroup_epoch phase counts_skips seccomp_shows"),
    "tracked": (wire.TRACKED, "net born inum userns reported"),
    "audited": (wire.AUDITED, "cookie inum userns state"),
    "mounts": (wire.MOUNTS, "used unsure"),
    "mounted": (wire.MOUNTED, "cookie length"),
}

PADDED = {"state": 4}
"""Bytes behind the last field of what no program sends as a whole."""


def python_fields(layout: struct.Struct, names: str) -> dict[str, Field]:
    """Where a format without alignment places the fields of these names."""
    fields, offset = {}, 0
    for code, name in zip(re.findall(r"\d*[a-zA-Z]", layout.format), names.split(), strict=True):
        size = struct.calcsize(f"={code}")
        fields[name] = Field(offset, size)
        offset += size
    return fields


def kernel_members(struct_name: str) -> dict[str, Field]:
    """The members of a struct, but those of its `struct task` in the place of that, and without texts of any length."""
    members = {}
    for name, member in BTF.fields(struct_name).items():
        if name == "task":
            for part, field in BTF.fields("task").items():
                members[part] = field._replace(offset=member.offset + field.offset)
        elif name not in ("names", "text", "path", "entries"):
            members[name] = member
    return members


def kernel_fields(struct_name: str, names: str) -> dict[str, Field]:
    """Where the object has the fields of these names."""
    members = kernel_members(struct_name)
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
    assert re.split(r"[ +]", LAYOUTS[name][1]) == list(kernel_members(name))


@pytest.mark.parametrize("name", LAYOUTS)
def test_there_are_no_holes_between_fields(name: str) -> None:
    """Nobody writes what lies in a hole: it would be of what was there before."""
    end = 0
    for field in BTF.fields(name).values():
        assert field.offset == end
        end += field.size
    assert BTF.size(name) == end + PADDED.get(name, 0)


def test_what_global_functions_are_given_has_no_holes() -> None:
    """Linux 5.15 refuses a call with a pointer to the stack unless every byte behind it was written."""
    given = {name for function in global_functions(tiers.OBJECT) for name in BTF.arguments(function)}
    assert "fact" in given
    for name in given - {"mount_walk"}:  # which is in maps alone
        assert sum(field.size for field in BTF.fields(name).values()) == BTF.size(name), name


def test_no_helper_is_younger_than_the_oldest_kernel() -> None:
    """bpf_task_pt_regs() is the last of those of Linux 5.15 (include/uapi/linux/bpf.h)."""
    called = helpers(tiers.OBJECT)
    assert 1 in called  # bpf_map_lookup_elem()
    assert max(called) <= 175


def test_texts_follow_what_python_reads() -> None:
    assert BTF.fields("cni_start_record")["text"].offset == wire.CNI_START_RECORD.size
    assert BTF.fields("cgroup_record")["names"].offset == wire.CGROUP_RECORD.size
    assert BTF.fields("mounted")["path"].offset == wire.MOUNTED.size
    assert BTF.fields("mounts")["entries"] == Field(wire.MOUNTS.size, wire.MOUNTS_BYTES)


def test_sizes_by_which_records_are_told_apart_and_maps_are_read() -> None:
    assert wire.NETNS_RECORD.size == BTF.size("netns_record") != BTF.size("cgroup_record")
    assert wire.CNI_END_RECORD.size == BTF.size("cni_end_record")
    assert wire.CNI_ENTERED_RECORD.size == BTF.size("cni_entered_record")
    assert wire.LOST.size == BTF.size("lost")
    assert wire.TRACKED.size == BTF.size("tracked")
    assert wire.AUDITED.size == BTF.size("audited")
    assert wire.STATE.size <= BTF.size("state")


def test_the_fields_that_python_writes() -> None:
    assert BTF.fields("state")["cgroup_epoch"].offset == wire.STATE_EPOCH
    assert BTF.fields("state")["phase"].offset == wire.STATE_PHASE
    assert BTF.fields("state")["seccomp_shows"].offset == wire.STATE_SECCOMP_SHOWS


def test_record_types() -> None:
    kinds = BTF.enum("record_type")
    assert kinds.pop("RECORD_TYPES") == len(wire.TYPES) == len(wire.LOST.unpack(bytes(wire.LOST.size)))
    events = {f"RECORD_{type_name(kind).upper()}": number for number, kind in enumerate(wire.TYPES) if kind}
    assert events == {name: number for name, number in kinds.items() if wire.TYPES[number]}
    assert kinds == {
        "RECORD_CGROUP": wire.CGROUP,
        "RECORD_NETNS_CREATE": wire.CREATE,
        "RECORD_NETNS_ENTER": wire.ENTER,
        "RECORD_NETNS_EXIT": wire.EXIT,
        "RECORD_NETNS_DESTROY": wire.DESTROY,
        "RECORD_NETNS_CREATE_FAILED": wire.CREATE_FAILED,
        "RECORD_NETNS_ENTER_FAILED": wire.ENTER_FAILED,
        "RECORD_NETNS_FOUND": wire.FOUND,
        "RECORD_CNI_START": wire.CNI_START,
        "RECORD_CNI_END": wire.CNI_END,
        "RECORD_CNI_EXEC": wire.CNI_EXEC,
        "RECORD_CNI_ENTERED": wire.CNI_ENTERED,
    }


def test_causes() -> None:
    causes = {f"CAUSE_{(cause or 'none').upper()}": number for number, cause in enumerate(wire.CAUSES)}
    assert BTF.enum("cause") == causes


def test_phases() -> None:
    assert BTF.enum("phase") == {
        "PHASE_STARTING": wire.STARTING,
        "PHASE_RUNNING": wire.RUNNING,
        "PHASE_ENDING": wire.ENDING,
    }


def test_refusers() -> None:
    refusers = {f"REFUSER_{(refuser or 'unknown').upper()}": number for number, refuser in enumerate(wire.REFUSERS)}
    assert BTF.enum("refuser") == refusers


def test_states_of_a_namespace() -> None:
    states = {"NETNS_ALIVE": wire.ALIVE, "NETNS_DYING": wire.DYING, "NETNS_GONE": wire.GONE}
    assert BTF.enum("netns_state") == states


def test_edges() -> None:
    assert BTF.enum("edge") == {edge.upper(): number for number, edge in enumerate(wire.EDGES) if edge}


def test_programs_show_their_owner_and_fit_the_kernels_names() -> None:
    names = programs(tiers.OBJECT)
    assert names
    assert [name for name in names if not name.startswith("cni_") or len(name) > 15] == []


def test_every_program_that_python_names_is_in_the_object() -> None:
    named = {program for tier in hooks.TIERS.values() for hook in tier for program in hook.programs}
    assert named | set(tiers.SNAPSHOT) == set(programs(tiers.OBJECT))
