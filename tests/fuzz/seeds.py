"""What mutation starts from: inputs as the kernel, libcni and `watch -o json` write them. Random bytes get nowhere."""

from __future__ import annotations

from typing import Any, Final

from ..unit.records import (
    cgroup_record,
    cni_end_record,
    cni_entered_record,
    cni_start_record,
    full,
    netns_record,
    slot,
)

HOST: Final = (1, 4026531840)
BLUE: Final = (4097, 4026532001)
"""Cookie and inode number."""
BLUE_PATH: Final = "/run/netns/blue"
_ID: Final = b"0123456789abcdef" * 4
_POD: Final = b"0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
_STATIC: Final = b"6d" * 16
_Fields = dict[str, Any]
_IP: Final[_Fields] = {"time": 10**12, "pid": 10, "tid": 11, "ppid": 1, "comm": b"ip", "cgroup": 99, "hierarchy": 5}
_THERE: Final[_Fields] = {"cookie": BLUE[0], "inum": BLUE[1], "userns": 4026531837}
_FROM_HOST: Final[_Fields] = {"other_cookie": HOST[0], "other_inum": HOST[1]}
_BRIDGE: Final[_Fields] = {"time": 10**12, "pid": 20, "tid": 20, "ppid": 10, "comm": b"bridge", "started": 5}

