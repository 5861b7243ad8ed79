/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The system calls that change where a task is, from beginning to end, and what else does: fork, exit, the
 * kernel's clean-up. The hooks of every tier call these. A tier that sees more than the two edges of a system
 * call also says when a namespace has been made, and when the task switches to it.
 */
#ifndef CNI_SYSCALLS_H
#define CNI_SYSCALLS_H

static __always_inline bool is_under_way(const struct task_state *ts)
{
	return ts->syscall != SYSCALL_NONE && ts->syscall < SYSCALL_DONE;
}

/* The current task has made itself a namespace, and is in it or about to be. */
static __always_inline void report_unshare(struct task_state *ts, const struct netns *now)
{
	struct netns prev = ts->prev;

	if (ts->created != now->cookie)
		report_create(now, &prev, CAUSE_UNSHARE);
	ts->created = now->cookie;
	report_move(&prev, now, CAUSE_UNSHARE);
}

/*
 * A system call of the current task whose end was not seen, because the kernel skipped the program there: it
 * skips return probes when too many are under way, programs that another task was preempted in, and kprobes
 * while a bpf(2) map operation was preempted on that CPU. If the task has moved, that is reported now;
 * otherwise the system call was refused.
 */
__noinline int settle_syscall(void)
{
	struct task_state *ts = task_state_of(bpf_get_current_task_btf(), false);
	struct netns prev, now = {};
	__u32 syscall;

	if (!ts || !is_under_way(ts))
		return 0;
	syscall = ts->syscall;
	ts->syscall = SYSCALL_NONE;
	prev = ts->prev;
	netns_here(&now);
	if (now.cookie == prev.cookie)
		count_lost(syscall == SYSCALL_SETNS ? RECORD_NETNS_ENTER_FAILED : RECORD_NETNS_CREATE_FAILED);
	else if (syscall == SYSCALL_UNSHARE)
		report_unshare(ts, &now);
	else
		report_move(&prev, &now, CAUSE_SETNS);
	return 0;
}

/* The state of the current task, in which the beginning of a system call is noted. */
static __always_inline struct task_state *syscall_begin(enum syscall syscall)
{
	struct task_state *ts = task_state_of(bpf_get_current_task_btf(), true);
	struct netns now = {};

	if (!ts) {
		states_wanting = true;
		return NULL;
	}
	if (is_under_way(ts))
		settle_syscall();
	netns_here(&now);
	ts->prev = now;
	ts->syscall = syscall;
	return ts;
}

/* What the end of a system call finds. */
struct noted {
	struct task_state *ts; /* what its beginning noted; NULL: there is nothing to report any more */
	bool unseen; /* no beginning was seen */
};

static __always_inline struct noted syscall_end(enum syscall syscall)
{
	struct noted noted = {.ts = task_state_of(bpf_get_current_task_btf(), false)};
	struct netns nothing = {};
	__u32 was;

	if (!noted.ts) {
		noted.unseen = true;
		return noted;
	}
	was = noted.ts->syscall;
	if (was == (syscall | SYSCALL_BEFORE) && syscall != SYSCALL_CLONE) {
		noted.ts->prev = noted.ts->before;
		noted.ts->target = nothing;
		was = syscall;
	}
	if (was == syscall || was == SYSCALL_DONE)
		noted.ts->syscall = SYSCALL_NONE;
	if (was != syscall) {
		noted.ts = NULL;
		noted.unseen = was != SYSCALL_DONE;
	}
	return noted;
}

/*
 * setns() can change the netns only if asked for one, or for whatever the descriptor is (nstype 0). With 0,
 * a descriptor that is certainly something else has nothing to do with us.
 */
__noinline int setns_begin(__u32 fd, __u32 nstype)
{
	struct netns ns = {};
	enum target target;
	struct task_state *ts;

	if (nstype && !(nstype & CLONE_NEWNET))
		return 0;
	target = target_of(fd, nstype, &ns);
	if (!nstype && target == TARGET_OTHER)
		return 0;
	ts = syscall_begin(SYSCALL_SETNS);
	if (ts)
		ts->target = ns;
	return 0;
}

/* Reports the outcome; not 0: the beginning was not seen. So do those of the other system calls. */
__noinline int setns_outcome(long result)
{
	struct noted noted = syscall_end(SYSCALL_SETNS);
	struct task_state *ts = noted.ts;
	struct netns prev, now = {};

	if (!ts)
		return noted.unseen;
	prev = ts->prev;
	if (result < 0) {
		now = ts->target;
		report_refusal(RECORD_NETNS_ENTER_FAILED, &now, &prev, CAUSE_SETNS, -result, REFUSER_UNKNOWN);
		return 0;
	}
	netns_here(&now);
	if (now.cookie != prev.cookie)
		report_move(&prev, &now, CAUSE_SETNS);
	return 0;
}

static __always_inline void setns_end(long result)
{
	if (setns_outcome(result))
		report_unseen(SYSCALL_SETNS, result);
}

