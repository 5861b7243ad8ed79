/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Which network namespace the path in CNI_NETNS leads to: for the current process, with its mounts and its
 * root, at the time when it begins. Only what is certain counts: a mount of a namespace, by its own path, and
 * /proc/PID/ns/net. No path is opened.
 */
#ifndef CNI_PATHS_H
#define CNI_PATHS_H

#define VAR 4 /* bytes of "/var" */
#define PROC_STACK 3 /* mounts on /proc: `unshare --mount-proc` makes a second one */

/* Two texts that are compared from behind, where paths differ. */
struct comparison {
	struct mount_walk *walk;
	struct cni_start_record *record;
	__u32 text; /* behind the last byte, in the record */
	__u32 path; /* the same, in the walk */
};

STEP(compare_next, struct comparison *two)
{
	__u32 text = two->text - 1 - two->walk->equal;
	__u32 path = two->path - 1 - two->walk->equal;

	if (path < two->walk->start || text >= CNI_TEXT || path >= MOUNT_PATH ||
	    two->record->text[text] != two->walk->path[path])
		return 1;
	two->walk->equal++;
	return 0;
}

/* /var/run is a link to /run, as the Filesystem Hierarchy Standard has it. */
__noinline int is_below_var_run(struct cni_start_record *record, __u32 at)
{
	const char *text;

	if (!record || at > CNI_TEXT - 16)
		return 0;
	text = record->text + at;
	return *(__u32 *)text == WORD('/', 'v', 'a', 'r') &&
	       *(__u32 *)(text + VAR) == WORD('/', 'r', 'u', 'n') && text[8] == '/';
}

/* Keeps the namespace of the mount that the walk has come to, if that is the one that is looked for. */
__noinline int match_mount(struct mount_walk *walk, struct cni_start_record *record, __u32 at, __u32 length)
{
	struct comparison two = {.walk = walk, .record = record, .text = at + length};
	__u32 path;
	bool linked;

	if (!walk || !record || !place_mount(walk))
		return 0;
	two.path = walk->end;
	walk->equal = 0;
	path = walk->end - walk->start;
	linked = path != length;
	if (linked && (path + VAR != length || !is_below_var_run(record, at)))
		return 0;
	LOOP(compare_next, &two);
	if (walk->equal != path || exposure_of_mount(walk) != EXPOSED)
		return 0;
	walk->found[linked].cookie = walk->cookie;
	walk->found[linked].inum = walk->inum;
	return 0;
}

/* A walk through the mounts, and the path that is looked for. */
struct search {
	struct mount_walk *walk;
	struct cni_start_record *record;
	__u32 at;
	__u32 length;
};

STEP(search_next, struct search *search)
{
	return next_mount(search->walk) ||
	       match_mount(search->walk, search->record, search->at, search->length);
}

/* The namespace that is mounted on the path. A path that is written as it is goes ahead of one by a link. */
__noinline int find_mount(struct cni_start_record *record, __u32 at, __u32 length)
{
	__u32 zero = 0;
	struct search search = {.record = record, .at = at, .length = length};
	struct mount_walk *walk = bpf_map_lookup_elem(&path_walks, &zero);

	if (!walk || !record)
		return 0;
	search.walk = walk;
	for (int i = 0; i < 3; i++) { /* the list may have changed meanwhile, and is gone through again */
		walk->found[0].cookie = walk->found[1].cookie = 0;
		begin_walk(walk, bpf_get_current_task_btf());
		LOOP(search_next, &search);
		if (walk->ended)
			break;
	}
	if (!walk->ended)
		return 0;
	if (walk->found[0].cookie) {
		record->path_cookie = walk->found[0].cookie;
		record->path_inum = walk->found[0].inum;
	} else {
		record->path_cookie = walk->found[1].cookie;
		record->path_inum = walk->found[1].inum;
	}
	return 0;
}

/* The mounts on a mount, in the search for what /proc is. */
struct proc_search {
	const struct list_head *head;
	const struct list_head *at;
	const struct dentry *directory; /* the root, or a proc's */
	const struct mount *found;
	bool clear; /* all were looked at, and none is in the way */
};

