/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The calls that change where a task is, from beginning to end. Every tier calls these; a tier that sees more
 * than the two edges of a call also says so when a namespace has been made, and when the task changes over.
 */
#ifndef CNI_CALLS_H
#define CNI_CALLS_H

/* The current task has made itself a namespace, and is in it or about to be. */
static __always_inline void unshared(struct task_state *its, const struct netns *now)
{
	struct netns prev = its->prev;

	if (its->born != now->cookie)
		born(now, &prev, CAUSE_UNSHARE);
	moved(&prev, now, CAUSE_UNSHARE);
}

/*
 * A call of the current task whose end was not seen: a return probe can be missed, and the kernel skips a
 * program that another task was preempted in. Where the task has moved, that is told now; otherwise the call
 * was refused.
 */
__noinline int settle_call(void)
{
	struct task_state *its = state_of(bpf_get_current_task_btf(), false);
	struct netns prev, now = {};
	__u32 call;

	if (!its || its->call == CALL_NONE)
		return 0;
	call = its->call;
	its->call = CALL_NONE;
	prev = its->prev;
	netns_here(&now);
	if (now.cookie == prev.cookie)
		count_lost(call == CALL_SETNS ? RECORD_NETNS_ENTER_FAILED : RECORD_NETNS_CREATE_FAILED);
	else if (call == CALL_UNSHARE)
		unshared(its, &now);
	else
		moved(&prev, &now, CAUSE_SETNS);
	return 0;
}

static __always_inline struct task_state *call_begins(enum call call)
{
	struct task_state *its = state_of(bpf_get_current_task_btf(), true);
	struct netns now = {};

	if (its) {
		settle_call();
		netns_here(&now);
		its->prev = now;
		its->call = call;
	} else {
		count_lost(call == CALL_SETNS ? RECORD_NETNS_ENTER : RECORD_NETNS_CREATE);
	}
	return its;
}

/* The state that the same call left at its beginning, if its outcome is not known yet. */
static __always_inline struct task_state *call_ends(enum call call)
{
	struct task_state *its = state_of(bpf_get_current_task_btf(), false);

	if (!its || its->call != call)
		return NULL;
	its->call = CALL_NONE;
	return its;
}

/*
 * setns() can change the netns only if asked for one, or for whatever the descriptor is (nstype 0). With 0,
 * a descriptor that is certainly something else has nothing to do with us.
 */
__noinline int setns_begins(__u32 fd, __u32 nstype)
{
	struct netns ns = {};
	enum target target;
	struct task_state *its;

	if (nstype && !(nstype & CLONE_NEWNET))
		return 0;
	target = target_of(fd, nstype, &ns);
	if (!nstype && target == TARGET_OTHER)
		return 0;
	its = call_begins(CALL_SETNS);
	if (its)
		its->target = ns;
	return 0;
}

__noinline int setns_ends(long result)
{
	struct task_state *its = call_ends(CALL_SETNS);
	struct netns prev, now = {};

	if (!its)
		return 0;
	prev = its->prev;
	if (result < 0) {
		now = its->target;
		refused(RECORD_NETNS_ENTER_FAILED, &now, &prev, CAUSE_SETNS, -result);
		return 0;
	}
	netns_here(&now);
	if (now.cookie != prev.cookie)
		moved(&prev, &now, CAUSE_SETNS);
	return 0;
}

__noinline int unshare_begins(unsigned long flags)
{
	if (flags & CLONE_NEWNET)
		call_begins(CALL_UNSHARE);
	return 0;
}

__noinline int unshare_ends(long result)
{
	struct task_state *its = call_ends(CALL_UNSHARE);
	struct netns prev, now = {}, nothing = {};

	if (!its) {
		met();
		return 0;
	}
	if (result < 0) {
		prev = its->prev;
		refused(RECORD_NETNS_CREATE_FAILED, &nothing, &prev, CAUSE_UNSHARE, -result);
		return 0;
	}
	netns_here(&now);
	unshared(its, &now);
	return 0;
}

__noinline int clone_begins(__u64 flags)
{
	if (flags & CLONE_NEWNET)
		call_begins(CALL_CLONE);
	return 0;
}

/* A clone that succeeds is seen by the fork, unless the kernel skipped that; here, what was refused. */
__noinline int clone_ends(long result)
{
	struct task_state *its = call_ends(CALL_CLONE);
	struct netns prev, nothing = {};

	if (!its)
		return 0;
	if (result < 0) {
		prev = its->prev;
		refused(RECORD_NETNS_CREATE_FAILED, &nothing, &prev, CAUSE_CLONE, -result);
	} else {
		count_lost(RECORD_NETNS_ENTER);
	}
	return 0;
}

/* The current task has made a child, which is in another namespace and does not run yet. */
static __always_inline void forked(struct task_struct *child)
{
	struct task_state *its = state_of(bpf_get_current_task_btf(), false);
	struct netns now, prev = {};
	struct cgroup_at cgroup;
	bool told = false;

	/* All that is read of the child is read before the ways part: the verifier walks each of them. */
	netns_of(child, &now);
	cgroup = cgroup_of(child);
	netns_here(&prev);
	if (its) {
		its->call = CALL_NONE;
		told = its->born == now.cookie;
	}
	if (!told)
		born(&now, &prev, CAUSE_CLONE);
	child_entered(child, &cgroup, &now, &prev);
}

/*
 * copy_net_ns() returned this to the current task: a new namespace, the one the task is in, or an error. The
 * birth is told here rather than at the end of the call, because the rest of the call may fail.
 */
static __always_inline void copied(struct net *net)
{
	struct task_state *its = state_of(bpf_get_current_task_btf(), false);
	struct netns now, prev;

	if (!its || its->call == CALL_NONE || (__u64)net >= -MAX_ERRNO || (__u64)net == its->prev.net)
		return;
	prev = its->prev;
	netns_at(net, &now);
	its->born = now.cookie;
	born(&now, &prev, its->call == CALL_UNSHARE ? CAUSE_UNSHARE : CAUSE_CLONE);
}

/* The current task changes over to other namespaces: the call that it is in succeeds. */
static __always_inline void changes_over(const struct nsproxy *to)
{
	struct task_state *its = state_of(bpf_get_current_task_btf(), false);
	struct netns prev, now;
	__u32 call;

	if (!its || its->call == CALL_NONE)
		return;
	call = its->call;
	its->call = CALL_NONE;
	netns_at(BPF_CORE_READ(to, net_ns), &now);
	if (call == CALL_UNSHARE) {
		unshared(its, &now);
		return;
	}
	prev = its->prev;
	if (now.cookie != prev.cookie)
		moved(&prev, &now, CAUSE_SETNS);
}

/* The current task is ending, and still is where it was. */
static __always_inline void ends(void)
{
	settle_call();
	ended();
}

static __always_inline void cleanup_begins(void)
{
	cleanup_start = bpf_ktime_get_boot_ns();
}

static __always_inline void cleanup_ends(void)
{
	if (state.ready)
		report_gone();
	cleanup_start = 0;
}

#endif
