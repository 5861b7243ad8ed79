/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What an event means, written once. The hooks of every tier report here what they saw; what is sent, left
 * out or remembered follows from that. Each function reports about the current task if it names no other.
 */
#ifndef CNI_FACTS_H
#define CNI_FACTS_H

/* A fact about a network namespace: the parts of its record that are not the task's. */
struct fact {
	__u8 type;
	__u8 cause;
	__u16 error;
	union {
		__u32 entered_tid;
		__u32 refuser;
	};
	struct netns subject;
	struct netns other;
	union {
		__u64 lifetime;
		__u64 task_userns;
	};
	__u64 teardown;
};

static __always_inline void describe_fact(const struct fact *fact, struct netns_record *record)
{
	record->type = fact->type;
	record->cause = fact->cause;
	record->error = fact->error;
	record->userns = fact->subject.userns;
	record->time = bpf_ktime_get_boot_ns();
	record->cookie = fact->subject.cookie;
	record->inum = fact->subject.inum;
	record->other_cookie = fact->other.cookie;
	record->other_inum = fact->other.inum;
	record->entered_tid = fact->entered_tid;
	record->lifetime = fact->lifetime;
	record->teardown = fact->teardown;
}

/* Into the ring, or into the count of what was lost: never neither. */
static __always_inline void send_fact_of(struct task_struct *task, const struct cgroup_at *cgroup,
					 const struct fact *fact)
{
	struct netns_record *record;

	send_cgroup(cgroup);
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count_lost(fact->type);
		return;
	}
	describe_fact(fact, record);
	describe_task(task, &cgroup->key, &record->task);
	bpf_ringbuf_submit(record, 0);
}

/* The same for the current task. A global function, as most programs have several facts to report. */
__noinline int send_fact(struct fact *fact)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct cgroup_at cgroup = {};

	if (!fact)
		return 0;
	cgroup_here(&cgroup);
	send_fact_of(task, &cgroup, fact);
	return 0;
}

static __always_inline enum cause syscall_cause(enum syscall syscall)
{
	return syscall == SYSCALL_SETNS	  ? CAUSE_SETNS
	       : syscall == SYSCALL_CLONE ? CAUSE_CLONE
					  : CAUSE_UNSHARE;
}

