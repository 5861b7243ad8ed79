/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * CNI plugin calls. A call is a process that was started with CNI_COMMAND in its environment, whatever it is
 * a process of; it lasts until the process ends, also if that executes something else meanwhile.
 */
#ifndef CNI_PLUGINS_H
#define CNI_PLUGINS_H

static __always_inline struct space *my_space(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&spaces, &zero);
}

/* The part of an environment that has not been read yet. */
struct rest {
	__u64 at;
	__u64 end;
	__u32 used; /* bytes of the record's text */
	__u32 command;
	bool cut; /* something that matters did not fit */
	bool kept; /* the last variable matters */
	bool tail; /* what follows is the rest of that variable */
};

#define WORD(a, b, c, d) ((__u32)(a) | (__u32)(b) << 8 | (__u32)(c) << 16 | (__u32)(d) << 24)

/* How far into CNI_COMMAND= these four bytes stand, if they are of its first eleven. */
__noinline int offset_of(__u32 word)
{
	switch (word) {
	case WORD('C', 'N', 'I', '_'):
		return 0;
	case WORD('N', 'I', '_', 'C'):
		return 1;
	case WORD('I', '_', 'C', 'O'):
		return 2;
	case WORD('_', 'C', 'O', 'M'):
		return 3;
	case WORD('C', 'O', 'M', 'M'):
		return 4;
	case WORD('O', 'M', 'M', 'A'):
		return 5;
	case WORD('M', 'M', 'A', 'N'):
		return 6;
	case WORD('M', 'A', 'N', 'D'):
		return 7;
	}
	return -1;
}

#define IS_COMMAND(words)                                                                    \
	((words)[0] == WORD('C', 'N', 'I', '_') && (words)[1] == WORD('C', 'O', 'M', 'M') && \
	 (words)[2] == WORD('A', 'N', 'D', '='))
#define IS_TRACEPARENT(words)                                                                \
	((words)[0] == WORD('T', 'R', 'A', 'C') && (words)[1] == WORD('E', 'P', 'A', 'R') && \
	 (words)[2] == WORD('E', 'N', 'T', '='))

/* Whether the variable begins here. What stands before the first variable is the end of the last argument. */
__noinline int is_command(__u64 address)
{
	__u32 words[4] = {};
	char *before = (char *)words + 3;

	return !bpf_probe_read_user(before, 13, (void *)(address - 1)) && !*before && IS_COMMAND(words + 1);
}

enum command {
	COMMAND_ABSENT,
	COMMAND_FOUND,
	COMMAND_UNREAD, /* the kernel could not get at the memory without waiting */
};

/*
 * Looks for CNI_COMMAND in a part of the environment. The name and its sign have twelve bytes: wherever they
 * begin, four of them stand at a multiple of eight, so the other half of the text need not be looked at.
 */
__noinline int command_in(__u64 address, __u32 size)
{
	struct space *space = my_space();

	if (!space || size > CHUNK || bpf_probe_read_user(space->chunk, size, (void *)address))
		return COMMAND_UNREAD;
	for (__u32 i = 0; i < CHUNK; i += 8) {
		__u32 word;
		int offset;

		if (i >= size)
			break;
		word = *(__u32 *)(space->chunk + i);
		if ((word & 0xe0e0e0e0) != 0x40404040) /* not all of them from @ to _, the capitals */
			continue;
		offset = offset_of(word);
		if (offset >= 0 && is_command(address + i - offset))
			return COMMAND_FOUND;
	}
	return COMMAND_ABSENT;
}

/* The next step of a search through the environment: whether it was the last. */
__noinline int look_further(struct rest *rest)
{
	__u64 left = rest ? rest->end - rest->at : 0;
	__u32 size = left < CHUNK ? left : CHUNK;

	if (!left)
		return 1;
	rest->command = command_in(rest->at, size);
	rest->at += size;
	return rest->command != COMMAND_ABSENT;
}

/*
 * Adds the next variable to the record, if it matters; whether that was the last. One that is longer than its
 * place comes in parts. A global function, like those above: otherwise the verifier walks it for each state
 * that a loop can be in.
 */
__noinline int keep_next(struct rest *rest)
{
	struct space *space = my_space();
	__u32 used;
	const __u32 *words;
	long length;

	if (!rest || !space || rest->at >= rest->end)
		return 1;
	used = rest->used;
	if (used > CNI_TEXT - CNI_VARIABLE) {
		rest->cut = true;
		return 1;
	}
	words = (const __u32 *)(space->record.text + used);
	length = bpf_probe_read_user_str((void *)words, CNI_VARIABLE, (void *)rest->at);
	if (length < 0) {
		rest->cut = true;
		return 1;
	}
	if (!length) /* an empty one: strncpy_from_user_nofault() counts its NUL on newer kernels only */
		length = 1;
	if (rest->tail) {
		if (rest->kept && length > 1)
			rest->cut = true;
	} else {
		rest->kept = words[0] == WORD('C', 'N', 'I', '_') || IS_TRACEPARENT(words);
		if (rest->kept)
			rest->used = used + length;
	}
	rest->tail = length == CNI_VARIABLE;
	rest->at += rest->tail ? length - 1 : length;
	return 0;
}

