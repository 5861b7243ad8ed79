/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The contract between the kernel side and Python: every byte that crosses over.
 *
 * Python's half is src/cni_collector/kernel/wire.py; tests/unit/test_layout.py compares the two,
 * field by field, through the BTF of the compiled object. All integers are in the byte order of
 * the machine, times are nanoseconds of CLOCK_BOOTTIME. A cookie, inum, cause, error or time of zero means
 * "does not apply". The first byte of a record is its type. Records have no holes, and all that `length` and
 * the fields cover is written.
 */
#ifndef CNI_RECORD_H
#define CNI_RECORD_H

/* What a record is. Also the bit of the type in `wanted_types` and its slot in `struct lost`. */
enum record_type {
	RECORD_CGROUP = 0,
	RECORD_NETNS_CREATE = 1,
	RECORD_NETNS_ENTER = 2,
	RECORD_NETNS_EXIT = 3,
	RECORD_NETNS_DESTROY = 4,
	RECORD_NETNS_CREATE_FAILED = 5,
	RECORD_NETNS_ENTER_FAILED = 6,
	RECORD_NETNS_FOUND = 7,
	RECORD_CNI_START = 8,
	RECORD_CNI_END = 9,
	RECORD_CNI_EXEC = 10,
	RECORD_CNI_ENTERED = 11,
	RECORD_TYPES = 12,
};

enum cause {
	CAUSE_NONE = 0,
	CAUSE_UNSHARE = 1,
	CAUSE_CLONE = 2,
	CAUSE_SETNS = 3,
	CAUSE_EXIT = 4,
};

/* Who refused. */
enum refuser {
	REFUSER_UNKNOWN = 0,
	REFUSER_SECCOMP = 1,
};

/* Where cni_syscall runs: the cookie of its attachment to a tracepoint, which has the same name. */
enum edge {
	SYS_ENTER_SETNS = 1,
	SYS_EXIT_SETNS = 2,
	SYS_ENTER_UNSHARE = 3,
	SYS_EXIT_UNSHARE = 4,
	SYS_ENTER_CLONE = 5,
	SYS_EXIT_CLONE = 6,
	SYS_ENTER_CLONE3 = 7,
	SYS_EXIT_CLONE3 = 8,
};

/* Who: a part of the records below. */
struct task {
	__u32 pid;
	__u32 tid;
	__u32 ppid;
	__u32 uid;
	__u64 cgroup; /* with `hierarchy`: which cgroup_record names the path */
	__u32 hierarchy;
	char comm[16];
} __attribute__((packed, aligned(4))); /* as `cgroup` alone would leave a hole behind `comm` */

/* One fact about one network namespace. */
struct netns_record {
	__u8 type;
	__u8 cause;
	__u16 error; /* errno of a refused attempt, positive */
	__u32 userns; /* inum of the user namespace that owns the subject */
	__u64 time;
	__u64 cookie; /* the subject */
	__u64 other_cookie; /* next, of a netns_exit; otherwise prev */
	__u32 inum;
	__u32 other_inum;
	struct task task;
	union {
		__u32 entered_tid; /* of a netns_exit: the task's tid when it entered */
		__u32 refuser; /* of a refusal: enum refuser */
	};
	union {
		__u64 lifetime; /* of a netns_destroy: since its birth */
		__u64 task_userns; /* of a refusal with EPERM: inum of the task's own user namespace */
	};
	__u64 teardown; /* of a netns_destroy: since the kernel began to clean up */
};

#define CNI_TEXT 16384 /* bytes */
#define CNI_VARIABLE 4096 /* bytes: what is longer is cut */
#define CNI_ARGS 256 /* bytes */

/* Of one that is not trusted: room for the path and the seven variables that matter, of 256 bytes each. */
#define CNI_SHORT_TEXT 2048
#define CNI_SHORT_VARIABLE 273 /* bytes: CNI_CONTAINERID= and NUL besides */

/*
 * A process that may begin a CNI call has executed a program with CNI_COMMAND in its environment. The type is
 * RECORD_CNI_START if it is a plugin: no ancestor of the process belongs to a CNI call, or the program lies
 * in a directory of CNI_PATH. Otherwise it is a helper, and the type is RECORD_CNI_EXEC.
 */