__noinline int unshare_begin(unsigned long flags)
{
	if (flags & CLONE_NEWNET)
		syscall_begin(SYSCALL_UNSHARE);
	return 0;
}

__noinline int unshare_outcome(long result)
{
	struct noted noted = syscall_end(SYSCALL_UNSHARE);
	struct task_state *ts = noted.ts;
	struct netns prev, now = {}, nothing = {};

	if (!ts)
		return noted.unseen;
	if (result < 0) {
		prev = ts->prev;
		report_refusal(RECORD_NETNS_CREATE_FAILED, &nothing, &prev, CAUSE_UNSHARE, -result,
			       REFUSER_UNKNOWN);
		return 0;
	}
	netns_here(&now);
	prev = ts->prev;
	if (now.cookie != prev.cookie)
		report_unshare(ts, &now);
	return 0;
}

static __always_inline void unshare_end(long result)
{
	if (unshare_outcome(result))
		report_unseen(SYSCALL_UNSHARE, result);
}

__noinline int clone_begin(__u64 flags)
{
	if (flags & CLONE_NEWNET)
		syscall_begin(SYSCALL_CLONE);
	return 0;
}

/* A clone that succeeds is seen by the fork, unless the kernel skipped that; here, what was refused. */
__noinline int clone_outcome(long result)
{
	struct noted noted = syscall_end(SYSCALL_CLONE);
	struct task_state *ts = noted.ts;
	struct netns prev, nothing = {};

	if (!ts)
		return noted.unseen;
	if (result < 0) {
		prev = ts->prev;
		report_refusal(RECORD_NETNS_CREATE_FAILED, &nothing, &prev, CAUSE_CLONE, -result,
			       REFUSER_UNKNOWN);
	} else {
		count_lost(RECORD_NETNS_ENTER);
	}
	return 0;
}

static __always_inline void clone_end(long result)
{
	if (clone_outcome(result) && result < 0)
		report_unseen(SYSCALL_CLONE, result);
}

/* The current task has made a child, which is in another namespace and does not run yet. */
static __always_inline void task_fork(struct task_struct *child)
{
	struct task_state *ts = task_state_of(bpf_get_current_task_btf(), false);
	struct netns now, prev = {};
	struct cgroup_at cgroup;
	bool reported = false;

	/* All that is read of the child is read before the ways part: the verifier walks each of them. */
	netns_of(child, &now);
	cgroup = cgroup_of(child);
	netns_here(&prev);
	if (ts) {
		if (ts->syscall == SYSCALL_CLONE)
			ts->syscall = SYSCALL_DONE;
		reported = ts->created == now.cookie;
	}
	if (!reported)
		report_create(&now, &prev, CAUSE_CLONE);
	report_child_enter(child, &cgroup, &now, &prev);
}

/*
 * copy_net_ns() returned this to the current task: a new namespace, the one the task is in, or an error. The
 * birth is reported here rather than at the end of the system call, because the rest of that may fail.
 */
static __always_inline void copy_net_ns_end(struct net *net)
{
	struct task_state *ts = task_state_of(bpf_get_current_task_btf(), false);
	struct netns now, prev;

	if (!ts || !is_under_way(ts) || (__u64)net >= -MAX_ERRNO || (__u64)net == ts->prev.net)
		return;
	prev = ts->prev;
	netns_at(net, &now);
	ts->created = now.cookie;
	report_create(&now, &prev, ts->syscall == SYSCALL_UNSHARE ? CAUSE_UNSHARE : CAUSE_CLONE);
}

/*
 * The current task switches to other namespaces: the system call that it is in succeeds. Where the task was
 * is known here also if the beginning was skipped.
 */
static __always_inline void task_switch_namespaces(const struct nsproxy *to)
{
	const struct net *net = BPF_CORE_READ(to, net_ns);
	struct netns prev = {}, now;
	struct task_state *ts;
	__u32 syscall;

	netns_here(&prev);
	if (prev.net == (__u64)net)
		return;
	ts = task_state_of(bpf_get_current_task_btf(), true);
	if (!ts)
		return;
	syscall = ts->syscall;
	if (!is_under_way(ts))
		syscall = is_in_unshare() ? SYSCALL_UNSHARE : SYSCALL_SETNS;
	ts->syscall = SYSCALL_DONE;
	ts->prev = prev;
	netns_at(net, &now);
	if (syscall == SYSCALL_UNSHARE)
		report_unshare(ts, &now);
	else
		report_move(&prev, &now, CAUSE_SETNS);
}

/* The current task is ending, and still is where it was. */
static __always_inline void task_exit(void)
{
	settle_syscall();
	if (wanted(RECORD_NETNS_EXIT))
		report_exit_at_end();
}

static __always_inline void cleanup_begin(void)
{
	state.cleanup_start = bpf_ktime_get_boot_ns();
}

static __always_inline void cleanup_end(void)
{
	if (state.phase != PHASE_STARTING)
		report_destroyed();
	state.cleanup_start = 0;
}

#endif
