/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What exists already: run by Python, before and after the hooks are attached. */
#ifndef CNI_SNAPSHOT_H
#define CNI_SNAPSHOT_H

STEP(to_parent, const struct task_struct **task)
{
	if (!BPF_CORE_READ(*task, pid))
		return 1;
	*task = BPF_CORE_READ(*task, real_parent);
	return 0;
}

/* The pid namespace that a task is in. Its children may be born into another (pid_ns_for_children). */
static __always_inline const struct pid_namespace *pid_ns_of(const struct task_struct *task)
{
	const struct pid *pid = BPF_CORE_READ(task, thread_pid);
	const struct upid *number = (const void *)pid + bpf_core_field_offset(struct pid, numbers) +
				    BPF_CORE_READ(pid, level) * bpf_core_type_size(struct upid);

	return BPF_CORE_READ(number, ns);
}

/*
 * Who is the host: the netns of the first task, which every line of ancestors ends at. Run once,
 * before anything is attached. (/proc/1/ns/net may be unreadable, and is another in a container.)
 * Python gives it the descriptor of a namespace, which it closes again: that one's file system is nsfs.
 */
SEC("?raw_tp")
int cni_host(struct bpf_raw_tracepoint_args *ctx)
{
	const struct task_struct *task = (void *)bpf_get_current_task();
	struct file **files = BPF_CORE_READ(task, files, fdt, fd), *file = NULL;
	struct netns ns;

	bpf_probe_read_kernel(&file, sizeof(file), files + (__u32)ctx->args[0]);
	nsfs = BPF_CORE_READ(file, f_inode, i_sb);
	if (BPF_CORE_READ(nsfs, s_magic) != NSFS_MAGIC)
		return 2;

	own_pid_ns = pid_ns_of(task);
	LOOP(to_parent, &task);
	if (BPF_CORE_READ(task, pid))
		return 1;
	host_net = BPF_CORE_READ(task, nsproxy, net_ns);
	net_ns_operations = BPF_CORE_READ(host_net, ns.ops);
	netns_at(host_net, &ns);
	state.host_cookie = ns.cookie;
	state.host_inum = ns.inum;
	state.counts_skips = bpf_core_field_exists(struct bpf_link_info___counting, kprobe_multi.missed);
	return 0;
}

/* Reports what was destroyed while the collector started. */
SEC("?raw_tp")
int cni_sweep(void *ctx)
{
	report_destroyed();
	return 0;
}

#define LISTS 16 /* walks of STEPS namespaces: a million in all */

struct walk {
	const struct list_head *at;
	const struct list_head *head;
	__u64 audit; /* not 0: what is not tracked is noted, and stays so */
};

static __always_inline void note_untracked(const struct netns *ns)
{
	struct tracked entry = {.net = ns->net, .inum = ns->inum, .userns = ns->userns, .reported = 1};

	if (!bpf_map_lookup_elem(&tracked, &ns->cookie))
		bpf_map_update_elem(&untracked, &ns->cookie, &entry, BPF_ANY);
}

STEP(track_next, struct walk *walk)
{
	const struct net *net;
	struct netns ns;
	int error;

	if (walk->at == walk->head || !walk->at)
		return 1;
	net = (void *)walk->at - bpf_core_field_offset(struct net, list);
	netns_at(net, &ns);
	if (walk->audit) {
		note_untracked(&ns);
	} else {
		error = track(&ns, 0, false);
		if (error && error != -EEXIST) {
			count_lost(RECORD_NETNS_FOUND);
			count_lost(RECORD_NETNS_DESTROY);
		}
	}
	walk->at = BPF_CORE_READ(net, list.next);
	return 0;
}

/* Goes on with the walk; whether there is more. */
__noinline int track_more(struct walk *walk)
{
	struct walk at;

	if (!walk)
		return 0;
	at = *walk;
	LOOP(track_next, &at);
	*walk = at;
	return at.at && at.at != at.head;
}

/*
 * Every namespace there is, also one that no task is in: the kernel's own list. The host's is always its
 * first, so what stands before it is the head. Programs run under RCU, which is all that a reader of
 * this list needs.
 */
static __always_inline void walk_all(bool audit)
{
	struct walk walk = {
		.at = BPF_CORE_READ(host_net, list.next),
		.head = BPF_CORE_READ(host_net, list.prev),
		.audit = audit,
	};

	for (int i = 0; i < LISTS && track_more(&walk); i++)
		;
}

/* In which of the system calls that can change its netns a task is, or was last, if it is not in the kernel.
 */
