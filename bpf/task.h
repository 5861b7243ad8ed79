/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Who: the ids of a task, and the cgroup it is in. */
#ifndef CNI_TASK_H
#define CNI_TASK_H

/* A cgroup: where it lies in the kernel, and what it is known by. */
struct cgroup_at {
	__u64 address;
	struct cgroup_key key;
};

/* The deepest of a task's cgroups on v1. The kernel's array is as long as its list of controllers. */
static __always_inline struct cgroup *deepest_of(struct css_set *set)
{
	__u32 count = bpf_core_field_size(set->subsys) / sizeof(set->subsys[0]);
	struct cgroup_subsys_state **subsys = &set->subsys[0];
	struct cgroup *best = set->dfl_cgrp;

#pragma unroll
	for (__u32 i = 0; i < MAX_SUBSYS; i++)
		if (i < count && subsys[i]->cgroup->level > best->level)
			best = subsys[i]->cgroup;
	return best;
}

/*
 * The cgroup that says most about a task: its own on v2 or, where that is the root (legacy and
 * hybrid set-ups), the deepest of its v1 cgroups.
 *
 * v1 is read through `dom_cset`, which has the same v1 cgroups (and the same root of v2), because the
 * verifier does not trust it: each load of a pointer through one that it trusts costs it a search through all
 * types of the kernel, 0.7 ms on 6.18.
 */
static __always_inline struct cgroup_at cgroup_of(struct task_struct *task)
{
	struct cgroup_at at = {.key.epoch = state.cgroup_epoch};
	struct css_set *set = task->cgroups;
	struct cgroup *cgroup = set->dfl_cgrp;

	if (cgroup->level) {
		at.key.id = cgroup->kn->id;
	} else {
		cgroup = deepest_of(set->dom_cset);
		at.key.id = cgroup->kn->id;
		at.key.hierarchy = cgroup->root->hierarchy_id;
	}
	at.address = (__u64)cgroup;
	return at;
}

/* The same for the current task. A global function, as programs report in several places. */
__noinline int cgroup_here(struct cgroup_at *at)
{
	if (at)
		*at = cgroup_of(bpf_get_current_task_btf());
	return 0;
}

/*
 * Writes the path of the cgroup whose address stands in `id`, and says how many bytes of names it has. A
 * global function, as its loop is long.
 */
__noinline __u32 cgroup_path(struct cgroup_record *record)
{
	const struct cgroup *at;
	__u32 used = 0;

	if (!record)
		return 0;
	at = (const struct cgroup *)record->id;
	record->type = RECORD_CGROUP;
	record->level = BPF_CORE_READ(at, level);
	record->hierarchy = BPF_CORE_READ(at, root, hierarchy_id);
	record->id = BPF_CORE_READ(at, kn, id);
	for (int i = 0; i < CGROUP_DEPTH; i++) {
		long length;

		if (!BPF_CORE_READ(at, level) || used > CGROUP_NAMES - CGROUP_NAME)
			break;
		length = bpf_probe_read_kernel_str(record->names + used, CGROUP_NAME,
						   BPF_CORE_READ(at, kn, name));
		if (length <= 0)
			break;
		used += length;
		at = BPF_CORE_READ(at, self.parent, cgroup);
	}
	record->length = used;
	return used;
}

/* Sends the path of a cgroup, once. It counts as sent only when it is in the ring. */
static __always_inline void send_cgroup(const struct cgroup_at *at)
{
	struct cgroup_record *record;
	__u8 yes = 1;

	if (bpf_map_lookup_elem(&sent_cgroups, &at->key))
		return;
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count_lost(RECORD_CGROUP);
		return;
	}
	record->id = at->address;
	cgroup_path(record);
	bpf_ringbuf_submit(record, 0);
	bpf_map_update_elem(&sent_cgroups, &at->key, &yes, BPF_ANY);
}

static __always_inline void describe_task(struct task_struct *task, const struct cgroup_key *cgroup,
					  struct task *who)
{
	who->pid = task->tgid;
	who->tid = task->pid;
	who->ppid = BPF_CORE_READ(task, real_parent, tgid);
	who->uid = BPF_CORE_READ(task, cred, uid.val);
	who->cgroup = cgroup->id;
	who->hierarchy = cgroup->hierarchy;
	bpf_probe_read_kernel(who->comm, sizeof(who->comm), task->comm);
}

#endif
