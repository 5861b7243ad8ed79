"""Mutation that keeps the form of an input, so that what is behind the form is reached; a half is left to libFuzzer."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Final

from .ring import DISCARD, HEADER

Mutate = Callable[[bytes, int], bytes]
"""libFuzzer's own mutation of some bytes to at most so many."""
Mutator = Callable[[bytes, random.Random, Mutate], bytes]
"""One that knows the form."""

_VALUE: Final = re.compile(rb'(?<=[:\[,])(?:"(?:[^"\\\n]|\\.)*"|-?[0-9]+)(?!\s*:)')
_NUMBERS: Final = [str(number).encode() for number in (0, 1, 2, -1, 2**31, 2**53, 2**63, 2**64 - 1, 2**64, 10**310)]
_TEXTS: Final = [b'""', b'"\\u001b]0;x\\u0007\\n"', b'"\\u202e"', '"\u2028\u200b\xad"'.encode(), b'"\\\\x1b"', b'"a/b"']
_FIELDS: Final = [
    (field, _NUMBERS)
    for field in (
        *(b"pid", b"tid", b"ppid", b"uid", b"userns", b"parent", b"entered_tid", b"lifetime_ns", b"teardown_ns"),
        *(b"members", b"duration_ns", b"exit_code", b"count", b"skipped", b"missed", b"events", b"lost", b"schema"),
    )
] + [
    (field, _TEXTS)
    for field in (
        *(b"cause", b"error", b"comm", b"cgroup", b"container_id", b"pod_uid", b"name", b"command", b"plugin"),
        *(b"ifname", b"netns_path", b"args", b"traceparent", b"environment", b"signal", b"node", b"kernel", b"tier"),
    )
]


def slots(content: bytes, choose: random.Random, mutate: Mutate) -> bytes:
    """A ring: records change places or a part of what they say, and have headers that fit."""
    records = _records(content)
    if not records:
        return mutate(content, len(content) + 256)
    at, other = choose.randrange(len(records)), choose.choice(records)
    match choose.randrange(5):
        case 0:
            records.insert(at, other)
        case 1:
            del records[at]
        case 2:
            records[at] = mutate(records[at], len(records[at]) + 256)
        case 3:
            records[at] = mutate(records[at], len(records[at])).ljust(len(records[at]), b"\0")
        case 4:  # what belongs together says the same in several places: a cookie, a pid, the time of a start
            field = choose.randrange(0, 128, 4)
            records[at] = records[at][:field] + other[field : field + 8] + records[at][field + 8 :]
    return b"".join(len(one).to_bytes(4, "little") + bytes(4) + one + bytes(-len(one) % 8) for one in records)


def _records(content: bytes) -> list[bytes]:
    found, at = [], 0
    while at + HEADER < len(content):
        size = int.from_bytes(content[at : at + 4], "little") % DISCARD
        found.append(content[at + HEADER : at + HEADER + size])
        at += HEADER + (size + 7 & ~7)
    return found


def json_lines(raw: bytes, choose: random.Random, mutate: Mutate) -> bytes:
    """JSON: a value becomes another of its kind, or there is one more."""
    found = list(_VALUE.finditer(raw))
    if not found:
        return mutate(raw, len(raw) + 256)
    old = choose.choice(found)
    if choose.randrange(2):
        field, values = choose.choice(_FIELDS)
        new = b'%s,"%s":%s' % (old[0], field, choose.choice(values))
    elif not old[0].startswith(b'"'):
        new = choose.choice(_NUMBERS)
    elif choose.randrange(2):
        new = choose.choice(_TEXTS)
    else:
        new = b'"%s"' % mutate(old[0][1:-1], len(old[0]) + 64)
    return raw[: old.start()] + new + raw[old.end() :]
