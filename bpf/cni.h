/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * CNI calls. A CNI call is a process that was started with CNI_COMMAND in its environment, whatever it is a
 * process of; it lasts until the process ends, also if that executes something else meanwhile.
 */
#ifndef CNI_CNI_H
#define CNI_CNI_H

static __always_inline struct cni_scratch *scratch_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&cni_scratch, &zero);
}

/* An environment, and how far it has been read. */
struct environment {
	__u64 at; /* the part that has not been read yet */
	__u64 end;
	__u32 used; /* bytes of the record's text */
	__u32 command; /* what the search for CNI_COMMAND came to: enum command */
	__u32 netns; /* where the value of CNI_NETNS stands in the record's text; 0: it is not there */
	__u32 netns_length;
	bool cut; /* something that matters did not fit */
	bool kept; /* the last variable matters */
	bool tail; /* what follows is the rest of that variable */
};

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
#define NETNS_NAME 10 /* bytes of "CNI_NETNS=" */
#define IS_NETNS(words)                                                                      \
	((words)[0] == WORD('C', 'N', 'I', '_') && (words)[1] == WORD('N', 'E', 'T', 'N') && \
	 (__u16)(words)[2] == ('S' | '=' << 8))
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
	COMMAND_ABSENT = 0,
	COMMAND_FOUND,
	COMMAND_UNREADABLE, /* the kernel could not get at the memory without waiting */
};

/*
 * Looks for CNI_COMMAND in a part of the environment. The name and its sign have twelve bytes: wherever they
 * begin, four of them stand at a multiple of eight, so the other half of the text need not be looked at.
 */
__noinline int command_in(__u64 address, __u32 size)
{
	struct cni_scratch *scratch = scratch_here();

	if (!scratch || size > CNI_CHUNK || bpf_probe_read_user(scratch->chunk, size, (void *)address))
		return COMMAND_UNREADABLE;
	for (__u32 i = 0; i < CNI_CHUNK; i += 8) {
		__u32 word;
		int offset;

		if (i >= size)
			break;
		word = *(__u32 *)(scratch->chunk + i);
		if ((word & 0xe0e0e0e0) != 0x40404040) /* not all of them from @ to _, the capitals */
			continue;
		offset = offset_of(word);
		if (offset >= 0 && is_command(address + i - offset))
			return COMMAND_FOUND;
	}
	return COMMAND_ABSENT;
}

/* The next step of a search through the environment: whether it was the last. */
__noinline int look_further(struct environment *env)
{
	__u64 left = env ? env->end - env->at : 0;
	__u32 size = left < CNI_CHUNK ? left : CNI_CHUNK;

	if (!left)
		return 1;
	env->command = command_in(env->at, size);
	env->at += size;
	return env->command != COMMAND_ABSENT;
}

/*
 * Adds the next variable to the record, if it matters; whether that was the last. One that is longer than its
 * place comes in parts. A global function, like those above: otherwise the verifier walks it for each state
 * that a loop can be in.
 */
__noinline int keep_next(struct environment *env)
{
	struct cni_scratch *scratch = scratch_here();
	__u32 used;
	const __u32 *words;
	long length;

	if (!env || !scratch || env->at >= env->end)
		return 1;
	used = env->used;
	if (used > CNI_TEXT - CNI_VARIABLE) {
		env->cut = true;
		return 1;
	}
	words = (const __u32 *)(scratch->record.text + used);
	length = bpf_probe_read_user_str((void *)words, CNI_VARIABLE, (void *)env->at);
	if (length < 0) {
		env->cut = true;
		return 1;
	}
	if (!length) /* an empty one: strncpy_from_user_nofault() counts its NUL on newer kernels only */
		length = 1;
	if (env->tail) {
		if (env->kept && length > 1)
			env->cut = true;
	} else {
		env->kept = words[0] == WORD('C', 'N', 'I', '_') || IS_TRACEPARENT(words);
		if (env->kept)
			env->used = used + length;
		if (IS_NETNS(words) && !env->netns) { /* of several, the first counts */
			env->netns = used + NETNS_NAME;
			env->netns_length = length - 1 - NETNS_NAME;
		}
	}
	env->tail = length == CNI_VARIABLE;
	env->at += env->tail ? length - 1 : length;
	return 0;
}

static long look_for_command(__u32 index, struct environment *env)
{
	return look_further(env) != 0;
}