static __always_inline struct task_state *task_state_of(struct task_struct *task, bool create)
{
	return bpf_task_storage_get(&task_states, task, NULL, create ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
}

/*
 * From here on the namespace is known, and its end will be reported. -EEXIST: it was known before. An int, as
 * up to 6.3 the kernel's function for this map returns one, and leaves the other half of the register as it
 * is.
 */
static __always_inline int track(const struct netns *ns, __u64 born, bool reported)
{
	struct tracked entry = {
		.net = ns->net,
		.born = born,
		.inum = ns->inum,
		.userns = ns->userns,
		.reported = reported,
	};

	return bpf_map_update_elem(&tracked, &ns->cookie, &entry, BPF_NOEXIST);
}

/*
 * A namespace was born. One that the snapshot met before its creator had returned is reported as found, and
 * not born a second time. One that there is no room to track can never be reported destroyed: that event is
 * lost now.
 */
static __always_inline void report_create(const struct netns *ns, const struct netns *prev, enum cause cause)
{
	struct fact fact = {
		.type = RECORD_NETNS_CREATE,
		.cause = cause,
		.subject = *ns,
		.other = *prev,
	};
	int error = track(ns, bpf_ktime_get_boot_ns(), true);

	if (error && error != -EEXIST)
		count_lost(RECORD_NETNS_DESTROY);
	if (wanted(RECORD_NETNS_CREATE) && (error != -EEXIST || !wanted(RECORD_NETNS_FOUND)))
		send_fact(&fact);
}

/* A task that is now in a namespace leaves it later, by moving or by ending. */
static __always_inline void remember_entered(struct task_struct *task, const struct netns *ns)
{
	struct task_state *ts;

	if (!wanted(RECORD_NETNS_EXIT))
		return;
	ts = task_state_of(task, true);
	if (ts) {
		ts->entered = *ns;
		ts->entered_tid = task->pid;
	} else {
		count_lost(RECORD_NETNS_EXIT);
	}
}

/* The task is now in a namespace. */
static __always_inline void report_enter(const struct netns *ns, const struct netns *prev, enum cause cause)
{
	struct fact fact = {
		.type = RECORD_NETNS_ENTER,
		.cause = cause,
		.subject = *ns,
		.other = *prev,
	};

	call_enters(ns);
	if (wanted(RECORD_NETNS_ENTER))
		send_fact(&fact);
	remember_entered(bpf_get_current_task_btf(), ns);
}

/* A child of the current task was born into a namespace. */
static __always_inline void report_child_enter(struct task_struct *child, const struct cgroup_at *cgroup,
					       const struct netns *ns, const struct netns *prev)
{
	struct fact fact = {
		.type = RECORD_NETNS_ENTER,
		.cause = CAUSE_CLONE,
		.subject = *ns,
		.other = *prev,
	};

	call_enters(ns);
	if (wanted(RECORD_NETNS_ENTER))
		send_fact_of(child, cgroup, &fact);
	remember_entered(child, ns);
}

/* The task is no longer in a namespace. `next` is empty where it ended. */
static __always_inline void report_exit(const struct netns *ns, const struct netns *next, enum cause cause)
{
	struct fact fact = {
		.type = RECORD_NETNS_EXIT,
		.cause = cause,
		.subject = *ns,
		.other = *next,
	};
	struct task_state *ts;

	if (!wanted(RECORD_NETNS_EXIT))
		return;
	ts = task_state_of(bpf_get_current_task_btf(), false);
	if (ts && ts->entered.cookie) {
		fact.entered_tid = ts->entered_tid;
		ts->entered.cookie = 0;
	}
	send_fact(&fact);
}

/* The task has gone from one namespace to another; the host's is nobody's subject. */
static __always_inline void report_move(const struct netns *prev, const struct netns *now, enum cause cause)
{
	if (!is_host(prev))
		report_exit(prev, now, cause);
	if (!is_host(now))
		report_enter(now, prev, cause);
}

/*
 * The task is ending. Only one that had entered leaves: others merely inherited their netns. It leaves what
 * it entered, though by a way that this tier does not see it may be elsewhere by now.
 */
static __always_inline void report_exit_at_end(void)
{
	struct task_state *ts = task_state_of(bpf_get_current_task_btf(), false);
	struct netns ns, nowhere = {};

	if (!ts || !ts->entered.cookie)
		return;
	ns = ts->entered;
	report_exit(&ns, &nowhere, CAUSE_EXIT);
}

/*
 * An attempt of the task was refused. `target` is empty where it cannot be known. A signal that is pending
 * interrupts some system calls before they have done anything: they return an error that no program ever
 * sees, and the kernel makes them again when the signal has been handled. That is no refusal: the next try
 * tells.
 */
static __always_inline void report_refusal(enum record_type type, const struct netns *target,
					   const struct netns *prev, enum cause cause, long error,
					   enum refuser refuser)
{
	struct fact fact = {
		.type = type,
		.cause = cause,
		.error = error,
		.refuser = refuser,
		.subject = *target,
		.other = *prev,
	};

	if (error == EPERM)
		fact.task_userns = BPF_CORE_READ(bpf_get_current_task_btf(), cred, user_ns, ns.inum);
	if (wanted(type) && (error < ERESTARTSYS || error > ERESTART_RESTARTBLOCK))
		send_fact(&fact);
}

/*
 * Destruction. When the kernel's cleanup_net() has run, the namespaces that it took are off the list of
 * all namespaces: list_del_rcu() has left its mark in net->list, or the memory is free and carries
 * another cookie. Only cleanup_net() takes one off, and one run follows another, so whatever is found
 * off the list at the end of a run died in that run.
 */
static long report_if_destroyed(void *map, __u64 *cookie, struct tracked *entry, void *context)
{
	const struct net *net = (const struct net *)entry->net;
	__u64 now = bpf_ktime_get_boot_ns();
	struct fact fact = {.type = RECORD_NETNS_DESTROY};
	struct netns_record *record;

	if (BPF_CORE_READ(net, net_cookie) == *cookie && (__u64)BPF_CORE_READ(net, list.prev) != LIST_POISON2)
		return 0;
	fact.subject.cookie = *cookie;
	fact.subject.inum = entry->inum;
	fact.subject.userns = entry->userns;
	fact.lifetime = entry->born ? now - entry->born : 0;
	fact.teardown = state.cleanup_start ? now - state.cleanup_start : 0;
	/* Two sweeps may meet: the one that deletes the entry reports it. */
	if (bpf_map_delete_elem(&tracked, cookie) || !wanted(RECORD_NETNS_DESTROY))
		return 0;
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count_lost(RECORD_NETNS_DESTROY);
		return 0;
	}
	__builtin_memset(record, 0, sizeof(*record));
	describe_fact(&fact, record);
	bpf_ringbuf_submit(record, 0);
	return 0;
}

static __always_inline void report_destroyed(void)
{
	bpf_for_each_map_elem(&tracked, report_if_destroyed, NULL, 0);
}

#endif