static __always_inline void search_on(struct proc_search *search, const struct mount *mount,
				      const struct dentry *directory)
{
	search->head = (void *)mount + bpf_core_field_offset(struct mount, mnt_mounts);
	search->at = BPF_CORE_READ(mount, mnt_mounts.next);
	search->directory = directory;
	search->found = NULL;
	search->clear = false;
}

STEP(next_for_proc, struct proc_search *search)
{
	const struct list_head *at = search->at;
	const struct mount *child;
	const struct dentry *point;
	__u32 name = 0;

	if (at == search->head || !at)
		return 1;
	child = (void *)at - bpf_core_field_offset(struct mount, mnt_child);
	point = BPF_CORE_READ(child, mnt_mountpoint);
	if (BPF_CORE_READ(point, d_parent) == search->directory && BPF_CORE_READ(point, d_name.len) == 4) {
		bpf_probe_read_kernel(&name, sizeof(name), BPF_CORE_READ(point, d_name.name));
		if (name == WORD('p', 'r', 'o', 'c')) {
			search->found = child;
			return 1;
		}
	}
	search->at = BPF_CORE_READ(at, next);
	return search->at == at;
}

/*
 * Looks for another mount on the root of a proc, which is what /proc is then, and for one that may be on the
 * way to a process' namespaces: on PID, PID/ns, PID/task or PID/task/TID.
 */
STEP(next_on_proc, struct proc_search *search)
{
	const struct list_head *at = search->at;
	const struct mount *child;
	const struct dentry *point;
	char name[8] = {};

	search->clear = at == search->head;
	if (search->clear)
		return 1;
	child = (void *)at - bpf_core_field_offset(struct mount, mnt_child);
	point = BPF_CORE_READ(child, mnt_mountpoint);
	if (point == search->directory) {
		search->found = child;
		return 1;
	}
	bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(point, d_name.name));
	if ((name[0] >= '0' && name[0] <= '9') || !__builtin_memcmp(name, "ns\0\0\0\0\0", 8) ||
	    !__builtin_memcmp(name, "task\0\0\0", 8))
		return 1;
	search->at = BPF_CORE_READ(at, next);
	return !search->at || search->at == at;
}

/* Whose processes /proc shows to the current process: the address of a pid namespace; 0 where that is not
 * certain. */
__noinline __u64 pid_ns_of_proc(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	const struct mount *mount =
		(void *)BPF_CORE_READ(task, fs, root.mnt) - bpf_core_field_offset(struct mount, mnt);
	struct proc_search search = {};
	const struct super_block *proc;
	const struct proc_fs_info *shown;

	search_on(&search, mount, BPF_CORE_READ(task, fs, root.dentry));
	LOOP(next_for_proc, &search);
	for (int i = 0; i < PROC_STACK && search.found; i++) {
		mount = search.found;
		search_on(&search, mount, BPF_CORE_READ(mount, mnt.mnt_root));
		LOOP(next_on_proc, &search);
	}
	if (!search.clear)
		return 0;
	proc = BPF_CORE_READ(mount, mnt.mnt_sb);
	if (BPF_CORE_READ(proc, s_magic) != PROC_SUPER_MAGIC ||
	    BPF_CORE_READ(proc, s_root) != search.directory)
		return 0;
	shown = BPF_CORE_READ(proc, s_fs_info);
	return (__u64)BPF_CORE_READ(shown, pid_ns);
}

#define XA_POINTER 2 /* lib/xarray.c, xa_is_node(): what the last two bits of a pointer to a node are */
#define PID_LEVELS 6 /* of 6 bits each; pids have 22 */

