"""Who makes CNI calls: whom the kernel side looks at, who is trusted, and which processes belong to a call."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cni_collector import CniEnd, CniExec, CniStart, Collector, Event, Pod
from cni_collector.identity.cni_environment import lies_in_cni_path
from cni_collector.kernel import tiers
from cni_collector.kernel.objects import Object

from ..support.actors import (
    CAP_SYS_ADMIN,
    CLONE_NEWNET,
    NOBODY,
    Puppet,
    a_netns,
    act,
    become_root_of_a_user_namespace,
    drop_capability,
    execute,
    setns,
)
from ..support.watch import EMULATED, TIER, Watch, mark, watching

TRUE, SH, SLEEP, SETSID = (str(shutil.which(name)) for name in ("true", "sh", "sleep", "setsid"))
ARGS = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0"
POD = Pod("shop", "web-0")


def _environment(*more: str, cni_path: str | Path = "/opt/cni/bin") -> list[bytes]:
    said = (
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL=C.UTF-8",
        "CNI_COMMAND=ADD",
        "CNI_CONTAINERID=c1",
        f"CNI_ARGS={ARGS}",
    )
    return [one.encode() for one in (*said, f"CNI_PATH={cni_path}", *more)]


def _told(watch: Watch, since: int, *pids: int) -> list[Event]:
    """The events of these processes about CNI calls; helpers' also where only their call is one of them."""
    watch.settle()
    return [
        event
        for event in watch.events[since:]
        if (isinstance(event, CniStart | CniEnd) and {event.pid, event.parent} & {*pids})
        or (isinstance(event, CniExec) and {event.pid, event.call} & {*pids})
    ]


def _run(*command: str, environment: list[bytes] | None = None) -> int:
    """Runs a program to its end, with the variables of a call: its pid."""
    pid = execute(environment or _environment(), *command)
    os.waitpid(pid, 0)
    return pid


def _program(path: Path, script: str) -> str:
    path.write_text(f"#!{SH}\n{script}\n", encoding="ascii")
    path.chmod(0o755)
    return str(path)


# Whose environment is looked at.


def _as_nobody() -> None:
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _without_sys_admin() -> None:
    """As root in a container, that of a hostNetwork pod, too."""
    drop_capability(CAP_SYS_ADMIN)


@pytest.mark.any_tier
@pytest.mark.parametrize("become", [_as_nobody, _without_sys_admin])
def test_who_may_not_enter_a_namespace_makes_no_call(watch: Watch, become: Callable[[], None]) -> None:
    since = len(watch.events)

    def play() -> int:
        become()
        return _run(TRUE)

    _, pid = act(play)
    assert _told(watch, since, pid) == []


