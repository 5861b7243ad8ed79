/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * All that outlives the run of a program: what Python sets, what it reads, what the programs remember. A
 * variable is zero until a program sets it.
 */
#ifndef CNI_GLOBALS_H
#define CNI_GLOBALS_H

/* Set before loading: a bit for each record type. The verifier removes the code of the others. */
const volatile __u32 wanted_types = ~0U;

/* These keep what no map names in the object's BTF, for the layout test. */
struct netns_record *keep_netns_record;
struct cni_end_record *keep_cni_end_record;
enum record_type keep_record_type;
enum cause keep_cause;
enum edge keep_edge;
enum netns_state keep_netns_state;
struct audited *keep_audited;

/* Shared with Python. */

struct state state SEC(".data.state") = {};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 * 1024 * 1024);
} ring SEC(".maps");

/* Mapped by Python, so that looking for losses costs no system call. Python sets the CPU count. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lost);
} lost SEC(".maps");

/* Every living namespace but the host's, by cookie. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct tracked);
} tracked SEC(".maps");

/* A namespace found no room there: since then, one that is not tracked may have been reported. */
static bool tracked_overflowed;

/* Addresses in the kernel. */

/* Found once by cni_host. The host's netns never goes away, so its address is its identity. */
static struct net *host_net;
static const struct proc_ns_operations *net_ns_operations;

/* Learnt from the first run of cleanup_net() instead of from kallsyms, which the machine may hide. */
static void *cleanup_net;

/* The snapshot. */

/* It walks the kernel's list of namespaces, or has: it finds what was born before. */
static bool snapshot_walks;

/* Where it writes a path. */
struct cgroup_record snapshot_cgroup;

/* The audit. */

/* Namespaces on the kernel's list that are not tracked, by cookie. Python empties it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024); /* more are for the next audit */
	__type(key, __u64);
	__type(value, struct tracked);
} untracked SEC(".maps");

/* Where cni_tracked and cni_members write. Only the reader runs them. */
static struct audited audited;
static __u64 member_of;

/* Where cni_where writes. Only the reader runs that, so one is enough. */
static struct task_place place;

/* Tasks. */

/* A system call that can change the namespace of a task. */
enum syscall {
	SYSCALL_NONE = 0,
	SYSCALL_SETNS,
	SYSCALL_UNSHARE,
	SYSCALL_CLONE, /* or clone3 */
};

struct netns {
	__u64 net; /* its address, while it lives */
	__u64 cookie;
	__u32 inum;
	__u32 userns;
};

/* What is known of one task. It survives exec, also by a thread that is not the leader. */
struct task_state {
	struct netns prev; /* where it was when the system call began */
	struct netns target; /* where the system call would lead, if the fd says so */
	struct netns entered; /* what it has entered and not left; none: cookie 0 */
	__u64 created; /* cookie of the namespace whose birth was reported ahead of the system call's end */
	__u32 entered_tid; /* its tid when it entered */
	__u32 syscall; /* under way, its outcome unknown */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_state);
} task_states SEC(".maps");

struct cgroup_key {
	__u64 id; /* of the kernfs node: unique within its hierarchy only */
	__u32 hierarchy;
	__u32 epoch;
};

/* Cgroups whose path has been sent. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct cgroup_key);
	__type(value, __u8);
} sent_cgroups SEC(".maps");

/* CNI calls. */

struct cni_call {
	__u64 began;
	__u64 started; /* when its process was, as the process id may have been another's before */
	__u64 unreadable; /* not 0: its environment could not be read, so it may be none */
};

/*
 * Those under way, by process id. Task storage will not do: where a thread that is not the first executes a
 * program, it goes on as the process, and the first one's storage is gone.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct cni_call);
} cni_calls SEC(".maps");

#define CNI_CHUNK 1024 /* bytes of an environment that are looked at in one go */

struct cni_scratch {
	char chunk[CNI_CHUNK];
	struct cni_start_record record;
};

/* Where cni_exec works: too much for its stack. No two runs of a program share a CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cni_scratch);
} cni_scratch SEC(".maps");

static __always_inline bool wanted(__u32 type)
{
	return wanted_types & (1U << type);
}

static __always_inline void count_lost(__u32 type)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct lost *here = bpf_map_lookup_elem(&lost, &cpu);

	/* Atomic: another program that counts the same type can preempt this one on the same CPU. */
	if (here && type < RECORD_TYPES && wanted(type))
		__sync_fetch_and_add(&here->count[type], 1);
}

#endif
