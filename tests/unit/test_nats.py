"""The stream of a cluster: names of nodes in subjects."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_collector.exporters.nats import node_of, server_name, token
from cni_collector.exporters.relay import Idents

ALLOWED = set(string.ascii_letters + string.digits + "-_%~")


@given(st.text(min_size=1))
def test_any_name_is_one_part_of_a_subject_and_comes_back(node: str) -> None:
    node = node.encode("utf-8", "replace").decode()
    assert set(token(node)) <= ALLOWED
    assert node_of(f"cni.{token(node)}.netns_enter") == node


@pytest.mark.parametrize(
    ("node", "part"),
    [
        ("ip-10-0-3-7.eu-west-1.compute.internal", "ip-10-0-3-7_eu-west-1_compute_internal"),
        ("a_b", "a%5Fb"),
        ("*.>", "%2A_%3E"),
        ("grün", "gr%C3%BCn"),
    ],
)
def test_names_as_they_are_in_subjects(node: str, part: str) -> None:
    assert token(node) == part


def test_messages_show_no_password() -> None:
    assert server_name("nats://user:secret@example.com:4222") == "nats://example.com:4222"
    assert server_name("tls://token@example.com") == "tls://example.com"


def test_no_two_events_have_one_name() -> None:
    runs = [Idents(), Idents()]
    names = [run.next() for run in runs for _ in range(1000)]
    assert len(set(names)) == len(names)