@pytest.mark.any_tier
def test_the_environment_of_who_becomes_root_by_exec_is_not_believed(watch: Watch) -> None:
    """A set-user-ID program holds every capability, and has the variables of whoever executes it."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        program = f"{place}/program"
        shutil.copy(SH, program)
        os.chmod(program, stat.S_ISUID | 0o755)
        since = len(watch.events)

        def play() -> tuple[int, int]:
            _as_nobody()
            pid = execute(_environment(), program, "-pc", "exit $(id -u)")
            return pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        _, (pid, effective_uid) = act(play)
        assert effective_uid == 0, "set-user-ID does nothing here: nothing is shown by this"
        assert _told(watch, since, pid) == []
        pid = _run(program, "-c", "exit 0")
        assert [event.type for event in _told(watch, since, pid)] == ["cni_start", "cni_end"]


@pytest.mark.any_tier
def test_a_plugin_of_root_whose_file_sets_its_group_is_told(watch: Watch, tmp_path: Path) -> None:
    """Such an exec is "secure", as are those that change a domain of SELinux; root has its rights before."""
    program = tmp_path / "program"
    shutil.copy(TRUE, program)
    os.chown(program, 0, 65534)
    os.chmod(program, stat.S_ISGID | 0o755)
    since = len(watch.events)
    pid = _run(str(program))
    assert [event.type for event in _told(watch, since, pid)] == ["cni_start", "cni_end"]


# Who is trusted.


def test_a_call_in_a_user_namespace_is_not_trusted(watch: Watch) -> None:
    """It is told, with short texts, and names no pod: neither by its path nor by what it enters."""
    since = len(watch.events)
    with a_netns() as (victim, a):
        path = f"/proc/{victim.pid}/ns/net"

        def play(self: Puppet) -> int:
            become_root_of_a_user_namespace()
            environment = _environment(f"CNI_NETNS={path}", f"CNI_IFNAME={'i' * 300}")
            return _run("/usr/bin/env", TRUE, environment=environment)

        with Puppet(play) as untrusted:
            pid = untrusted.end()
        _visit(victim.pid)
        start, end = _told(watch, since, pid)
        about_a = [event for event in watch.events[since:] if event.netns and event.netns.cookie == a]
    for event in (start, end):
        assert isinstance(event, CniStart | CniEnd)
        assert (event.trusted, event.netns, event.pod, event.args) == (False, None, None, ARGS)
        assert (event.netns_path, event.ifname, event.environment) == (path, "i" * 256, "cut")
    assert {event.pod for event in about_a} == {None}


def test_what_one_that_is_not_trusted_enters_is_told_and_is_no_pods(watch: Watch) -> None:
    since = len(watch.events)
    script = f"unshare --net {TRUE}"

    def play() -> int:
        become_root_of_a_user_namespace()
        return _run(SH, "-c", script)

    _, pid = act(play)
    *_, end = _told(watch, since, pid)
    assert isinstance(end, CniEnd)
    assert end.netns
    assert (end.trusted, end.pod) == (False, None)
    born = [event for event in watch.events[since:] if event.netns == end.netns and event.type.startswith("netns_")]
    assert [event.type for event in born][:2] == ["netns_create", "netns_enter"]
    assert {event.pod for event in born} == {None}


def test_a_trusted_call_may_be_in_any_network_namespace(watch: Watch) -> None:
    """As in a kind node, or a privileged pod that sets up others."""
    since = len(watch.events)
    with a_netns() as (victim, a), a_netns() as (node, _):

        def play() -> int:
            setns(os.open(f"/proc/{node.pid}/ns/net", os.O_RDONLY), CLONE_NEWNET)
            return _run(TRUE, environment=_environment(f"CNI_NETNS=/proc/{victim.pid}/ns/net"))

        act(play)
        _visit(victim.pid)
        watch.settle()
    told = [(e.type, e.pod) for e in watch.events[since:] if e.netns and e.netns.cookie == a]
    assert told[2:] == [(kind, POD) for kind in ("cni_start", "cni_end", "netns_enter", "netns_exit")]


@pytest.mark.any_tier
def test_sleepers_that_are_not_trusted_displace_no_other_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there is room for are told whole; of more, the ends are lost, and counted. Others are told as ever."""
    room, more = 4, 3
    with_all_room = tiers.open_object

    def open_object(*arguments: Any, **options: Any) -> Object:
        opened = with_all_room(*arguments, **options)
        opened.map("cni_untrusted").max_entries = room
        return opened

    monkeypatch.setattr(tiers, "open_object", open_object)
    with Collector("cni", tier=TIER) as collector:

        def play(self: Puppet) -> list[int]:
            become_root_of_a_user_namespace()
            pids = [execute(_environment(), SLEEP, "600") for _ in range(room + more)]
            for pid in pids:
                while Path(f"/proc/{pid}/comm").read_text(encoding="ascii") != "sleep\n":
                    time.sleep(0.001)
            self.say(None)
            self.hear()
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            return pids

        with Puppet(play) as sleepers:
            sleepers.hear()
            pid = _run(TRUE)
            pids = sleepers.end()
    events = [event for event in collector.events() if isinstance(event, CniStart | CniEnd)]
    assert [(event.type, event.trusted) for event in events if event.pid == pid] == [
        ("cni_start", None),
        ("cni_end", None),
    ]
    told = Counter((event.type, event.trusted) for event in events if event.pid in pids)
    assert told == {("cni_start", False): room + more, ("cni_end", False): room}
    assert collector.stats.lost_by_type == {"cni_end": more}


# Plugins and helpers.


