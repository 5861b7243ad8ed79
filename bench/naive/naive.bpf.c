// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * What one would write first, to be measured against: setns and unshare are reported as they are called, with
 * where the caller is then, and each event wakes the reader.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "event.h"

struct ns_common {
	unsigned int inum;
} __attribute__((preserve_access_index));

struct net {
	struct ns_common ns;
} __attribute__((preserve_access_index));

struct nsproxy {
	struct net *net_ns;
} __attribute__((preserve_access_index));

struct task_struct {
	struct nsproxy *nsproxy;
} __attribute__((preserve_access_index));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 * 1024 * 1024);
} ring SEC(".maps");

unsigned long long lost;

static __always_inline int report(const char *call)
{
	const struct task_struct *task = (void *)bpf_get_current_task();
	struct naive_event *event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);

	if (!event) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	event->time = bpf_ktime_get_ns();
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->tid = bpf_get_current_pid_tgid();
	event->uid = bpf_get_current_uid_gid();
	event->inum = BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	__builtin_memcpy(event->call, call, sizeof(event->call));
	bpf_ringbuf_submit(event, BPF_RB_FORCE_WAKEUP);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_setns")
int naive_setns(void *ctx)
{
	return report("setns\0\0");
}

SEC("tracepoint/syscalls/sys_enter_unshare")
int naive_unshare(void *ctx)
{
	return report("unshare");
}

char LICENSE[] SEC("license") = "GPL";
