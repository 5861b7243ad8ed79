/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The slices of kernel types that are read here, and no more. libbpf relocates every access to
 * the running kernel's own layout (CO-RE), so neither order nor missing fields matter.
 */
#ifndef CNI_KERNEL_H
#define CNI_KERNEL_H

#define CLONE_NEWNET 0x40000000

/* include/linux/sched/signal.h: the whole process ends with group_exit_code. */
#define SIGNAL_GROUP_EXIT 0x00000004

/* include/linux/err.h: pointers from -MAX_ERRNO on are errors. */
#define MAX_ERRNO 4095UL

/* kernel/cgroup/cgroup.c, cgroup_init(): no kernel has more controllers. */
#define MAX_SUBSYS 16

#define NSFS_MAGIC 0x6e736673
#define PID_FS_MAGIC 0x50494446 /* pidfds from 6.9 on */
#define ANON_INODE_FS_MAGIC 0x09041934 /* pidfds before that */

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
	struct ns_common ns;
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
	struct net *net_ns;
};

typedef struct {
	__u32 val;
} kuid_t;

struct cred {
	kuid_t uid;
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

struct super_block {
	unsigned long s_magic;
};

struct inode {
	struct super_block *i_sb;
	void *i_private;
};

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct qstr d_name;
};

struct path {
	struct dentry *dentry;
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

struct pid {
	struct hlist_head tasks[1];
};

struct signal_struct {
	atomic_t live;
	int group_exit_code;
	unsigned int flags;
};

struct mm_struct {
	unsigned long env_start, env_end;
};

struct linux_binprm {
	const char *filename;
};

struct task_struct {
	int pid;
	int tgid;
	int exit_code;
	__u64 start_boottime;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct signal_struct *signal;
	struct mm_struct *mm;
	struct hlist_node pid_links[1];
	void *worker_private;
	const struct cred *cred;
	char comm[16];
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
	struct pool_workqueue *current_pwq;
};

struct kthread {
	void *data;
};

struct kernel_clone_args {
	__u64 flags;
};

/* Registers, by architecture: libbpf finds each of these flavours in the kernel's pt_regs or not. */
struct pt_regs___x86 {
	unsigned long bx, cx, si, di, ax;
};

struct pt_regs___arm64 {
	__u64 regs[31];
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