def test_plugins_are_calls_and_helpers_are_not(watch: Watch, tmp_path: Path) -> None:
    """A delegate lies in CNI_PATH; of helpers, and of theirs, each is told once, at its end, by whose it is."""
    _program(tmp_path / "delegate", f"{TRUE} of the delegate; exit 3")
    plugin = _program(
        tmp_path / "plugin", f"{TRUE} -t 'a b'\n{tmp_path}/./delegate\n{SH} -c '{TRUE}; kill -9 $$'\nexit 0"
    )
    since = len(watch.events)
    pid = _run(plugin, environment=_environment(cni_path=f"/nowhere:{tmp_path}/"))
    told = _told(watch, since, pid)
    delegate = next(event.pid for event in told if isinstance(event, CniStart) and event.pid != pid)
    told = _told(watch, since, pid, delegate or 0)
    calls = [(e.type, os.path.basename(e.plugin or ""), e.parent) for e in told if isinstance(e, CniStart | CniEnd)]
    assert calls == [
        ("cni_start", "plugin", os.getpid()),
        ("cni_start", "delegate", pid),
        ("cni_end", "delegate", pid),
        ("cni_end", "plugin", os.getpid()),
    ]
    helpers = [(e.call, e.executable, e.args, e.exit_code, e.signal) for e in told if isinstance(e, CniExec)]
    assert helpers == [
        (pid, TRUE, f"{TRUE} -t a b", 0, None),
        (delegate, TRUE, f"{TRUE} of the delegate", 0, None),
        (pid, TRUE, TRUE, 0, None),
        (pid, SH, f"{SH} -c {TRUE}; kill -9 $$", None, "SIGKILL"),
    ]
    ends = [event for event in told if isinstance(event, CniExec)]
    assert all(event.duration_ns > 0 and event.uid == 0 and event.comm and event.netns is None for event in ends)


@pytest.mark.any_tier
@pytest.mark.parametrize(
    ("path", "cni_path"),
    [
        ("{here}/true", "{here}"),
        ("{here}/true", "/nowhere:{here}"),
        ("{here}/true", "/nowhere:{here}/:/elsewhere"),
        ("{here}/true", "/..{here}/../{name}/."),
        ("/.//..{here}///./true", "//{here}//"),
        ("{here}/sub/../true", "{here}/sub/.."),
        ("./true", ":./sub/..:"),
        ("sub/../true", "./././"),
        ("sub/true", "/nowhere:sub"),
        ("{here}/..odd/true", "{here}/..odd"),
        ("{here}/.../true", "{here}/..."),
        ("{here}/sub/true", "{here}"),
        ("{here}/true", "{here}/sub"),
        ("{here}/true", "{here}x:{here}/true:/"),
        ("{here}/true", ""),
        ("{here}/true", ":::"),
        ("{here}/true", "."),
        ("/bin/true", "bin"),
        ("{here}/true", "relative:../{name}"),
        ("{here}/true", "/.../../{here}x"),
    ],
)
def test_what_lies_in_cni_path_is_a_plugin(watch: Watch, tmp_path: Path, path: str, cni_path: str) -> None:
    """The kernel side says so of names; `list --cni` by Python's normalisation: they agree."""
    for directory in (tmp_path, *(tmp_path / name for name in ("sub", "..odd", "..."))):
        directory.mkdir(exist_ok=True)
        _program(directory / "true", "exit 0")
    path, cni_path = (one.format(here=tmp_path, name=tmp_path.name) for one in (path, cni_path))
    since = len(watch.events)
    pid = _run(SH, "-c", f"cd {tmp_path} && env {path}; :", environment=_environment(cni_path=cni_path))
    told = [event for event in _told(watch, since, pid) if event.pid != pid]
    plugin = lies_in_cni_path(path.encode(), [b"CNI_PATH=" + cni_path.encode()])
    assert [event.type for event in told] == (["cni_start", "cni_end"] if plugin else ["cni_exec"])
    if plugin:
        assert isinstance(told[0], CniStart)
        assert told[0].plugin == path


