/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Which CNI call a task belongs to, and which network namespaces the tasks of a call enter. Each function is
 * about the current task if it names no other.
 */
#ifndef CNI_MEMBERS_H
#define CNI_MEMBERS_H

static __always_inline struct cni_member *member_of(struct task_struct *task, bool create)
{
	return bpf_task_storage_get(&cni_members, task, NULL, create ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
}

/* A call under way, by the process that began it. */
static __always_inline struct cni_call *call_at(__u32 pid, __u64 started, bool *trusted)
{
	struct cni_call *found = bpf_map_lookup_elem(&cni_calls, &pid);

	*trusted = found && found->started == started;
	if (*trusted)
		return found;
	found = bpf_map_lookup_elem(&cni_untrusted, &pid);
	return found && found->started == started ? found : NULL;
}

/*
 * The task belongs to this call from now on. Without memory for that, helpers of it will be taken for calls:
 * one stands for all of them in the count of what is lost.
 */
static __always_inline void join_call(struct task_struct *task, __u32 pid, __u64 started)
{
	struct cni_member *member = member_of(task, true);

	if (!member) {
		count_lost(RECORD_CNI_EXEC);
		return;
	}
	if (!member->pid)
		__sync_fetch_and_add(&in_calls, 1);
	member->started = started;
	member->pid = pid;
}

/* The task has made another, a process or a thread, which belongs to the same call. */
static __always_inline void inherit_call(struct task_struct *child)
{
	struct cni_member *member;

	if (!in_calls)
		return;
	member = member_of(bpf_get_current_task_btf(), false);
	if (member && member->pid)
		join_call(child, member->pid, member->started);
}

/* The task has ended. */
static __always_inline void leave_call(void)
{
	struct cni_member *member = member_of(bpf_get_current_task_btf(), false);

	if (!member || !member->pid)
		return;
	member->pid = 0;
	__sync_fetch_and_add(&in_calls, -1);
}

/*
 * The task, or a child that it is making, enters a namespace. Of each call the first one other than its own
 * is reported, and the second: then the call is about none of them. What finds no room in the ring is not
 * lost: the end of the call tells, too.
 */
__noinline int call_enters(const struct netns *ns)
{
	struct cni_entered_record *record;
	struct cni_member *member;
	struct cni_call *call;
	bool trusted;
	__u64 first;

	if (!ns || !in_calls)
		return 0;
	member = member_of(bpf_get_current_task_btf(), false);
	if (!member || !member->pid)
		return 0;
	call = call_at(member->pid, member->started, &trusted);
	if (!call || ns->cookie == call->own)
		return 0;
	first = __sync_val_compare_and_swap(&call->entered, 0, ns->cookie);
	if (first == ns->cookie || (first && call->several))
		return 0;
	if (first)
		call->several = 1;
	else
		call->entered_inum = ns->inum;
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record)
		return 0;
	record->type = RECORD_CNI_ENTERED;
	record->pid = member->pid;
	record->started = member->started;
	record->cookie = ns->cookie;
	record->inum = ns->inum;
	bpf_ringbuf_submit(record, 0);
	return 0;
}

#endif
