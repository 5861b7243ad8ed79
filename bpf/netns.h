/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Which network namespace: of a task, behind a file descriptor, the host's. */
#ifndef CNI_NETNS_H
#define CNI_NETNS_H

static __always_inline bool is_host(const struct netns *ns)
{
	return ns->cookie == state.host_cookie;
}

static __always_inline void netns_at(const struct net *net, struct netns *ns)
{
	ns->net = (__u64)net;
	ns->cookie = BPF_CORE_READ(net, net_cookie);
	ns->inum = BPF_CORE_READ(net, ns.inum);
	ns->userns = BPF_CORE_READ(net, user_ns, ns.inum);
}

static __always_inline void netns_of(const struct task_struct *task, struct netns *ns)
{
	netns_at(BPF_CORE_READ(task, nsproxy, net_ns), ns);
}

/*
 * The netns of the current task, needed most often: by plain loads, which the verifier allows on a pointer
 * whose type it knows, and which cost much less than the helper. A global function, as loads through a task
 * take the verifier long (see task.h).
 */
__noinline int netns_here(struct netns *ns)
{
	const struct net *net = bpf_get_current_task_btf()->nsproxy->net_ns;

	if (!ns)
		return 0;
	ns->net = (__u64)net;
	ns->cookie = net->net_cookie;
	ns->inum = net->ns.inum;
	ns->userns = net->user_ns->ns.inum;
	return 0;
}

enum target {
	TARGET_NETNS, /* a network namespace, described */
	TARGET_UNKNOWN, /* perhaps one */
	TARGET_OTHER, /* certainly none */
};

static __always_inline bool is_pidfd(const struct file *file, unsigned long magic)
{
	char name[8] = {};

	if (magic == PID_FS_MAGIC)
		return true;
	if (magic != ANON_INODE_FS_MAGIC)
		return false;
	bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(file, f_path.dentry, d_name.name));
	return !__builtin_memcmp(name, "[pidfd]", 8);
}

/* The netns of the process behind a pidfd, if it still has one. */
static __always_inline enum target pidfd_target(const struct file *file, unsigned long magic,
						struct netns *ns)
{
	const struct pid *pid;
	const struct hlist_node *first;
	const struct task_struct *task;
	const struct net *net;

	if (magic == PID_FS_MAGIC)
		pid = BPF_CORE_READ(file, f_inode, i_private);
	else
		pid = BPF_CORE_READ(file, private_data);
	first = BPF_CORE_READ(pid, tasks[0].first); /* PIDTYPE_PID: the leader */
	if (!first)
		return TARGET_UNKNOWN;
	task = (void *)first - bpf_core_field_offset(struct task_struct, pid_links);
	net = BPF_CORE_READ(task, nsproxy, net_ns);
	if (!net)
		return TARGET_UNKNOWN;
	netns_at(net, ns);
	return TARGET_NETNS;
}

/*
 * What a descriptor of the current task leads to, as setns() is about to look it up. A pidfd leads somewhere
 * only when the kinds of namespaces are named.
 */
static __always_inline enum target target_of(__u32 fd, __u32 nstype, struct netns *ns)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct fdtable *fdt = task->files->fdt;
	struct file *file = NULL;
	struct ns_common *common;
	unsigned long magic;

	if (fd >= fdt->max_fds)
		return TARGET_UNKNOWN;
	bpf_probe_read_kernel(&file, sizeof(file), fdt->fd + fd);
	if (!file)
		return TARGET_UNKNOWN;
	magic = BPF_CORE_READ(file, f_inode, i_sb, s_magic);
	if (magic == NSFS_MAGIC) {
		common = BPF_CORE_READ(file, f_inode, i_private);
		if (BPF_CORE_READ(common, ops) != net_ns_operations)
			return TARGET_OTHER;
		netns_at((void *)common - bpf_core_field_offset(struct net, ns), ns);
		return TARGET_NETNS;
	}
	if (nstype && is_pidfd(file, magic))
		return pidfd_target(file, magic, ns);
	return TARGET_OTHER;
}

#endif