@pytest.mark.any_tier
@pytest.mark.parametrize(("names", "plugin"), [(63, True), (64, False)])
def test_a_path_that_is_too_deep_lies_nowhere(watch: Watch, tmp_path: Path, names: int, plugin: bool) -> None:
    deep = tmp_path / "/".join("d" * (names - len(tmp_path.parts)))
    deep.mkdir(parents=True)
    program = _program(deep / "true", "exit 0")
    assert program.count("/") == names
    since = len(watch.events)
    pid = _run(SH, "-c", f"{program}; :", environment=_environment(cni_path=deep))
    told = [event.type for event in _told(watch, since, pid) if event.pid != pid]
    assert told == (["cni_start", "cni_end"] if plugin else ["cni_exec"])


@pytest.mark.any_tier
@pytest.mark.alone  # what others do beside it is in both sums, but not at the same moment
def test_what_is_lost_of_plugins_and_helpers_is_counted_as_what_it_was(tmp_path: Path) -> None:
    """Nobody reads: the ring holds some of many plugins, their delegates, helpers, and helpers that become plugins."""
    plugins = 24 if EMULATED else 60
    _program(tmp_path / "delegate", "exit 0")
    plugin = _program(tmp_path / "plugin", f"{TRUE}; {tmp_path}/delegate; env nice {TRUE}; env {tmp_path}/delegate; :")
    with watching() as witness:
        mark(witness)
        with Collector("cni", tier=TIER, types=[CniStart, CniEnd, CniExec], ring_bytes=1 << 16) as collector:
            for _ in range(plugins):
                _run(plugin, environment=_environment(cni_path=tmp_path))
        list(collector.events())
        mark(witness)
    happened = Counter(e.type for e in witness.between() if isinstance(e, CniStart | CniEnd | CniExec))
    assert min(happened.values()) >= 2 * plugins
    stats = collector.stats
    assert set(stats.lost_by_type) == {"cni_start", "cni_end", "cni_exec"}
    assert Counter(stats.received_by_type) + Counter(stats.lost_by_type) == happened


@pytest.mark.any_tier
def test_the_arguments_of_a_helper_have_256_bytes(watch: Watch, tmp_path: Path) -> None:
    since = len(watch.events)
    pid = _run(SH, "-c", f"{TRUE} {'x' * 1000}; {TRUE} a '' b; :")
    args = [event.args for event in _told(watch, since, pid) if isinstance(event, CniExec)]
    assert args == [f"{TRUE} {'x' * 1000}"[:256], f"{TRUE} a  b"]


def test_a_helper_that_executes_a_plugin_becomes_one(watch: Watch, tmp_path: Path) -> None:
    """A delegate under chroot, in a mount namespace of its own."""
    _program(tmp_path / "delegate", "exit 0")
    plugin = _program(tmp_path / "plugin", f"unshare --mount chroot / {tmp_path}/delegate; :")
    since = len(watch.events)
    pid = _run(plugin, environment=_environment(cni_path=tmp_path))
    told = _told(watch, since, pid)
    assert [(e.type, os.path.basename(e.plugin or "")) for e in told if isinstance(e, CniStart | CniEnd)] == [
        ("cni_start", "plugin"), ("cni_start", "delegate"), ("cni_end", "delegate"), ("cni_end", "plugin"),
    ]  # fmt: skip
    assert not [event for event in told if isinstance(event, CniExec)]


def test_what_a_helper_did_before_it_became_a_plugin_is_not_the_plugins(watch: Watch, tmp_path: Path) -> None:
    """Neither its time nor the namespace that it entered, which is then the plugin's own: the caller's it is."""
    _program(tmp_path / "delegate", "exit 0")
    since = len(watch.events)
    with a_netns() as (holder, a):
        enter = f"nsenter --net=/proc/{holder.pid}/ns/net {SH} -c 'sleep 1; exec {tmp_path}/delegate'"
        plugin = _program(tmp_path / "plugin", f"{enter}; :")
        pid = _run(plugin, environment=_environment(cni_path=tmp_path))
        delegate, caller = (event for event in _told(watch, since, pid) if isinstance(event, CniEnd))
    assert 0 < delegate.duration_ns < 900_000_000 < caller.duration_ns
    assert delegate.netns is None
    assert caller.netns
    assert caller.netns.cookie == a


