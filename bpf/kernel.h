/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The slices of kernel types that are read here, and no more. libbpf relocates every access to
 * the running kernel's own layout (CO-RE), so neither order nor missing fields matter.
 */
#ifndef CNI_KERNEL_H
#define CNI_KERNEL_H

#define CLONE_NEWNET 0x40000000

/* include/uapi/linux/capability.h */
#define CAP_SYS_ADMIN 21

/* include/linux/sched/signal.h: the whole process ends with group_exit_code. */
#define SIGNAL_GROUP_EXIT 0x00000004

/* include/linux/err.h: pointers from -MAX_ERRNO on are errors. */
#define MAX_ERRNO 4095UL

/* kernel/cgroup/cgroup.c, cgroup_init(): no kernel has more controllers. */
#define MAX_SUBSYS 16

/* include/linux/errno.h: what a system call that is to be made again returns lies between these. */
#define ERESTARTSYS 512
#define ERESTART_RESTARTBLOCK 516

/* arch/x86/include/asm/thread_info.h: the task is in a system call of a 32-bit program. */
#define TS_COMPAT 0x0002

#define NSFS_MAGIC 0x6e736673
#define PID_FS_MAGIC 0x50494446 /* pidfds from 6.9 on */
#define ANON_INODE_FS_MAGIC 0x09041934 /* pidfds before that */
#define PROC_SUPER_MAGIC 0x9fa0

/* include/linux/poison.h: what list_del_rcu() leaves in `prev`, on x86-64 and arm64 alike. */
#define LIST_POISON2 0xdead000000000122UL

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct list_head {
	struct list_head *next, *prev;
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct proc_ns_operations;

struct ns_common {
	const struct proc_ns_operations *ops;
	unsigned int inum;
};

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	atomic_t refs;
} refcount_t;

/* How many hold a namespace: up to 6.17, and since then. */
struct ns_common___617 {
	refcount_t count;
};

struct ns_common___618 {
	refcount_t __ns_ref;
};

struct user_namespace {
	int level; /* 0: the initial one */
	struct ns_common ns;
};

struct mnt_namespace;
struct task_struct;

struct xarray {
	void *xa_head;
};

/* include/linux/xarray.h: a node of the tree. A pointer to one has bit 1 set, and bit 0 not. */
struct xa_node {
	unsigned char shift;
	void *slots[64]; /* in the kernel, as many as CONFIG_BASE_SMALL says */
};

struct idr {
	struct xarray idr_rt;
};

struct pid_namespace {
	struct idr idr;
	struct task_struct *child_reaper;
};

struct net {
	refcount_t passive;
	struct list_head list;
	struct list_head exit_list;
	struct user_namespace *user_ns;
	struct ns_common ns;
	__u64 net_cookie;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
	struct net *net_ns;
};

typedef struct {
	__u32 val;
} kuid_t;

/* 64 bits in all; before 6.3, two words of 32. */
typedef struct {
	__u64 val;
} kernel_cap_t;

struct cred {
	kuid_t uid;
	kernel_cap_t cap_effective;
	struct user_namespace *user_ns;
};

struct kernfs_node {
	const char *name;
	__u64 id;
};

struct cgroup;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup {
	struct cgroup_subsys_state self;
	int level;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct css_set {
	struct cgroup_subsys_state *subsys[MAX_SUBSYS]; /* in the kernel, as many as it has controllers */
	struct css_set *dom_cset;
	struct cgroup *dfl_cgrp;
};

struct dentry;
struct mount;

struct super_block {
	unsigned long s_magic;
	struct dentry *s_root;
	void *s_fs_info;
};

/* All mounts of a file system: a list to 6.17, a chain from then on. */
struct super_block___list {
	struct list_head s_mounts;
};

struct super_block___chain {
	struct mount *s_mounts;
};

/* fs/proc: what s_fs_info of a proc points to. */
struct proc_fs_info {
	struct pid_namespace *pid_ns;
};

struct inode {
	struct super_block *i_sb;
	void *i_private;
};

struct qstr {
	unsigned int len;
	const unsigned char *name;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
};

struct vfsmount {
	struct dentry *mnt_root;
	struct super_block *mnt_sb;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct fs_struct {
	struct path root;
};

/* fs/mount.h. One that is mounted nowhere is its own parent. */
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct list_head mnt_mounts; /* the mounts on it */
	struct list_head mnt_child; /* its place among those of its parent */
	struct mnt_namespace *mnt_ns;
};

struct mount___list {
	struct list_head mnt_instance;
};

struct mount___chain {
	struct mount *mnt_next_for_sb;
};

struct file {
	struct inode *f_inode;
	struct path f_path;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct upid {
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct hlist_head tasks[1];
	struct upid numbers[1]; /* in the kernel, one for each level */
};

struct signal_struct {
	atomic_t live;
	int group_exit_code;
	unsigned int flags;
};

struct mm_struct {
	unsigned long arg_start, arg_end, env_start, env_end;
};

struct linux_binprm {
	unsigned int secureexec : 1;
	const char *filename;
};

struct thread_info {
	__u32 status; /* on x86-64 */
};

struct seccomp {
	int mode;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int ptrace; /* not 0: another task traces it */
	struct seccomp seccomp;
	int pid;
	int tgid;
	int exit_code;
	__u64 start_boottime;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct signal_struct *signal;
	struct mm_struct *mm;
	struct pid *thread_pid;
	struct hlist_node pid_links[1];
	void *worker_private;
	const struct cred *cred;
	char comm[16];
	struct fs_struct *fs;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct css_set *cgroups;
};

/* Before 5.17. */
struct task_struct___516 {
	void *set_child_tid; /* of a kernel thread: its struct kthread */
};

struct work_struct {
	void *func;
};

struct workqueue_struct {
	char name[24];
};

struct pool_workqueue {
	struct workqueue_struct *wq;
};

struct worker {
	struct work_struct *current_work;
	struct pool_workqueue *current_pwq;
};

struct kthread {
	void *data;
};

struct kernel_clone_args {
	__u64 flags;
};

/* Has this field since 6.7, whose trace_call_bpf() counts the runs that it skips. */
struct bpf_link_info___counting {
	struct {
		__u64 missed;
	} kprobe_multi;
};

/* Registers, by architecture: libbpf finds each of these flavours in the kernel's pt_regs or not. */
struct pt_regs___x86 {
	unsigned long bx, cx, si, di, ax, orig_ax;
};

struct pt_regs___arm64 {
	__u64 regs[31];
	__u64 orig_x0;
	int syscallno;
};

struct trace_event_raw_sys_enter {
	unsigned long args[6];
};

struct trace_event_raw_sys_exit {
	long ret;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct bpf_iter__bpf_map_elem {
	void *key;
	void *value;
	struct bpf_iter_meta *meta;
};

#pragma clang attribute pop

#endif