static long look_for_command(__u32 index, struct rest *rest)
{
	return look_further(rest) != 0;
}

static long keep_variables(__u32 index, struct rest *rest)
{
	return keep_next(rest) != 0;
}

/* Who begins a call: the current process, and where it is. */
__noinline int describe_plugin(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct cgroup_at cgroup = cgroup_of(task);
	struct space *space = my_space();
	struct cni_start_record *record;
	struct netns own = {};

	if (!space)
		return 0;
	record = &space->record;
	netns_here(&own);
	tell_cgroup(&cgroup);
	record->type = RECORD_CNI_START;
	record->own_inum = own.inum;
	record->time = bpf_ktime_get_boot_ns();
	record->started = task->group_leader->start_boottime;
	record->own_cookie = own.cookie;
	describe_task(task, &cgroup.key, &record->task);
	return 0;
}

/* The current process begins a CNI call; or perhaps does, if its environment cannot be read. */
static __always_inline void plugin_begins(__u32 pid, __u64 started, const char *path, struct rest *rest)
{
	struct plugin plugin = {.started = started, .unsure = rest->command == COMMAND_UNREAD};
	struct space *space = my_space();
	__u32 length;
	long used;

	if (!space)
		return;
	describe_plugin();
	plugin.began = space->record.time;
	if (bpf_map_update_elem(&plugins, &pid, &plugin, BPF_ANY))
		count_lost(RECORD_CNI_END);
	space->record.text[0] = 0;
	used = bpf_probe_read_kernel_str(space->record.text, CNI_VARIABLE, path);
	rest->used = used > 0 ? used : 1;
	bpf_loop(1 << 20, keep_variables, rest, 0);
	space->record.cut = rest->cut || rest->at < rest->end;
	space->record.length = rest->used;
	length = offsetof(struct cni_start_record, text) + rest->used;
	if (length <= sizeof(space->record) && bpf_ringbuf_output(&ring, &space->record, length, 0))
		count_lost(RECORD_CNI_START);
}

/* The current process has begun to execute a program. */
static __always_inline void executed(struct task_struct *task, const char *path)
{
	__u64 started = task->group_leader->start_boottime;
	__u32 pid = task->tgid;
	struct plugin *plugin = bpf_map_lookup_elem(&plugins, &pid);
	struct mm_struct *mm = task->mm;
	struct rest rest = {.at = mm->env_start, .end = mm->env_end};

	if (plugin && plugin->started == started && !plugin->unsure)
		return;
	bpf_loop(1 << 20, look_for_command, &rest, 0);
	if (rest.command == COMMAND_ABSENT)
		return;
	rest.at = mm->env_start;
	plugin_begins(pid, started, path, &rest);
}

/* The last thread of the current process has ended; `leader` is its first one. */
static __always_inline void plugin_ends(struct task_struct *task, struct task_struct *leader)
{
	__u32 pid = task->tgid;
	struct plugin *found = bpf_map_lookup_elem(&plugins, &pid);
	struct cni_end_record *record;
	struct cgroup_at cgroup;
	struct plugin plugin;

	if (!found)
		return;
	plugin = *found;
	/* Two threads that end at once may both find none left: the one that deletes the entry reports. */
	if (bpf_map_delete_elem(&plugins, &pid) || plugin.started != leader->start_boottime)
		return;
	if (!wanted(RECORD_CNI_END))
		return;
	cgroup = cgroup_of(task);
	tell_cgroup(&cgroup);
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count_lost(RECORD_CNI_END);
		return;
	}
	record->type = RECORD_CNI_END;
	record->unsure = plugin.unsure;
	record->status =
		task->signal->flags & SIGNAL_GROUP_EXIT ? task->signal->group_exit_code : leader->exit_code;
	record->time = bpf_ktime_get_boot_ns();
	record->started = plugin.started;
	record->duration = record->time - plugin.began;
	describe_task(leader, &cgroup.key, &record->task);
	bpf_ringbuf_submit(record, 0);
}

/* The current thread is ending, and off the count of the living: the last one sees none left. */
static __always_inline void thread_ended(struct task_struct *task)
{
	if (!task->signal->live.counter)
		plugin_ends(task, task->group_leader);
}

#endif