@pytest.mark.parametrize(
    "how",
    [
        f"subprocess.run([{TRUE!r}])",
        f"thread(lambda: subprocess.run([{TRUE!r}]))",
        f"thread(lambda: thread(lambda: subprocess.run([{TRUE!r}])))",
        f"os.fork() or os.execv({TRUE!r}, ['true']); os.wait()",
        f"os.fork() or (os.fork() or os.execv({TRUE!r}, ['true']), os.wait(), os._exit(0)); os.wait()",
        f"thread(lambda: os.execv({SH!r}, ['sh', '-c', '{TRUE}; :']))",
    ],
    ids=["a child", "a thread", "a thread's thread", "fork", "two forks", "a thread that goes on as the process"],
)
def test_whoever_forks_a_helper_it_is_the_plugins(watch: Watch, how: str) -> None:
    script = f"""if True:
        import os, subprocess, threading
        def thread(run):
            one = threading.Thread(target=run)
            one.start()
            one.join()
        {how}
    """
    since = len(watch.events)
    pid = _run(sys.executable, "-c", script)
    told = _told(watch, since, pid)
    assert [event.type for event in told] == ["cni_start", "cni_exec", "cni_end"]
    assert (getattr(told[1], "call", None), getattr(told[1], "executable", None)) == (pid, TRUE)


def test_a_plugin_that_forks_is_one_call(watch: Watch) -> None:
    since = len(watch.events)
    pid = _run(SH, "-c", "(exit 1); (exit 2) & wait")
    assert [event.type for event in _told(watch, since, pid)] == ["cni_start", "cni_end"]


def test_what_a_plugin_leaves_behind_is_no_call(watch: Watch, tmp_path: Path) -> None:
    """It is a helper of the call, and so is what it executes, when the call has ended long before."""
    done, go = tmp_path / "done", tmp_path / "go"
    os.mkfifo(go)
    daemon = f"{SETSID} {SH} -c 'read line <{go}; {TRUE}; echo >{done}' >{os.devnull} 2>&1 &"
    since = len(watch.events)
    pid = _run(SH, "-c", daemon)
    watch.wait(lambda event: isinstance(event, CniEnd) and event.pid == pid, since)
    go.write_text("go\n", encoding="ascii")

    def told() -> list[CniExec]:
        return [event for event in watch.events[since:] if isinstance(event, CniExec) and event.call == pid]

    watch.until(lambda: len(told()) == 2)
    assert [event.executable for event in told()] == [TRUE, SETSID]
    assert [event.type for event in _told(watch, since, pid)] == ["cni_start", "cni_end", "cni_exec", "cni_exec"]


def test_a_process_after_a_call_belongs_to_none(watch: Watch) -> None:
    """What the runtime does next begins a call of its own."""
    for _ in range(3):
        since = len(watch.events)
        pids = [_run(SH, "-c", f"{TRUE}; :"), _run(TRUE)]
        kinds = [event.type for event in _told(watch, since, *pids)]
        assert kinds == ["cni_start", "cni_exec", "cni_end", "cni_start", "cni_end"]


@pytest.mark.any_tier
def test_helpers_alone_can_be_asked_for() -> None:
    with watching("--type", "cni_exec") as helpers, watching("--type", "cni_end") as calls:
        pid = _run(SH, "-c", f"{TRUE}; :")
        calls.wait(lambda event: isinstance(event, CniEnd) and event.pid == pid)
        helpers.wait(lambda event: isinstance(event, CniExec) and event.call == pid)
        for one, kind in ((helpers, "cni_exec"), (calls, "cni_end")):
            assert one.stop().lost == 0
            assert {event.type for event in one.events[1:-1]} == {kind}


# Which namespace a call is about.


def _visit(pid: int) -> None:
    """Goes into the namespace of a process, and out by ending."""
    act(lambda: setns(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY), CLONE_NEWNET))


def _end(watch: Watch, since: int, pid: int) -> CniEnd:
    end = _told(watch, since, pid)[-1]
    assert isinstance(end, CniEnd)
    return end


SETNS = (
    "import ctypes, os, threading\nsetns = lambda pid: ctypes.CDLL(None).setns(os.open(f'/proc/{pid}/ns/net', 0), 0)\n"
)