/* The task with a number in a pid namespace, as find_task_by_pid_ns() finds it: its address, or 0. */
__noinline __u64 task_of(__u64 pid_ns_address, __u32 number)
{
	const struct pid_namespace *pid_ns = (const struct pid_namespace *)pid_ns_address;
	__u64 entry = (__u64)BPF_CORE_READ(pid_ns, idr.idr_rt.xa_head);
	const struct hlist_node *first;

	for (int i = 0; i < PID_LEVELS; i++) {
		const struct xa_node *node = (const struct xa_node *)(entry - XA_POINTER);
		__u32 width = bpf_core_field_size(node->slots) / sizeof(node->slots[0]);
		__u32 slot;
		__u8 shift;

		if ((entry & 3) != XA_POINTER)
			break;
		shift = BPF_CORE_READ(node, shift);
		if (shift > 30)
			return 0;
		slot = number >> shift;
		if (!i && slot >= width) /* larger than any that there is */
			return 0;
		slot &= width - 1;
		if (bpf_probe_read_kernel(&entry, sizeof(entry),
					  (void *)node + bpf_core_field_offset(node->slots) + slot * 8))
			return 0;
	}
	if (!entry || entry & 3)
		return 0;
	first = BPF_CORE_READ((const struct pid *)entry, tasks[0].first); /* PIDTYPE_PID */
	return first ? (__u64)first - bpf_core_field_offset(struct task_struct, pid_links) : 0;
}

/* A number in a path: its value, 0 where none is, and where it ends. */
struct number {
	__u32 value;
	__u32 end;
};

__noinline int read_number(struct cni_start_record *record, __u32 at, struct number *number)
{
	__u32 value = 0, i;

	if (!record || !number || at > CNI_TEXT - 16)
		return 0;
	for (i = 0; i < 9; i++) {
		char digit = record->text[at + i];

		if (digit < '0' || digit > '9' || (!i && digit == '0')) /* none begins with 0 */
			break;
		value = value * 10 + digit - '0';
	}
	number->value = value;
	number->end = at + i;
	return 0;
}

/* Where the task is that /proc/PID/ns/net or /proc/PID/task/TID/ns/net names. */
__noinline int find_proc(struct cni_start_record *record, __u32 at, __u32 length)
{
	struct number number = {};
	const struct task_struct *task, *thread;
	const struct net *net;
	__u64 pid_ns;
	const char *text;
	__u32 end;

	if (!record || at > CNI_TEXT - 16)
		return 0;
	text = record->text + at;
	if (*(__u32 *)text != WORD('/', 'p', 'r', 'o') || *(__u16 *)(text + 4) != ('c' | '/' << 8))
		return 0;
	pid_ns = pid_ns_of_proc();
	read_number(record, at + 6, &number);
	if (!pid_ns || !number.value)
		return 0;
	task = (const struct task_struct *)task_of(pid_ns, number.value);
	end = number.end;
	if (!task || end > CNI_TEXT - 16)
		return 0;
	text = record->text + end;
	if (*(__u32 *)text == WORD('/', 't', 'a', 's') && *(__u16 *)(text + 4) == ('k' | '/' << 8)) {
		read_number(record, end + 6, &number);
		thread = number.value ? (const struct task_struct *)task_of(pid_ns, number.value) : NULL;
		end = number.end;
		if (!thread || end > CNI_TEXT - 16 ||
		    BPF_CORE_READ(thread, tgid) != BPF_CORE_READ(task, tgid))
			return 0;
		task = thread;
		text = record->text + end;
	}
	if (end + 7 != at + length || *(__u32 *)text != WORD('/', 'n', 's', '/') ||
	    *(__u32 *)(text + 4) != WORD('n', 'e', 't', 0))
		return 0;
	net = BPF_CORE_READ(task, nsproxy, net_ns);
	if (!net)
		return 0;
	record->path_cookie = BPF_CORE_READ(net, net_cookie);
	record->path_inum = BPF_CORE_READ(net, ns.inum);
	return 0;
}

/* Says in the record of the current process where its CNI_NETNS leads; `at` 0: it has none, or that is cut.
 */
static __always_inline void find_path(struct cni_start_record *record, __u32 at, __u32 length)
{
	if (!at || at + length >= CNI_TEXT || length > MOUNT_PATH)
		return;
	find_proc(record, at, length);
	if (!record->path_cookie)
		find_mount(record, at, length);
	if (record->path_cookie == state.host_cookie) {
		record->path_cookie = 0;
		record->path_inum = 0;
	}
}

#endif
