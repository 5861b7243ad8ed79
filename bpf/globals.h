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

/* There was no room for a namespace: since then, one that is not tracked may have been told of. */
static bool overflowed;

/* Of the kernel's own. */

/* Found once by cni_host. The host's netns never goes away, so its address is its identity. */
static struct net *host_net;
static const struct proc_ns_operations *net_ns_operations;

/* The address of cleanup_net(), learnt from its first run instead of from kallsyms, which the machine may
 * hide. */
static void *cleanup_net;
static __u64 cleanup_start; /* 0: it does not run */

/* Of the snapshot. */

/* Set when it begins: what was born before then, it finds. */
static bool walked;

/* Where it writes a path. */
struct cgroup_record scratch;

/* Nobody but the reader runs cni_where, so one is enough. */
static struct task_place place;

/* Of a task. */

enum call {
	CALL_NONE = 0,
	CALL_SETNS,
	CALL_UNSHARE,
	CALL_CLONE,
};

struct netns {
	__u64 net; /* its address, while it lives */
	__u64 cookie;
	__u32 inum;
	__u32 userns;
};

/* What is known of one task. It survives exec, also by a thread that is not the leader. */
struct task_state {
	struct netns prev; /* where it was when the call began */
	struct netns target; /* where the call would lead, if the fd says so */
	struct netns entered; /* what it has entered and not left; none: cookie 0 */
	__u64 born; /* cookie of the namespace whose birth was told when it was made, during a call */
	__u32 entered_tid; /* its tid when it entered */
	__u32 call; /* under way, its outcome unknown */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_state);
} tasks SEC(".maps");

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
} told SEC(".maps");

/* Of CNI calls. */

/* A process that is a CNI call. */
struct plugin {
	__u64 began;
	__u64 started; /* as its id may have been another's before */
	__u64 unsure; /* not 0: its environment could not be read, so it may be none */
};

/*
 * By process id. Task storage will not do: where a thread that is not the first executes a program, it goes
 * on as the process, and the first one's storage is gone.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct plugin);
} plugins SEC(".maps");

#define CHUNK 1024 /* bytes of an environment that are looked at in one go */

struct space {
	char chunk[CHUNK];
	struct cni_start_record record;
};

/* Where cni_exec works: too much for its stack. No two runs of a program share a CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct space);
} spaces SEC(".maps");

static __always_inline bool wanted(__u32 type)
{
	return wanted_types & (1U << type);
}

static __always_inline void count_lost(__u32 type)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct lost *mine = bpf_map_lookup_elem(&lost, &cpu);

	/* Atomic: a program can be preempted by one of its own kind on the same CPU. */
	if (mine && type < RECORD_TYPES && wanted(type))
		__sync_fetch_and_add(&mine->count[type], 1);
}

#endif
