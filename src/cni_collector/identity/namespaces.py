"""What is known of the namespaces that live, by cookie: their names, and the pods that they are for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from ..events import Netns, Pod

Known = tuple[Netns, str | None, Pod | None]
"""A namespace, its name, its pod."""

_BOUND: Final = 1 << 16
"""Namespaces that facts are kept of: as many as the kernel side tracks."""


Process = tuple[int, int]
"""A process: its id, and when it was started in nanoseconds of CLOCK_BOOTTIME, which makes that unique."""


class _Claim(NamedTuple):
    """Whose a namespace is.

    Attributes:
        pod: the pod that it is for.
        sandbox: CNI_CONTAINERID of the ADD that said so; None where none did.
        by: the process of that ADD, which alone may withdraw it: several ADDs of a chain name the same pod and sandbox.
        over: an ADD may say otherwise from now on.
    """

    pod: Pod
    sandbox: str | None
    by: Process | None
    over: bool


class Namespaces(dict[int, Known]):
    """Looks up by cookie what events about a namespace carry, so that one object serves them all."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[int, str] = {}
        self._claims: dict[int, _Claim] = {}

    def remember(self, cookie: int, inum: int) -> Known:
        """What is known of a namespace that no event was about lately."""
        if len(self) >= _BOUND:
            self.clear()
        claim = self._claims.get(cookie)
        known = self[cookie] = (Netns(cookie, inum), self._names.get(cookie), claim.pod if claim else None)
        return known

    def gone(self, netns: Netns) -> None:
        """The kernel has torn it down."""
        self.pop(netns.cookie, None)
        self._names.pop(netns.cookie, None)
        self._claims.pop(netns.cookie, None)

    def name(self, mounted: Mapping[int, Iterable[str]]) -> None:
        """Events about namespaces that are mounted carry the first of their paths from now on.

        A namespace that is not mounted any more keeps its name until it is gone.

        Args:
            mounted: by cookie, the paths of each namespace that is mounted now: one at least.
        """
        for cookie, paths in mounted.items():
            name = min(paths)
            if self._names.get(cookie) != name:
                self._keep(self._names, cookie, name)

    def find_pod(self, netns: Netns, pod: Pod) -> None:
        """The namespace was a pod's when it was found: that holds until an ADD tells."""
        self._keep(self._claims, netns.cookie, _Claim(pod, None, None, True))

    def add_pod(self, netns: Netns, pod: Pod, sandbox: str | None, by: Process) -> None:
        """A trusted ADD names the pod that a namespace is for.

        The first one holds to the namespace's end. Another counts only when a DEL of the first one's sandbox is over.

        Args:
            netns: the namespace.
            pod: the pod.
            sandbox: CNI_CONTAINERID of the ADD.
            by: the process of the ADD.
        """
        claim = self._claims.get(netns.cookie)
        if claim is None or claim.over:
            self._keep(self._claims, netns.cookie, _Claim(pod, sandbox, by, False))

    def withdraw_pod(self, netns: Netns, by: Process) -> bool:
        """What an ADD has said of the namespace it has said of another one. What others have said stays.

        Args:
            netns: the namespace.
            by: the process of the ADD.

        Returns:
            Whether the namespace has lost its pod by that: then it is the turn of others.
        """
        claim = self._claims.get(netns.cookie)
        if not claim or claim.by != by:
            return False
        del self._claims[netns.cookie]
        self.pop(netns.cookie, None)
        return True

    def delete_pod(self, netns: Netns, sandbox: str | None) -> None:
        """A trusted DEL of a sandbox is over. Events carry the pod still, until another ADD names one.

        Args:
            netns: the namespace.
            sandbox: CNI_CONTAINERID of the DEL.
        """
        claim = self._claims.get(netns.cookie)
        if claim and sandbox is not None and claim.sandbox == sandbox:
            self._claims[netns.cookie] = claim._replace(over=True)

    def _keep(self, facts: dict[int, Any], cookie: int, fact: object) -> None:
        """Events carry the fact from now on. The oldest are forgotten where there are too many."""
        facts[cookie] = fact
        self.pop(cookie, None)
        while len(facts) > _BOUND:
            del facts[next(iter(facts))]
