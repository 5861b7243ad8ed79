"""Which tier this kernel really offers: its hooks are tried, loaded and attached."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path
from typing import Final

from ..errors import AttachError, CollectorError, LoadError, LockdownError, PrivilegeError, UnsupportedError
from .hooks import ALL, TIERS, EventTypes, Hook, Site
from .libbpf import libc, possible_cpus
from .objects import Link, Object, Program
from .preemption import programs_are_preempted
from .wire import LOST, TYPES

TRIALS: Final = {"fentry": "cni_fe_cleanup", "kprobe": "cni_kp_cleanup"}
"""One small program of a tier, to see whether the kernel has such hooks at all."""

SNAPSHOT: Final = ("cni_host", "cni_snapshot", "cni_sweep", "cni_mounts", "cni_inside", "cni_tracked")
"""Programs that are run, not attached."""

OBJECT: Final = Path(__file__).with_name("cni.bpf.o")
"""The compiled kernel side; `make bpf` builds it."""

TRACEFS: Final = "/sys/kernel/tracing"
TRIAL_RING: Final = 1 << 16
"""Bytes; what is only tried reports nothing."""
_INITIAL_PID_NAMESPACE: Final = 0xEFFFFFFC
"""Its inode number (`PROC_PID_INIT_INO`)."""
KPROBES: Final = "/sys/bus/event_source/devices/kprobe"


def sees_all_tasks() -> bool:
    """Whether this process is in the first pid namespace: elsewhere iterators show that namespace's tasks only."""
    return os.stat("/proc/self/ns/pid").st_ino == _INITIAL_PID_NAMESPACE


def preference() -> list[str]:
    """The tiers, the best for this kernel first: fentry costs least, and misses calls where programs are preempted."""
    return ["kprobe", "fentry", "tracepoint"] if programs_are_preempted() else ["fentry", "kprobe", "tracepoint"]


def ensure_tracefs() -> None:
    """Mounts tracefs where it is missing: libbpf looks up there what a tracepoint's number is.

    Raises:
        UnsupportedError: it is not mounted and cannot be.
        PrivilegeError: it is mounted and may not be read.
    """
    places = (TRACEFS, "/sys/kernel/debug/tracing")
    for place in places:
        # Who may not read the tracepoints may still see their directory on some kernels: so a file is opened.
        with contextlib.suppress(OSError), open(f"{place}/events/header_page", "rb"):
            return
    if any(os.path.ismount(place) for place in places):
        raise PrivilegeError(
            f"cannot read the kernel's tracepoints in {TRACEFS}: run as root, or give the process CAP_DAC_READ_SEARCH"
        )
    if libc().mount(b"nodev", os.fsencode(TRACEFS), b"tracefs", 0, None):
        raise UnsupportedError(
            f"cannot find the kernel's tracepoints: tracefs is not mounted and mounting it on {TRACEFS} failed "
            f"({os.strerror(ctypes.get_errno())}); as root: mount -t tracefs nodev {TRACEFS}"
        )


def open_object(programs: list[str], wanted: EventTypes = ALL, ring_bytes: int | None = None) -> Object:
    """Opens the compiled object and sets what must be known before it is loaded.

    Args:
        programs: those to load.
        wanted: types of event to report; the code for the others never reaches the kernel.
        ring_bytes: size of the ring buffer, a power of two and a multiple of the page size; the object's own if None.
    """
    try:
        opened = Object(OBJECT.read_bytes(), programs)
    except FileNotFoundError:
        raise LoadError(f"cannot find the compiled BPF object {OBJECT}: reinstall the package") from None
    except PermissionError:
        raise LoadError(f"cannot read the compiled BPF object {OBJECT}: this user may not look there") from None
    mask = sum(1 << number for number, kind in enumerate(TYPES) if kind is None or kind in wanted)
    opened.map(".rodata").set_initial(mask.to_bytes(4, sys.byteorder))
    opened.map("lost").check_value(LOST.size)
    opened.map("lost").max_entries = possible_cpus()
    if ring_bytes is not None:
        opened.map("ring").max_entries = ring_bytes
    return opened


class AttachedHooks:
    """A loaded object with its hooks attached.

    Attributes:
        tier: name of the set of hooks.
        object: what is loaded.
        missing: hooks that could not be had, and why.
        hooks: the others.
    """

    def __init__(self, tier: str, loaded: Object, missing: dict[Hook, CollectorError]) -> None:
        self.tier = tier
        self.object = loaded
        self.missing = missing
        self.hooks: list[Hook] = []
        self._links: dict[Site, Link] = {}
        self._attached: dict[str, Program] = {}

    def attach(self, hook: Hook) -> None:
        """Attaches all programs of a hook where they are not yet, or none: then the hook is missing."""
        links: dict[Site, Link] = {}
        try:
            for site in hook.sites:
                if site not in self._links:
                    links[site] = self.object.program(site.program).attach(site.tracepoint, site.cookie)
        except AttachError as error:
            for link in links.values():
                link.close()
            self.missing[hook] = error
        else:
            self.hooks.append(hook)
            self._links |= links
            self._attached |= {site.program: self.object.program(site.program) for site in links}

    def skipped(self) -> int:
        """How many runs of its programs the kernel has skipped."""
        return sum(map(Program.skipped, self._attached.values()))

    def skippable(self) -> list[Hook]:
        """Hooks that the kernel skips while a task is preempted in a bpf(2) operation on a map (`trace_call_bpf()`)."""
        if not programs_are_preempted():
            return []
        return [hook for hook in self.hooks if any(map(self._is_skippable, hook.programs))]

    def see_seccomp(self) -> bool:
        """Whether nothing but seccomp keeps the programs from a beginning whose end they see.

        For that, the snapshot must have met all tasks. In another pid namespace it meets only those that are there.
        """
        return self.tier == "tracepoint" and sees_all_tasks() and not programs_are_preempted()

    def _is_skippable(self, program: str) -> bool:
        return self.object.program(program).target.partition("/")[0] in ("kprobe", "kretprobe", "tp")

    def detach(self) -> None:
        """Ends the reporting; what was reported stays in the ring."""
        while self._links:
            self._links.popitem()[1].close()

    def close(self) -> None:
        """Detaches, and takes everything out of the kernel."""
        self.detach()
        self.object.close()