struct cni_start_record {
	__u8 type;
	__u8 cut; /* not 0: something of the environment is missing */
	__u16 length; /* bytes used in `text` */
	__u32 own_inum; /* of the network namespace that the process is in */
	__u64 time;
	__u64 started; /* when the process was started, which makes `task.pid` unique */
	__u64 own_cookie;
	__u64 path_cookie; /* the namespace that CNI_NETNS led to at that time; 0: not known for certain */
	struct task task;
	__u32 outer; /* the process whose call it belonged to already, or 0 */
	__u64 outer_started; /* and when that was started */
	__u16 trusted; /* not 0: it holds CAP_SYS_ADMIN in the initial user namespace */
	__u16 args_length; /* bytes used in `args` */
	__u32 path_inum;
	char args[CNI_ARGS]; /* the arguments, each closed by NUL; cut where full */
	/* The path that was executed, then the variables that matter, each closed by NUL. */
	char text[CNI_TEXT];
};

/* The end of a process that a cni_start_record was about, of either type. */
struct cni_end_record {
	__u8 type;
	__u8 unreadable; /* not 0: its environment could not be read, so it may have been none */
	__u16 status; /* as wait(2) gives it */
	__u32 entered_inum; /* of the only namespace, other than its own, that its tasks have entered */
	struct task task; /* the first thread of the process */
	__u8 trusted; /* as in the cni_start_record */
	__u8 several; /* not 0: its tasks have entered several */
	__u8 nested; /* not 0: the cni_start_record had an `outer` */
	__u8 helper; /* not 0: its type was RECORD_CNI_EXEC */
	__u64 time;
	__u64 started; /* as in the cni_start_record */
	__u64 duration;
	__u64 entered_cookie;
};

/* A task of such a process, or one that it has forked, has entered a network namespace other than its own. */
struct cni_entered_record {
	__u32 type; /* its first byte, as everywhere */
	__u32 pid; /* of the process, not of the task */
	__u64 started; /* as in the cni_start_record */
	__u64 cookie;
	__u32 inum;
} __attribute__((packed, aligned(4)));

#define CGROUP_NAMES 2032 /* bytes: fills the record up to 2 KiB */
#define CGROUP_NAME 256 /* NAME_MAX and the closing NUL */
#define CGROUP_DEPTH 24

/* The path of a cgroup, sent ahead of the first record that refers to it. */
struct cgroup_record {
	__u8 type;
	__u8 level; /* how deep the cgroup lies; the root has 0 */
	__u16 length; /* bytes used in `names` */
	__u32 hierarchy; /* 0 is cgroup v2 */
	__u64 id;
	char names[CGROUP_NAMES]; /* from the leaf up, each closed by NUL; cut where full */
};

/*
 * What is known to have happened and is not delivered, by type: there was no room in the ring, or none to
 * remember it, or the kernel skipped the program at the end of a system call. One for each possible CPU.
 */
struct lost {
	__u64 count[RECORD_TYPES];
};

enum phase {
	PHASE_STARTING = 0,
	PHASE_RUNNING = 1, /* the snapshot has been read: destructions are reported */
	PHASE_ENDING = 2, /* hooks are being detached, beginnings of system calls before their ends */
};

/* What lives as long as the collector does. Python reads all of it; it writes `cgroup_epoch`, `phase` and
 * `seccomp_shows`. */
struct state {
	__u64 host_cookie;
	__u64 cleanup_start; /* when the present run of cleanup_net() began; 0: it does not run */
	__u32 host_inum;
	__u32 cgroup_epoch; /* raised by Python when it forgets paths: they are sent anew */
	__u32 phase; /* enum phase */
	__u32 counts_skips; /* the kernel counts every run of a program that it skips */
	__u32 seccomp_shows; /* set by Python: the hooks see the end, not the beginning, of what seccomp
				answers, and none is skipped */
};

/* One mount of a network namespace, as `cni_mounts` lists it. The next one follows at a multiple of 8 bytes.
 */
struct mounted {
	__u64 cookie;
	__u64 length; /* bytes used in `path` */
	char path[];
};

#define MOUNTS_BYTES (512 * 1024)

/* Where the first process sees network namespaces mounted. */
struct mounts {
	__u32 used; /* bytes of `entries` */
	__u32 unsure; /* not 0: the mounts changed meanwhile, and some may be wanting */
	char entries[MOUNTS_BYTES];
};

/* What an audit finds of a namespace that is tracked. */
enum netns_state {
	NETNS_ALIVE = 0,
	NETNS_DYING = 1, /* nobody holds it any more; the kernel's clean-up is queued, or runs */
	NETNS_GONE = 2, /* torn down */
};

/* The same, as `cni_tracked` writes it. */
struct audited {
	__u64 cookie;
	__u32 inum;
	__u32 userns;
	__u64 state;
};

/* One namespace that is alive, by cookie. */
struct tracked {
	__u64 net; /* address of its struct net */
	__u64 born; /* 0: it existed before it was seen */
	__u32 inum;
	__u32 userns;
	__u64 reported; /* not 0: an event in the ring says that it exists */
};

#endif
