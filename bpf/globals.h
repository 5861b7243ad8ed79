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
struct mounted *keep_mounted;
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
static const struct pid_namespace *own_pid_ns; /* the collector's */
static const struct super_block *nsfs;

/* Learnt from the first run of cleanup_net() instead of from kallsyms, which the machine may hide. */
static void *cleanup_net;

/* When the present run of cleanup_net() began; 0: it does not run. */
static __u64 cleanup_start;

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

/* Four bytes of a text, as they are read at once. */
#define WORD(a, b, c, d) ((__u32)(a) | (__u32)(b) << 8 | (__u32)(c) << 16 | (__u32)(d) << 24)

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