static __always_inline enum syscall syscall_of(struct task_struct *task)
{
	__u32 number = syscall_number((const void *)bpf_task_pt_regs(task));

	if (number == (on_x86() ? 308 : 268))
		return SYSCALL_SETNS;
	if (number == (on_x86() ? 272 : 97))
		return SYSCALL_UNSHARE;
	return number == (on_x86() ? 56 : 220) || number == SYS_CLONE3 ? SYSCALL_CLONE : SYSCALL_NONE;
}

/*
 * Notes for a task in a system call what its beginning would have, which was perhaps not seen. One that
 * begins at this moment notes it itself, and that stands.
 */
static __always_inline void note_syscall(struct task_struct *task)
{
	enum syscall syscall = syscall_of(task);
	struct task_state *ts;

	if (syscall == SYSCALL_NONE || !task->nsproxy)
		return;
	ts = task_state_of(task, true);
	if (!ts) {
		states_wanting = true;
		return;
	}
	netns_of(task, &ts->before);
	__sync_val_compare_and_swap(&ts->syscall, SYSCALL_NONE, syscall | SYSCALL_BEFORE);
}

/* Writes every task outside the host's netns, its cgroup's path ahead of it; then tracks all namespaces. */
SEC("?iter/task")
int cni_snapshot(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct seq_file *seq = ctx->meta->seq;
	struct fact fact = {.type = RECORD_NETNS_FOUND};
	struct netns_record record = {};
	struct cgroup_at cgroup;
	__u32 used;

	if (!task) {
		snapshot_walks = true;
		walk_all(false);
		return 0;
	}
	note_syscall(task);
	if (!task->nsproxy || task->nsproxy->net_ns == host_net)
		return 0;
	netns_of(task, &fact.subject);
	cgroup = cgroup_of(task);
	describe_fact(&fact, &record);
	describe_task(task, &cgroup.key, &record.task);
	snapshot_cgroup.id = cgroup.address;
	used = cgroup_path(&snapshot_cgroup);
	if (used > CGROUP_NAMES)
		return 0;
	bpf_seq_write(seq, &snapshot_cgroup, offsetof(struct cgroup_record, names) + used);
	bpf_seq_write(seq, &record, sizeof(record));
	return 0;
}

/* Writes the cookie of each task that is outside the host's netns; then notes which namespaces are not
 * tracked. */
SEC("?iter/task")
int cni_inside(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	const struct net *net;

	if (!task) {
		walk_all(true);
		return 0;
	}
	net = BPF_CORE_READ(task, nsproxy, net_ns);
	if (!net || net == host_net)
		return 0;
	audited_member = BPF_CORE_READ(net, net_cookie);
	bpf_seq_write(ctx->meta->seq, &audited_member, sizeof(audited_member));
	return 0;
}

static __always_inline bool is_held(const struct net *net)
{
	const void *common = (const void *)net + bpf_core_field_offset(struct net, ns);
	const struct ns_common___617 *before = common;
	const struct ns_common___618 *since = common;

	if (bpf_core_field_exists(since->__ns_ref))
		return BPF_CORE_READ(since, __ns_ref.refs.counter);
	return BPF_CORE_READ(before, count.refs.counter);
}

/*
 * How far a namespace is. cleanup_net() takes it off the list of all first and, when it has torn it down, off
 * its own list, by list_del_init(): then `exit_list` points to itself. After that the memory may be free
 * (`passive` is 0) and be another's (another cookie), or be kept by who still looks at it.
 */
static __always_inline enum netns_state state_of(const struct net *net, __u64 cookie)
{
	const void *exit_list = (const void *)net + bpf_core_field_offset(struct net, exit_list);

	if (BPF_CORE_READ(net, net_cookie) != cookie)
		return NETNS_GONE;
	if ((__u64)BPF_CORE_READ(net, list.prev) != LIST_POISON2)
		return is_held(net) ? NETNS_ALIVE : NETNS_DYING;
	if (BPF_CORE_READ(net, exit_list.next) == exit_list || !BPF_CORE_READ(net, passive.refs.counter))
		return NETNS_GONE;
	return NETNS_DYING;
}

/* Writes what has become of each namespace that is tracked. Python gives the iterator that map. */
SEC("?iter/bpf_map_elem")
int cni_tracked(struct bpf_iter__bpf_map_elem *ctx)
{
	const __u64 *cookie = ctx->key;
	const struct tracked *entry = ctx->value;

	if (!cookie || !entry)
		return 0;
	audited.cookie = *cookie;
	audited.inum = entry->inum;
	audited.userns = entry->userns;
	audited.state = state_of((const struct net *)entry->net, *cookie);
	bpf_seq_write(ctx->meta->seq, &audited, sizeof(audited));
	return 0;
}

#endif