_ARGS: Final = b"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=" + _POD
_VARIABLES: Final = (
    b"CNI_COMMAND=ADD",
    b"CNI_CONTAINERID=" + _ID,
    b"CNI_NETNS=/var" + BLUE_PATH.encode(),
    b"CNI_IFNAME=eth0",
    b"CNI_ARGS=" + _ARGS,
    b"TRACEPARENT=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)

_CGROUP: Final = cgroup_record(_ID, b"pod" + _POD, b"kubepods", ident=99, hierarchy=5)
_CREATE, _ENTER, _LEAVE, _DESTROY, _NO_CREATE, _NO_ENTER, _FOUND = (
    netns_record(type=kind, cause=cause, error=error, **_THERE, **_FROM_HOST, **_IP)
    for kind, cause, error in ((1, 1, 0), (2, 2, 0), (3, 3, 0), (4, 0, 0), (5, 1, 28), (6, 3, 1), (7, 0, 0))
)
_IN_HOST: Final[_Fields] = {
    "own_cookie": HOST[0],
    "own_inum": HOST[1],
    "path_cookie": BLUE[0],
    "path_inum": BLUE[1],
}
_BEGIN: Final = cni_start_record(b"/opt/cni/bin/bridge", *_VARIABLES, **_IN_HOST, **_BRIDGE)
_END: Final = cni_end_record(status=0x0100, duration=18_400_000, **_BRIDGE)
_BEGIN_CUT: Final = cni_start_record(b"/opt/cni/bin/bridge", *_VARIABLES[:5], cut=1, **(_BRIDGE | {"pid": 21}))
_END_CUT: Final = cni_end_record(unreadable=1, status=9, duration=1, **(_BRIDGE | {"pid": 21}))
_OUTER: Final[_Fields] = {"outer": 20, "outer_started": 5}
_PATH: Final = b"CNI_PATH=/opt/cni/bin:/usr/lib/cni"
_DELEGATE, _HELPER = (
    cni_start_record(path, *_VARIABLES, _PATH, type=kind, args=b"x\0-t\0nat\0", **_OUTER, **(_BRIDGE | {"pid": pid}))
    for kind, pid, path in ((8, 22, b"/opt/cni/bin/host-local"), (10, 23, b"/usr/sbin/iptables"))
)
_ENDS: Final = [cni_end_record(nested=1, helper=pid == 23, duration=1, **(_BRIDGE | {"pid": pid})) for pid in (22, 23)]
_ROOTLESS: Final = cni_start_record(b"/x/bridge", *_VARIABLES, trusted=0, **(_BRIDGE | {"pid": 24}))
_ENTERED: Final = [cni_entered_record(pid, 5, *where) for pid in (20, 23) for where in (BLUE, (4098, 4026532002))]
_ROOTLESS_END: Final = cni_end_record(
    trusted=0, entered_cookie=BLUE[0], entered_inum=BLUE[1], **(_BRIDGE | {"pid": 24})
)

RECORDS: Final = [
    b"".join(map(slot, ring))
    for ring in (
        [_CGROUP, _CREATE, _ENTER, _LEAVE],
        [full(_CGROUP), _LEAVE, _DESTROY],
        [_NO_CREATE, _NO_ENTER],
        [_CREATE, _BEGIN, _ENTER, _END, _DESTROY],
        [_BEGIN_CUT, _END_CUT, _END],
        [_CREATE, _BEGIN, _DELEGATE, _HELPER, _ENTERED[2], _ENTER, *_ENDS, _END],
        [_BEGIN, *_ENTERED, _END, _ROOTLESS, _ROOTLESS_END],
    )
]
SNAPSHOTS: Final = [_CGROUP + _FOUND + _FOUND, _FOUND, cgroup_record(ident=1) + _FOUND]

ENVIRONMENTS: Final = [b"\0".join(_VARIABLES), b"PATH=/bin\0CNI_COMMAND=\0CNI_COMMAND=DEL\0CNI_ARGS=\0CNI_IFNAME"]
NAMES: Final = [variable.partition(b"=")[0] + b"=" for variable in _VARIABLES]

ARGUMENTS: Final = [_ARGS, b"K8S_POD_NAME=a;K8S_POD_NAMESPACE=b;K8S_POD_NAME=c;;="]
KEYS: Final = [b"K8S_POD_NAMESPACE=", b"K8S_POD_NAME=", b"K8S_POD_UID=", b";"]

CGROUPS: Final = [
    bytes([depth]) + b"".join(name + b"\0" for name in path.split(b"/"))
    for depth, path in (
        (3, _ID + b"/pod" + _POD + b"/kubepods"),
        (4, b"cri-containerd-" + _ID + b".scope/kubepods-pod" + _POD.replace(b"-", b"_") + b".slice/kubepods.slice"),
        (2, b"kubepods-pod" + _STATIC + b".slice:cri-containerd:" + _ID + b"/containerd.service"),
        (2, b"conmon/" + _ID + b"/libpod_parent"),
    )
]
FORMS: Final = [
    *(_ID, b"pod" + _POD, b"pod" + _POD.replace(b"-", b"_"), b"pod" + _STATIC, b"conmon", b"kubepods.slice", b".slice"),
    *(b".scope", b":cri-containerd:", b"cri-containerd-", b"docker-", b"libpod-payload-", b"crio-", b"/", b"\0", b"\n"),
]

_TIME: Final = b'"time":"2026-11-22T17:49:53.128029475Z"'
_EVENT: Final = _TIME + b',"netns":{"cookie":4097,"inum":4026532001},"userns":4026531837'
_PREV: Final = b',"prev":{"cookie":1,"inum":4026531840}'
_WHO: Final = b'"pid":20,"tid":21,"ppid":1,"uid":5,"comm":"ip","cgroup":"/demo","name":"/run/netns/blue"'
_CALL: Final = _EVENT + b"," + _WHO + b',"pod":{"namespace":"shop","name":"web-0"},"command":"ADD","plugin":"/opt/x"'
LINES: Final = [
    b'{"type":"netns_create",' + _EVENT + _PREV + b',"cause":"clone",' + _WHO + b"}\n"
    b'{"type":"netns_create_failed",' + _TIME + _PREV + b',"cause":"unshare","error":"ENOSPC",' + _WHO + b"}\n",
    b'{"type":"netns_enter",' + _EVENT + _PREV + b',"cause":"setns",' + _WHO + b"}\n",
    b'{"type":"netns_exit",' + _EVENT + b',"cause":"exit",' + _WHO + b',"container_id":"' + _ID + b'","pod_uid":"u",'
    b'"entered_tid":7}',
    b'{"type":"netns_destroy",' + _EVENT + b',"lifetime_ns":2000000000,"teardown_ns":30000000}\n',
    b'{"type":"netns_enter_failed",' + _EVENT + _PREV + b',"cause":"setns","error":"EPERM",' + _WHO + b"}\n",
    b'{"type":"netns_found",' + _EVENT + b',"members":3,"pod":{"uid":"u"}}\n',
    b'{"type":"cni_start",' + _CALL + b',"parent":2,"ifname":"eth0","netns_path":"/x","args":"A=1"}\n'
    b'{"type":"cni_start",' + _CALL + b',"parent":20,"cni_container_id":"abc","environment":"cut"}\n',
    b'{"type":"cni_end",' + _CALL + b',"duration_ns":7,"exit_code":1}\n'
    b'{"type":"cni_end",' + _TIME + b"," + _WHO + b',"duration_ns":7,"signal":"SIGTERM"}',
    b'{"type":"cni_exec",' + _TIME + b"," + _WHO + b',"executable":"/x","call":2,"args":"x -t","duration_ns":7,'
    b'"exit_code":1}\n{"type":"cni_start",' + _CALL + b',"parent":2,"trusted":false}\n',
    b'{"type":"lost",' + _TIME + b',"count":3,"by_type":{"netns_enter":3},"missed":1}\nno event\n\n',
    b'{"type":"collector_start",' + _TIME + b',"schema":1,"version":"0","node":"n","boot_id":"b","kernel":"6.1",'
    b'"arch":"a","tier":"kprobe","host_netns":{"cookie":1,"inum":2},"missing":["exits"]}\n'
    b'{"type":"checkpoint",' + _TIME + b',"namespaces":2,"members":3,"healed":1}\n',
    b'{"type":"collector_stop",' + _TIME + b',"events":2,"lost":3,"missed":4}\n',
]
JSON: Final = [
    *(b'"pid":', b'"parent":', b'"pod":{"namespace":"', b'"name":', b'"comm":"', b'"plugin":"', b'"duration_ns":'),
    *(b'\\u001b[31m"', b"\\u202e", b"\\ud800", b"18446744073709551616", b"-1", b"null", b"1e400", b"9" * 310, b"}\n"),
]

_ENTRY: Final = (
    b'{"kind":"cniCacheV1","containerId":"c1","config":"e30=","ifName":"eth0","networkName":"net","netns":"%s",'
    b'"cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAMESPACE","shop"],["K8S_POD_NAME","web-%d"],["K8S_POD_UID","u"]],'
    b'"result":{"cniVersion":"1.0.0","interfaces":[{"name":"veth1"},{"name":"eth0","sandbox":"%s"}],"ips":[]}}'
)
ENTRIES: Final = [
    _ENTRY % (b"/var/run/netns/blue", 0, b"/var/run/netns/blue"),
    _ENTRY % (b"", 0, b"/run/netns/old"),
    _ENTRY % (b"/run/netns/blue", 0, b"") + b"\n" + _ENTRY % (b"/var/run/netns/blue", 1, b""),
    _ENTRY % (b"/proc/42/ns/net", 0, b""),
]