def attach(tier: str | None, wanted: EventTypes, ring_bytes: int) -> AttachedHooks:
    """Loads and attaches the best tier that works here.

    Args:
        tier: the only tier to try; None tries all.
        wanted: types of event to report.
        ring_bytes: size of the ring buffer.

    Raises:
        CollectorError: no tier works, and why.
    """
    if tier is not None:
        return _attach_tier(tier, wanted, ring_bytes)
    open_object([]).close()  # what is missing for every tier is told once
    refusals: dict[str, CollectorError] = {}
    for name in preference():
        try:
            return _attach_tier(name, wanted, ring_bytes)
        except (PrivilegeError, LockdownError):
            raise
        except CollectorError as error:
            refusals[name] = error
    reasons = "; ".join(f"{name}: {error}" for name, error in refusals.items())
    raise UnsupportedError(f"cannot collect here: no tier works ({reasons})") from refusals[name]


def _attach_tier(tier: str, wanted: EventTypes, ring_bytes: int) -> AttachedHooks:
    if error := try_tier(tier):
        raise error
    hooks = [hook for hook in TIERS[tier] if hook.feeds & wanted]
    missing: dict[Hook, CollectorError] = {}
    try:
        loaded = _load(hooks, wanted, ring_bytes)
    except LoadError:
        # One program that this kernel refuses must not cost the others.
        missing = {hook: error for hook in hooks if (error := try_hook(hook))}
        _require(missing)
        hooks = [hook for hook in hooks if hook not in missing]
        loaded = _load(hooks, wanted, ring_bytes)
    attached = AttachedHooks(tier, loaded, missing)
    try:
        find_host(loaded)
        for hook in hooks:
            attached.attach(hook)
        _require(missing)
    except BaseException:
        attached.close()
        raise
    return attached


def find_host(loaded: Object) -> None:
    """Has the kernel side find what its other programs start from: the host's namespace, and where mounts are listed.

    Raises:
        UnsupportedError: it cannot be found.
    """
    with open("/proc/self/ns/net", "rb") as any_namespace:
        refused = loaded.program("cni_host").run(any_namespace.fileno())
    if refused:
        raise UnsupportedError("cannot tell which network namespace is the host's: the first task was not found")


def _load(hooks: list[Hook], wanted: EventTypes, ring_bytes: int) -> Object:
    programs = dict.fromkeys(name for hook in hooks for name in hook.programs)
    loaded = open_object([*SNAPSHOT, *programs], wanted, ring_bytes)
    try:
        loaded.load()
    except BaseException:
        loaded.close()
        raise
    return loaded


def _require(missing: dict[Hook, CollectorError]) -> None:
    for hook, error in missing.items():
        if hook.required:
            raise error


def try_tier(tier: str) -> CollectorError | None:
    """Says why this kernel has no such hooks at all: cheaper, and clearer, than trying each of them."""
    error = _try_tier(tier)
    if isinstance(error, AttachError | PrivilegeError):
        # A kernel that is locked down hides its tracepoints, too, and has no kprobes: that is the reason then.
        try:
            _load([], ALL, TRIAL_RING).close()
        except LockdownError as lockdown:
            return lockdown
        except CollectorError:
            pass
    return error


def _try_tier(tier: str) -> CollectorError | None:
    if tier == "tracepoint":
        try:
            ensure_tracefs()
        except CollectorError as error:
            return error
        return None
    if tier == "kprobe" and not os.path.exists(KPROBES):
        return UnsupportedError(f"this kernel has no kprobes ({KPROBES} is missing): it needs CONFIG_KPROBE_EVENTS=y")
    return try_hook(Hook((TRIALS[tier],), "", frozenset()))


def try_hook(hook: Hook) -> CollectorError | None:
    """Loads and attaches one hook alone, and lets go of it again; says what stood in the way."""
    try:
        attached = AttachedHooks("", open_object(list(hook.programs), ring_bytes=TRIAL_RING), {})
    except CollectorError as error:
        return error
    try:
        attached.object.load()
        attached.attach(hook)
    except CollectorError as error:
        return error
    finally:
        attached.close()
    return attached.missing.get(hook)
