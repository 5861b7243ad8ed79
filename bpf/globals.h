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
struct cni_entered_record *keep_cni_entered_record;
enum record_type keep_record_type;
enum cause keep_cause;
enum edge keep_edge;

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

/* When the present run of cleanup_net() began; 0: it does not run. */
static __u64 cleanup_start;

/* The snapshot. */

/* It walks the kernel's list of namespaces, or has: it finds what was born before. */
static bool snapshot_walks;

/* Where it writes a path. */
struct cgroup_record snapshot_cgroup;

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

/*
 * A process that may begin a CNI call and has executed a program with CNI_COMMAND in its environment: a
 * plugin or a helper. In what follows, its call is what it does, and what the tasks do that descend from it.
 */
struct cni_call {
	__u64 began;
	__u64 started; /* when its process was, as the process id may have been another's before */
	__u64 own; /* cookie of the namespace that it was in when it began */
	__u64 entered; /* cookie of the first other one that a task of the call has entered */
	__u64 outer_started;
	__u32 outer; /* the process whose call it belonged to already; with `outer_started` */
	__u32 entered_inum; /* written after `entered` */
	__u32 several; /* not 0: tasks of the call have entered another one, too */
	__u32 unreadable; /* not 0: its environment could not be read, so it may be none */
	__u32 plugin; /* not 0: it is one, and not a helper */
	__u32 lost; /* not 0: it began as a helper, and no record says so */
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

/* Those that are not trusted: anybody can begin as many as this has room for, and leave them waiting. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct cni_call);
} cni_untrusted SEC(".maps");

/* The call that a task belongs to: the nearest, where they are nested. */
struct cni_member {
	__u64 started;
	__u32 pid; /* with `started`, the process that began it; 0: the task belongs to none */
};

/* Inherited at each fork, by threads, too: so whichever of them executes a program still has it. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct cni_member);
} cni_members SEC(".maps");

/*
 * Calls under way, and tasks that belong to one, which may outlive it. Where this is 0, forks and exits have
 * nothing to look for. A skipped exit leaves it too high, which costs time and no truth.
 */
static __u64 in_calls;

#define CNI_CHUNK 1024 /* bytes of an environment that are looked at in one go */

#define CNI_DEPTH 64 /* names in a path whose directory is compared; a power of two */

struct cni_scratch {
	char chunk[CNI_CHUNK];
	__u64 directories[CNI_DEPTH]; /* of a path, from the first name on: their hashes */
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
