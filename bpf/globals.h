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
struct mounted *keep_mounted;
enum record_type keep_record_type;
enum cause keep_cause;
enum edge keep_edge;
enum phase keep_phase;
enum refuser keep_refuser;
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

/* Addresses in the kernel. */

/* Found once by cni_host. The host's netns never goes away, so its address is its identity. */
static struct net *host_net;
static const struct proc_ns_operations *net_ns_operations;
static const struct pid_namespace *own_pid_ns; /* the collector's */
static const struct super_block *nsfs;

/* Learnt from the first run of cleanup_net() instead of from kallsyms, which the machine may hide. */
static void *cleanup_net;

/* The snapshot. */

/* It walks the kernel's list of namespaces, or has: it finds what was born before. */
static bool snapshot_walks;

/* Where it writes a path. */
struct cgroup_record snapshot_cgroup;

/* Mounts of network namespaces. */

/* Mapped by Python. Only the reader has it written, so one is enough. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mounts);
} mounts SEC(".maps");

#define MOUNT_NAME 255 /* bytes, NAME_MAX of the kernel */
#define MOUNT_DIRECTORY \
	1024 /* bytes of the path ahead of the last name, a power of two; longer ones are hidden */
#define MOUNT_PATH (MOUNT_DIRECTORY + 1 + MOUNT_NAME)
#define MOUNT_STACK 8 /* mounts on one place */

/* A walk through the mounts of one mount namespace. */
struct mount_walk {
	const struct mnt_namespace *mnt_ns;
	const struct mount *root_mount; /* with `root`: where paths begin */
	const struct dentry *root;
	const void *next; /* a mount or, to 6.17, its place in a list */
	const struct mount *mount; /* the one that it has come to */
	const struct mount *parent; /* with `directory`: whose path stands in `path`, up to MOUNT_DIRECTORY */
	const struct dentry *directory;
	const struct mount *up_mount; /* with `up`: how far the way from there to the root is known */
	const struct dentry *up;
	__u64 cookie; /* of the namespace that is mounted */
	__u32 inum;
	__u32 start; /* of the path */
	__u32 end;
	__u32 exposure; /* of the mount, and of the directory that it is in: enum exposure */
	__u32 directory_exposure;
	__u32 equal; /* bytes of the path that are those that are looked for; here, the verifier does not
			count */
	bool up_is_mounted; /* the way leads out of a mount, which stands at `up` */
	bool ended; /* it came to the end of the list */
	struct {
		__u64 cookie;
		__u32 inum;
	} found[2]; /* on the path that is looked for: as it is written, and by a link */
	char path[MOUNT_PATH + 1];
};

/* The reader's walk, of cni_mounts. */
static struct mount_walk list_walk;

/* Those of cni_exec: too much for its stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mount_walk);
} path_walks SEC(".maps");

/* The audit. */

/* Namespaces on the kernel's list that are not tracked, by cookie. Python empties it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024); /* more are for the next audit */
	__type(key, __u64);
	__type(value, struct tracked);
} untracked SEC(".maps");

/* Where cni_tracked and cni_inside write. Only the reader runs them. */
static struct audited audited;
static __u64 audited_member;

/* Tasks. */

/* A system call that can change the namespace of a task. */
enum syscall {
	SYSCALL_NONE = 0,
	SYSCALL_SETNS,
	SYSCALL_UNSHARE,
	SYSCALL_CLONE, /* or clone3 */
	SYSCALL_DONE, /* its outcome was seen before its end */
	SYSCALL_BEFORE = 8, /* with one of them: the snapshot met the task in it, or it has just returned */
};

/* The kernel once had no memory for the state of a task: it may lack that at the end of a system call. */
static bool states_wanting;

struct netns {
	__u64 net; /* its address, while it lives */
	__u64 cookie;
	__u32 inum;
	__u32 userns;
};

/* What is known of one task. It survives exec, also by a thread that is not the leader. */
struct task_state {
	struct netns prev; /* where it was when the system call began */
	struct netns before; /* where the snapshot met it in a system call */
	struct netns target; /* where the system call would lead, if the fd says so */
	struct netns entered; /* what it has entered and not left; none: cookie 0 */
	__u64 created; /* cookie of the last namespace that it made itself, whose birth was reported */
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

/* Four bytes of a text, as they are read at once. */
#define WORD(a, b, c, d) ((__u32)(a) | (__u32)(b) << 8 | (__u32)(c) << 16 | (__u32)(d) << 24)

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