static long keep_variables(__u32 index, struct environment *env)
{
	return keep_next(env) != 0;
}

/* All of the record but its text: who begins the CNI call, and where that is. */
__noinline int describe_cni_start(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct cgroup_at cgroup = {};
	struct cni_scratch *scratch = scratch_here();
	struct cni_start_record *record;
	struct netns own = {};

	if (!scratch)
		return 0;
	record = &scratch->record;
	netns_here(&own);
	cgroup_here(&cgroup);
	send_cgroup(&cgroup);
	record->type = RECORD_CNI_START;
	record->own_inum = own.inum;
	record->time = bpf_ktime_get_boot_ns();
	record->started = BPF_CORE_READ(task, group_leader, start_boottime);
	record->own_cookie = own.cookie;
	describe_task(task, &cgroup.key, &record->task);
	return 0;
}

/* The current process begins a CNI call; or perhaps does, if its environment cannot be read. */
static __always_inline void cni_call_begin(__u32 pid, __u64 started, const char *path,
					   struct environment *env)
{
	struct cni_call entry = {.started = started, .unreadable = env->command == COMMAND_UNREADABLE};
	struct cni_scratch *scratch = scratch_here();
	__u32 length;
	long used;

	if (!scratch)
		return;
	describe_cni_start();
	entry.began = scratch->record.time;
	if (bpf_map_update_elem(&cni_calls, &pid, &entry, BPF_ANY))
		count_lost(RECORD_CNI_END);
	scratch->record.text[0] = 0;
	used = bpf_probe_read_kernel_str(scratch->record.text, CNI_VARIABLE, path);
	env->used = used > 0 ? used : 1;
	bpf_loop(1 << 20, keep_variables, env, 0);
	find_path(&scratch->record, env->netns, env->netns_length);
	scratch->record.cut = env->cut || env->at < env->end;
	scratch->record.length = env->used;
	length = offsetof(struct cni_start_record, text) + env->used;
	if (length <= sizeof(scratch->record) && bpf_ringbuf_output(&ring, &scratch->record, length, 0))
		count_lost(RECORD_CNI_START);
}

/* The last thread of the current process has ended; `leader` is its first one. */
static __always_inline void cni_call_end(struct task_struct *task, struct task_struct *leader)
{
	__u32 pid = task->tgid;
	struct cni_call *found = bpf_map_lookup_elem(&cni_calls, &pid);
	struct cni_end_record *record;
	struct cgroup_at cgroup = {};
	struct cni_call entry;

	if (!found)
		return;
	entry = *found;
	/* Two threads that end at once may both find none left: the one that deletes the entry reports. */
	if (bpf_map_delete_elem(&cni_calls, &pid) || entry.started != leader->start_boottime)
		return;
	if (!wanted(RECORD_CNI_END))
		return;
	cgroup_here(&cgroup);
	send_cgroup(&cgroup);
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count_lost(RECORD_CNI_END);
		return;
	}
	record->type = RECORD_CNI_END;
	record->unreadable = entry.unreadable;
	if (BPF_CORE_READ(task, signal, flags) & SIGNAL_GROUP_EXIT)
		record->status = BPF_CORE_READ(task, signal, group_exit_code);
	else
		record->status = leader->exit_code;
	record->time = bpf_ktime_get_boot_ns();
	record->started = entry.started;
	record->duration = record->time - entry.began;
	describe_task(leader, &cgroup.key, &record->task);
	bpf_ringbuf_submit(record, 0);
}

/* The current process has executed a program. */
static __always_inline void process_exec(struct task_struct *task, const char *path)
{
	__u64 started = task->group_leader->start_boottime;
	__u32 pid = task->tgid;
	struct cni_call *known = bpf_map_lookup_elem(&cni_calls, &pid);
	struct mm_struct *mm = task->mm;
	struct environment env = {.at = mm->env_start, .end = mm->env_end};

	if (known && known->started == started && !known->unreadable)
		return;
	bpf_loop(1 << 20, look_for_command, &env, 0);
	if (env.command == COMMAND_ABSENT)
		return;
	env.at = mm->env_start;
	cni_call_begin(pid, started, path, &env);
}

/* The current thread is ending, and off the count of the living: the last one sees none left. */
static __always_inline void thread_exit(struct task_struct *task)
{
	if ((wanted(RECORD_CNI_START) || wanted(RECORD_CNI_END)) && !task->signal->live.counter)
		cni_call_end(task, task->group_leader);
}

#endif