@pytest.mark.parametrize(
    "how",
    [
        "setns(A)",
        "setns(A); setns(HOME); setns(A)",
        "one = threading.Thread(target=setns, args=(A,)); one.start(); one.join()",
        "os.fork() or (setns(A), os._exit(0)); os.wait()",
        "os.fork() or (os.fork() or (setns(A), os._exit(0)), os.wait(), os._exit(0)); os.wait()",
        "os.system(f'nsenter --net=/proc/{A}/ns/net true')",
    ],
    ids=["itself", "and back", "a thread", "a child", "a grandchild", "a helper"],
)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["on the host", "in a node"])
def test_a_call_is_about_the_namespace_that_it_enters(watch: Watch, how: str, elsewhere: bool) -> None:
    """Whatever its path says. From then on that namespace's events have the pod."""
    since = len(watch.events)
    with a_netns() as (holder, a), a_netns() as (node, _):

        def play() -> int:
            if elsewhere:
                setns(os.open(f"/proc/{node.pid}/ns/net", os.O_RDONLY), CLONE_NEWNET)
            home = node.pid if elsewhere else os.getppid()
            script = f"{SETNS}A, HOME = {holder.pid}, {home}\n{how}"
            return _run(sys.executable, "-c", script, environment=_environment("CNI_NETNS=/nowhere"))

        _, pid = act(play)
        end = _end(watch, since, pid)
        assert end.netns
        assert (end.netns.cookie, end.pod, end.exit_code) == (a, POD, 0)
        holder.end()
    watch.destroyed(a)
    about = [(e.type, e.pod) for e in watch.events[since:] if e.netns and e.netns.cookie == a]
    assert about[:2] == [("netns_create", None), ("netns_enter", None)]
    assert {pod for _, pod in about[2:]} == {POD}


@pytest.mark.parametrize("how", ["unshare --net true", "ip netns exec nowhere true; unshare --net true"])
def test_a_namespace_that_a_call_makes_is_entered_too(watch: Watch, how: str) -> None:
    since = len(watch.events)
    pid = _run(SH, "-c", f"{how}; :")
    end = _end(watch, since, pid)
    born = [e.netns for e in watch.events[since:] if e.type == "netns_create" and e.netns == end.netns]
    assert len(born) == 1


def test_a_call_that_enters_two_namespaces_is_about_none(watch: Watch) -> None:
    """And neither is the pod's: of the first it was told in between, and is not any more."""
    since = len(watch.events)
    with a_netns() as (one, a), a_netns() as (two, b):
        pid = _run(sys.executable, "-c", f"{SETNS}setns({one.pid}); setns({two.pid}); setns({one.pid})")
        assert (_end(watch, since, pid).netns, _end(watch, since, pid).pod) == (None, POD)
        later = len(watch.events)
        for holder in (one, two):
            _visit(holder.pid)
        watch.settle()
    pods = {event.pod for event in watch.events[later:] if event.netns and event.netns.cookie in (a, b)}
    assert pods == {None}


def test_its_own_namespace_is_none_that_it_enters(watch: Watch) -> None:
    since = len(watch.events)
    pid = _run(sys.executable, "-c", f"{SETNS}setns({os.getpid()})")
    assert _end(watch, since, pid).netns is None


def test_what_a_delegate_enters_its_caller_is_about_too(watch: Watch, tmp_path: Path) -> None:
    since = len(watch.events)
    with a_netns() as (holder, a):
        _program(tmp_path / "delegate", f"nsenter --net=/proc/{holder.pid}/ns/net true")
        plugin = _program(tmp_path / "plugin", f"{tmp_path}/delegate; :")
        pid = _run(plugin, environment=_environment(cni_path=tmp_path))
        ends = [event for event in _told(watch, since, pid) if isinstance(event, CniEnd)]
    assert [(os.path.basename(e.plugin or ""), e.netns and e.netns.cookie) for e in ends] == [
        ("delegate", a),
        ("plugin", a),
    ]


def test_what_is_entered_is_known_whatever_is_asked_for() -> None:
    with watching("--type", "cni_end") as watch, a_netns() as (holder, a):
        pid = _run(sys.executable, "-c", f"{SETNS}setns({holder.pid})")
        end = watch.wait(lambda event: isinstance(event, CniEnd) and event.pid == pid)
        assert end.netns
        assert end.netns.cookie == a
