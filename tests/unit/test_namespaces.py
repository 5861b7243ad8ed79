"""What is known of namespaces, by cookie: their names, their pods."""

from __future__ import annotations

import pytest

from cni_collector.events import Netns, Pod
from cni_collector.identity import namespaces
from cni_collector.identity.namespaces import Known, Namespaces

INUM = 4026532001
OLD, YOUNG = Netns(10, INUM), Netns(11, INUM)
WEB, WEB_1 = Pod("shop", "web-0"), Pod("shop", "web-1")
FIRST, SECOND = (7, 1_000), (7, 2_000)
"""Processes of ADDs."""


@pytest.fixture
def known() -> Namespaces:
    return Namespaces()


def pod_of(known: Namespaces, netns: Netns = OLD) -> Pod | None:
    return known.remember(netns.cookie, netns.inum)[2]


def test_a_name_and_a_pod_are_told_until_the_end(known: Namespaces) -> None:
    looked_up: list[Known] = [known.remember(10, INUM), known[10]]
    assert looked_up == [(OLD, None, None)] * 2
    known.name({10: ["/run/netns/blue"]})
    looked_up = [known.remember(10, INUM), known[10]]
    assert looked_up == [(OLD, "/run/netns/blue", None)] * 2
    known.add_pod(OLD, WEB, "c1", FIRST)
    looked_up = [known.remember(10, INUM), known[10]]
    assert looked_up == [(OLD, "/run/netns/blue", WEB)] * 2
    assert known.remember(11, INUM) == (YOUNG, None, None), "another with the same inode number"
    known.gone(OLD)
    assert 10 not in known
    assert known.remember(10, INUM) == (OLD, None, None)


def test_a_fact_that_changes_is_not_told_from_memory(known: Namespaces) -> None:
    for name, pod in (("/a", WEB), ("/b", WEB_1)):
        known.remember(10, INUM)
        known.name({10: [name]})
        assert 10 not in known
        known.remember(10, INUM)
        known.find_pod(OLD, pod)
        assert 10 not in known
        assert known.remember(10, INUM)[1:] == (name, pod)


def test_a_name_that_stays_leaves_what_is_remembered(known: Namespaces) -> None:
    """Mounts change often where there are many namespaces."""
    known.name({10: ["/a"]})
    known.remember(10, INUM)
    known.name({10: ["/b", "/a"], 11: ["/c"]})
    assert 10 in known


def test_what_is_remembered_is_bounded(known: Namespaces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "_BOUND", 8)
    for number in range(1, 100):
        netns = Netns(number, number)
        known.name({number: [f"/{number}"]})
        known.add_pod(netns, WEB, "c1", FIRST)
        assert known.remember(number, number) == (netns, f"/{number}", WEB)
    assert [len(facts) for facts in (known._names, known._claims)] == [8, 8]
    assert 0 < len(known) <= 8
    assert known.remember(91, 91) == (Netns(91, 91), None, None)
    assert known.remember(92, 92) == (Netns(92, 92), "/92", WEB)


# Names.


def test_of_several_paths_the_first_in_order_is_the_name(known: Namespaces) -> None:
    known.name({10: ["/run/netns/b", "/run/netns/a", "/run/netns/c"]})
    assert known.remember(10, INUM)[1] == "/run/netns/a"


def test_a_namespace_that_is_mounted_elsewhere_is_called_by_its_new_path(known: Namespaces) -> None:
    known.name({10: ["/run/netns/a"]})
    known.name({10: ["/run/netns/b"]})
    assert known.remember(10, INUM)[1] == "/run/netns/b"


def test_a_name_is_kept_after_the_unmount_until_the_end(known: Namespaces) -> None:
    known.name({10: ["/run/netns/blue"]})
    known.name({11: ["/run/netns/blue"]})
    assert known.remember(10, INUM)[1] == "/run/netns/blue"
    assert known.remember(11, INUM)[1] == "/run/netns/blue"
    known.gone(OLD)
    assert known.remember(10, INUM)[1] is None


# Pods.


def test_the_first_add_names_the_pod_to_the_end(known: Namespaces) -> None:
    known.add_pod(OLD, WEB, "c1", FIRST)
    for sandbox in ("c1", "c2", None):
        known.add_pod(OLD, WEB_1, sandbox, SECOND)
        assert pod_of(known) == WEB
    assert pod_of(known, YOUNG) is None


def test_an_add_after_a_finished_del_may_name_another(known: Namespaces) -> None:
    known.add_pod(OLD, WEB, "c1", FIRST)
    known.delete_pod(OLD, "c1")
    assert pod_of(known) == WEB, "until then it is what it was"
    known.add_pod(OLD, WEB_1, "c2", FIRST)
    assert pod_of(known) == WEB_1
    known.add_pod(OLD, WEB, "c1", FIRST)
    assert pod_of(known) == WEB_1, "that is the first one again"


@pytest.mark.parametrize(("sandbox", "deleted"), [("c1", "c2"), ("c1", None), (None, None), (None, "c1")])
def test_a_del_of_another_sandbox_changes_nothing(known: Namespaces, sandbox: str | None, deleted: str | None) -> None:
    known.add_pod(OLD, WEB, sandbox, FIRST)
    known.delete_pod(OLD, deleted)
    known.delete_pod(YOUNG, sandbox)
    known.add_pod(OLD, WEB_1, "c3", FIRST)
    assert pod_of(known) == WEB


def test_an_add_that_turns_out_to_be_about_another_namespace(known: Namespaces) -> None:
    known.add_pod(OLD, WEB, "c1", FIRST)
    known.remember(10, INUM)
    assert not known.withdraw_pod(YOUNG, FIRST)
    assert pod_of(known) == WEB
    assert known.withdraw_pod(OLD, FIRST)
    assert known.remember(10, INUM)[2] is None
    known.add_pod(OLD, WEB_1, "c2", SECOND)
    assert pod_of(known) == WEB_1


def test_only_the_add_that_named_the_pod_withdraws_it(known: Namespaces) -> None:
    """Others of its chain name the same pod and sandbox; and a pod that was found is nobody's."""
    known.add_pod(OLD, WEB, "c1", FIRST)
    known.add_pod(OLD, WEB, "c1", SECOND)
    known.find_pod(YOUNG, WEB)
    for netns in (OLD, YOUNG):
        assert not known.withdraw_pod(netns, SECOND)
        assert pod_of(known, netns) == WEB


def test_a_del_of_what_nobody_added(known: Namespaces) -> None:
    known.delete_pod(OLD, "c1")
    known.add_pod(OLD, WEB, "c1", FIRST)
    assert pod_of(known) == WEB


def test_a_pod_that_was_found_is_told_until_an_add_tells(known: Namespaces) -> None:
    known.find_pod(OLD, Pod(uid="u"))
    assert pod_of(known) == Pod(uid="u")
    known.add_pod(OLD, WEB, "c1", FIRST)
    known.add_pod(OLD, WEB_1, "c1", FIRST)
    assert pod_of(known) == WEB


def test_another_namespace_with_the_same_inode_number_begins_anew(known: Namespaces) -> None:
    known.add_pod(OLD, WEB, "c1", FIRST)
    known.gone(OLD)
    assert pod_of(known, YOUNG) is None
    known.add_pod(YOUNG, WEB_1, "c1", FIRST)
    assert pod_of(known, YOUNG) == WEB_1
