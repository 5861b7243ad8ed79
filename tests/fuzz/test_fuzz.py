"""A short run of every target, and that failures are found."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import typing
from pathlib import Path

import msgspec
import pytest

from cni_collector.events import AnyEvent, NetnsFound
from cni_collector.kernel.wire import TYPES

from . import planted, seeds, targets
from . import run as running
from .run import PATIENCE, run
from .targets import TARGETS

RUNS = int(os.environ.get("CNI_TEST_INPUTS", 4000))
"""Inputs for each target; CI takes more."""

guided = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64") or sys.version_info >= (3, 14),
    reason="atheris is not built for this Python or processor (requirements-dev.txt); anywhere else it must be there",
)


@pytest.mark.parametrize(("name", "number"), [(name, n) for name in TARGETS for n in range(len(TARGETS[name].seeds))])
def test_what_mutation_starts_from_is_in_order(name: str, number: int) -> None:
    TARGETS[name].check(TARGETS[name].seeds[number])


def test_every_type_of_event_is_among_that() -> None:
    """And all of it makes sense: of what is rubbish mutation makes only more."""
    kinds = set()
    for ring in seeds.RECORDS:
        decoder = targets._decoder()
        kinds |= {type(event) for event in targets._one_by_one(ring, decoder)[0]}
        assert decoder.undecodable == 0
    assert kinds == {kind for kind in TYPES if kind} - {NetnsFound}  # comes from the snapshot and from audits
    lines = [line for line in b"\n".join(seeds.LINES).splitlines() if line not in (b"", b"no event")]
    events = [msgspec.json.decode(line, type=AnyEvent) for line in lines]
    assert {type(event) for event in events} == {*typing.get_args(AnyEvent)}


@guided
@pytest.mark.parametrize("name", TARGETS)
def test_inputs_guided_by_coverage(name: str) -> None:
    outcome = run(name, RUNS, seed=1)
    assert (outcome.failure, outcome.inputs >= RUNS) == ("", True), f"{outcome.input}\n{outcome.log}"


@guided
@pytest.mark.parametrize(
    ("name", "failure", "patience"),
    [
        ("raises", "AssertionError: a pod", PATIENCE),  # more than it takes a busy machine to write all that down
        ("hangs", "took longer than 1 s", 1),
    ],
)
def test_a_failure_is_found_and_its_input_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, failure: str, patience: int
) -> None:
    monkeypatch.setattr(running, "FAILURES", tmp_path)
    outcome = run(name, 10**9, seed=1, module=planted.__name__, patience=patience)
    assert outcome.failure == failure
    assert outcome.input is not None
    content = outcome.input.read_bytes()
    assert outcome.input.parent == tmp_path
    assert hashlib.sha1(content).hexdigest() in outcome.input.name
    assert content.startswith(b"a") if name == "hangs" else b"K8S_POD_NAMESPACE=" in content
    assert failure in outcome.cells()[3]
