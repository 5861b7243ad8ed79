/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The end of a system call whose beginning no program saw: the kernel skipped the program there, it had no
 * memory for the state of the task, the system call began before the collector did, or seccomp answered it
 * before it came so far. What it asked for still stands in the registers with which the task entered the
 * kernel; where the task was before does not, unless it was refused.
 */
#ifndef CNI_UNSEEN_H
#define CNI_UNSEEN_H

/* Whether a clone or clone3 asks for a namespace. The flags of clone3 are the first field of its argument. */
static __always_inline bool clones_netns(void)
{
	__u32 number = syscall_number((const void *)bpf_task_pt_regs(bpf_get_current_task_btf()));
	__u64 flags = 0;

	if (number == clone_number())
		flags = syscall_argument(0);
	else if (number == SYS_CLONE3)
		bpf_probe_read_user(&flags, sizeof(flags), (void *)syscall_argument(0));
	return flags & CLONE_NEWNET;
}

/* Whether it could have changed the netns. For setns, `target` is where to, as far as that is known. */
static __always_inline bool unseen_concerns(enum syscall syscall, struct netns *target)
{
	__u32 nstype;

	switch (syscall) {
	case SYSCALL_SETNS:
		nstype = syscall_argument(1);
		if (nstype && !(nstype & CLONE_NEWNET))
			return false;
		return target_of(syscall_argument(0), nstype, target) != TARGET_OTHER || nstype;
	case SYSCALL_UNSHARE:
		return syscall_argument(0) & CLONE_NEWNET;
	case SYSCALL_CLONE:
		return clones_netns();
	default:
		return false;
	}
}

/*
 * The task comes back from making itself the namespace that it is in. Where it was before is not known: so
 * the birth and the entry are lost. All that follows is reported.
 */
static __always_inline void report_unseen_birth(void)
{
	struct task_state *ts = task_state_of(bpf_get_current_task_btf(), false);
	struct netns left, now = {};
	int error;

	netns_here(&now);
	if (!snapshot_walks || is_host(&now) || (ts && ts->created == now.cookie))
		return;
	error = track(&now, bpf_ktime_get_boot_ns(), true);
	if (error == -EEXIST)
		return;
	if (error)
		count_lost(RECORD_NETNS_DESTROY);
	count_lost(RECORD_NETNS_CREATE);
	if (ts && ts->entered.cookie) {
		left = ts->entered;
		report_exit(&left, &now, CAUSE_UNSHARE);
	}
	count_lost(RECORD_NETNS_ENTER);
	remember_entered(bpf_get_current_task_btf(), &now);
}

/*
 * Whether the beginning would have been noted for what the end is told of. Not for certain where that is read
 * anew at the end, and may have been another thing at the beginning: what a descriptor leads to, if setns was
 * asked for any kind, and the flags of clone3, which lie in the memory of the program.
 */
static __always_inline bool beginning_is_certain(__u32 syscall)
{
	if (syscall == SYSCALL_SETNS)
		return (__u32)syscall_argument(1);
	return syscall != SYSCALL_CLONE ||
	       syscall_number((const void *)bpf_task_pt_regs(bpf_get_current_task_btf())) != SYS_CLONE3;
}

/* Whether nothing but seccomp can have kept the program from the beginning. */
static __always_inline bool is_by_seccomp(struct task_struct *task, __u32 syscall)
{
	struct task_state *ts = task_state_of(task, false);

	if (!state.seccomp_shows || states_wanting || (ts && ts->syscall & SYSCALL_BEFORE) ||
	    !beginning_is_certain(syscall))
		return false;
	return bpf_core_field_exists(task->seccomp) && task->seccomp.mode;
}

/*
 * Reports what is known of it. One that a tracer may have answered is left alone. Of a setns that succeeded
 * it is not known whether the task has moved: it is counted as if it had.
 */
__noinline int report_unseen(__u32 syscall, long result)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct netns target = {}, now = {};
	bool by_seccomp;

	if (state.phase != PHASE_RUNNING || task->ptrace || !unseen_concerns(syscall, &target))
		return 0;
	by_seccomp = is_by_seccomp(task, syscall);
	netns_here(&now);
	if (result < -(long)MAX_ERRNO) /* no error: a supervisor of seccomp's may answer with any number */
		return 0;
	if (result < 0)
		report_refusal(syscall == SYSCALL_SETNS ? RECORD_NETNS_ENTER_FAILED
							: RECORD_NETNS_CREATE_FAILED,
			       &target, &now, syscall_cause(syscall), -result, by_seccomp);
	else if (by_seccomp)
		return 0;
	else if (syscall == SYSCALL_UNSHARE)
		report_unseen_birth();
	else if (syscall == SYSCALL_SETNS)
		count_lost(is_host(&now) ? RECORD_NETNS_EXIT : RECORD_NETNS_ENTER);
	return 0;
}

#endif
