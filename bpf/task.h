/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Who: the ids of a task, and the cgroup it is in. */
#ifndef CNI_TASK_H
#define CNI_TASK_H

/* One v1 controller's cgroup, if it is deeper. A controller that this kernel does not have costs nothing. */
#define DEEPER(set, best, i)                                                                            \
	if (bpf_core_field_exists((set)->subsys[i]) && (set)->subsys[i]->cgroup->level > (best)->level) \
		best = (set)->subsys[i]->cgroup;

/*
 * The cgroup that says most about a task: its own on v2 or, where that is the root (legacy and
 * hybrid set-ups), the deepest of its v1 cgroups.
 *
 * v1 is read through `dom_cset`, which has the same v1 cgroups: what is reached from a pointer that the
 * verifier trusts (task->cgroups) costs it a search through all types of the kernel, a millisecond each.
 */
static __always_inline struct cgroup *cgroup_of(struct task_struct *task)
{
	struct css_set *set = task->cgroups;
	struct cgroup *best = set->dfl_cgrp;

	if (best->level)
		return best;
	set = set->dom_cset;
	DEEPER(set, best, 0)
	DEEPER(set, best, 1)
	DEEPER(set, best, 2)
	DEEPER(set, best, 3)
	DEEPER(set, best, 4)
	DEEPER(set, best, 5)
	DEEPER(set, best, 6)
	DEEPER(set, best, 7)
	DEEPER(set, best, 8)
	DEEPER(set, best, 9)
	DEEPER(set, best, 10)
	DEEPER(set, best, 11)
	DEEPER(set, best, 12)
	DEEPER(set, best, 13)
	DEEPER(set, best, 14)
	DEEPER(set, best, 15)
	return best;
}

/*
 * Writes the path of the cgroup whose address stands in `id`, and says how many bytes of names it has. As a
 * global function it is verified once, not at each of its callers; such a function takes no typed pointers,
 * hence the address.
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
static __always_inline void tell_cgroup(struct cgroup *cgroup)
{
	struct cgroup_key key = {
		.id = cgroup->kn->id,
		.hierarchy = cgroup->root->hierarchy_id,
		.epoch = state.cgroup_epoch,
	};
	struct cgroup_record *record;
	__u8 yes = 1;

	if (bpf_map_lookup_elem(&told, &key))
		return;
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count_lost(RECORD_CGROUP);
		return;
	}
	record->id = (__u64)cgroup;
	cgroup_path(record);
	bpf_ringbuf_submit(record, 0);
	bpf_map_update_elem(&told, &key, &yes, BPF_ANY);
}

static __always_inline void describe_task(struct task_struct *task, struct cgroup *cgroup,
					  struct netns_record *record)
{
	record->pid = task->tgid;
	record->tid = task->pid;
	record->ppid = BPF_CORE_READ(task, real_parent, tgid);
	record->uid = BPF_CORE_READ(task, cred, uid.val);
	record->cgroup = cgroup->kn->id;
	record->hierarchy = cgroup->root->hierarchy_id;
	bpf_probe_read_kernel(record->comm, sizeof(record->comm), task->comm);
}

#endif
