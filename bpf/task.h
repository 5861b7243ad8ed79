/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Who: the ids of a task, and the cgroup it is in. */
#ifndef CNI_TASK_H
#define CNI_TASK_H

/* One v1 controller's cgroup, if it is deeper. A controller that this kernel does not have costs nothing. */
#define DEEPER(i)                                                              \
	if (bpf_core_field_exists(set->subsys[i])) {                           \
		cgroup = BPF_CORE_READ(set, subsys[i], cgroup);                \
		if (BPF_CORE_READ(cgroup, level) > BPF_CORE_READ(best, level)) \
			best = cgroup;                                         \
	}

/*
 * The cgroup that says most about a task: its own on v2 or, where that is the root (legacy and
 * hybrid set-ups), the deepest of its v1 cgroups.
 */
static __always_inline const struct cgroup *cgroup_of(const struct task_struct *task)
{
	const struct css_set *set = BPF_CORE_READ(task, cgroups);
	const struct cgroup *best = BPF_CORE_READ(set, dfl_cgrp), *cgroup;

	if (BPF_CORE_READ(best, level))
		return best;
	DEEPER(0)
	DEEPER(1)
	DEEPER(2)
	DEEPER(3)
	DEEPER(4)
	DEEPER(5)
	DEEPER(6)
	DEEPER(7)
	DEEPER(8)
	DEEPER(9)
	DEEPER(10)
	DEEPER(11)
	DEEPER(12)
	DEEPER(13)
	DEEPER(14)
	DEEPER(15)
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
static __always_inline void tell_cgroup(const struct cgroup *cgroup)
{
	struct cgroup_key key = {
		.id = BPF_CORE_READ(cgroup, kn, id),
		.hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id),
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

static __always_inline void describe_task(const struct task_struct *task, const struct cgroup *cgroup,
					  struct netns_record *record)
{
	record->pid = task->tgid;
	record->tid = task->pid;
	record->ppid = BPF_CORE_READ(task, real_parent, tgid);
	record->uid = BPF_CORE_READ(task, cred, uid.val);
	record->cgroup = BPF_CORE_READ(cgroup, kn, id);
	record->hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id);
	bpf_probe_read_kernel(record->comm, sizeof(record->comm), task->comm);
}

#endif
