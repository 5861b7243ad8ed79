/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * CNI calls. A process begins one that executes a program with CNI_COMMAND in its environment and holds
 * CAP_SYS_ADMIN then, as every plugin needs that for setns(). It lasts until the process ends, also if that
 * executes something else meanwhile.
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
	__u32 room; /* bytes of the record's text that may be used before the last variable */
	__u32 longest; /* bytes of a variable that are kept */
	__u32 netns; /* where the value of CNI_NETNS stands in the record's text; 0: it is not there */
	__u32 netns_length;
	__u32 cni_path; /* where CNI_PATH= stands in the text; 0: nowhere */
	bool cut; /* something that matters did not fit */
	bool kept; /* the last variable matters */
	bool tail; /* what follows is the rest of that variable */
	__u8 padding; /* 5.15 wants every byte written that a global function may read */
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

#define CNI_PATH_SIGN 9 /* bytes of CNI_PATH= */
#define IS_CNI_PATH(words)                                                                   \
	((words)[0] == WORD('C', 'N', 'I', '_') && (words)[1] == WORD('P', 'A', 'T', 'H') && \
	 *(const char *)((words) + 2) == '=')

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
	const __u32 *words;
	__u32 used, longest;
	long length;

	if (!env || !scratch || env->at >= env->end)
		return 1;
	used = env->used;
	longest = env->longest;
	if (used > CNI_TEXT - CNI_VARIABLE || used > env->room || longest > CNI_VARIABLE) {
		env->cut = true;
		return 1;
	}
	words = (const __u32 *)(scratch->record.text + used);
	length = bpf_probe_read_user_str((void *)words, longest, (void *)env->at);
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
		if (!env->cni_path && IS_CNI_PATH(words))
			env->cni_path = used;
	}
	env->tail = length == longest;
	env->at += env->tail ? length - 1 : length;
	return 0;
}

STEP(look_for_command, struct environment *env)
{
	return look_further(env) != 0;
}

STEP(keep_variables, struct environment *env)
{
	return keep_next(env) != 0;
}

/* A text is read, path by path, and each path name by name: so that its directory is known, normalised. */
struct paths {
	__u64 name; /* hash of the name so far */
	__u64 wanted; /* of the directory that is looked for; 0: none is */
	__u32 at; /* in the text */
	__u32 length; /* of the name so far */
	__u32 dots; /* at its beginning */
	__u32 depth; /* of the directory that the names so far lead to */
	bool inside; /* of a path, not at its beginning */
	bool odd; /* nothing can be said of the path: it is too deep, or leads out of where it begins */
	bool found;
	__u8 padding[5]; /* as in struct environment */
};

#define HASH_OF_ROOT 1
#define HASH_OF_HERE 2
#define HASH_FACTOR 0x100000001b3ULL /* FNV-1a's */

/* The name has ended: it leads on, or nowhere, or up. */
static __always_inline void end_name(struct paths *paths, __u64 *directories)
{
	bool only_dots = paths->length == paths->dots;
	__u32 depth = paths->depth;

	if (only_dots && paths->length == 2) {
		if (depth)
			paths->depth = depth - 1;
		else if (directories[0] != HASH_OF_ROOT)
			paths->odd = true;
	} else if (paths->length && !(only_dots && paths->length == 1)) {
		if (depth < CNI_DEPTH - 1) {
			directories[(depth + 1) & (CNI_DEPTH - 1)] =
				(directories[depth & (CNI_DEPTH - 1)] ^ paths->name) * HASH_FACTOR +
				paths->length;
			paths->depth = depth + 1;
		} else {
			paths->odd = true;
		}
	}
	paths->name = 0;
	paths->length = 0;
	paths->dots = 0;
}

/*
 * Takes the next byte of one path, or of a list of them when a directory is wanted. Whether it was the last.
 * A global function, as its callers are loops.
 */
__noinline int next_byte(struct paths *paths)
{
	struct cni_scratch *scratch = scratch_here();
	__u32 at = paths ? paths->at : 0;
	__u8 byte;

	if (!paths || !scratch || at >= CNI_TEXT)
		return 1;
	paths->at = at + 1;
	byte = scratch->record.text[at];
	if (!paths->inside)
		scratch->directories[0] = byte == '/' ? HASH_OF_ROOT : HASH_OF_HERE;
	if (byte && byte != '/' && !(byte == ':' && paths->wanted)) {
		paths->inside = true;
		if (byte == '.' && paths->dots == paths->length)
			paths->dots++;
		paths->length++;
		paths->name = (paths->name ^ byte) * HASH_FACTOR;
		return 0;
	}
	end_name(paths, scratch->directories);
	if (byte == '/') {
		paths->inside = true;
		return 0;
	}
	if (paths->wanted) {
		paths->found = paths->inside && !paths->odd &&
			       scratch->directories[paths->depth & (CNI_DEPTH - 1)] == paths->wanted;
		paths->inside = false;
		paths->odd = false;
		paths->depth = 0;
	}
	return !byte || paths->found;
}

STEP(take_bytes, struct paths *paths)
{
	return next_byte(paths) != 0;
}

/*
 * Whether the path that was executed lies in a directory of CNI_PATH, by their names alone. Both are in the
 * record's text.
 */
__noinline int lies_in_cni_path(__u32 cni_path)
{
	struct cni_scratch *scratch = scratch_here();
	struct paths paths = {};

	if (!cni_path || !scratch)
		return 0;
	LOOP(take_bytes, &paths);
	if (!paths.depth || paths.odd)
		return 0;
	paths = (struct paths){
		.at = cni_path + CNI_PATH_SIGN,
		.wanted = scratch->directories[(paths.depth - 1) & (CNI_DEPTH - 1)],
	};
	LOOP(take_bytes, &paths);
	return paths.found;
}

/* The part of the record that tells who executes a program, and where that is. */
__noinline int describe_cni_start(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct cgroup_at cgroup = {};
	struct cni_scratch *scratch = scratch_here();
	struct cni_start_record *record;
	struct netns own = {};
	__u64 from, size;

	if (!scratch)
		return 0;
	record = &scratch->record;
	netns_here(&own);
	cgroup_here(&cgroup);
	send_cgroup(&cgroup);
	record->own_inum = own.inum;
	record->time = bpf_ktime_get_boot_ns();
	record->started = BPF_CORE_READ(task, group_leader, start_boottime);
	record->own_cookie = own.cookie;
	record->trusted = !BPF_CORE_READ(task, cred, user_ns, level);
	describe_task(task, &cgroup.key, &record->task);
	from = BPF_CORE_READ(task, mm, arg_start);
	size = BPF_CORE_READ(task, mm, arg_end) - from;
	if (size > CNI_ARGS)
		size = CNI_ARGS;
	record->args_length = bpf_probe_read_user(record->args, size, (void *)from) ? 0 : size;
	return 0;
}

/* Whether the call was remembered until now. */
static __always_inline bool forget_call(__u32 pid, bool trusted)
{
	if (trusted ? bpf_map_delete_elem(&cni_calls, &pid) : bpf_map_delete_elem(&cni_untrusted, &pid))
		return false;
	__sync_fetch_and_add(&in_calls, -1);
	return true;
}

/* Remembers a call, and that the current process and all that descend from it belong to it. */
static __always_inline bool remember_call(__u32 pid, const struct cni_call *call, bool trusted)
{
	void *calls = trusted ? (void *)&cni_calls : (void *)&cni_untrusted;

	if (!call->unreadable)
		join_call(bpf_get_current_task_btf(), pid, call->started);
	if (bpf_map_update_elem(calls, &pid, call, BPF_ANY)) {
		count_lost(call->plugin ? RECORD_CNI_END : RECORD_CNI_EXEC);
		return false;
	}
	__sync_fetch_and_add(&in_calls, 1);
	return true;
}

/* What is known of a process that executes a program for the first time, of those that matter. */
static __always_inline void describe_call(struct cni_call *call, __u64 started,
					  const struct cni_start_record *record)
{
	struct cni_member *member = in_calls ? member_of(bpf_get_current_task_btf(), false) : NULL;

	call->started = started;
	call->began = record->time;
	call->own = record->own_cookie;
	if (member && member->pid) {
		call->outer = member->pid;
		call->outer_started = member->started;
	}
}

/* Writes the text of the record: the path, and the variables that matter. */
static __always_inline void keep_text(struct cni_start_record *record, const char *path,
				      struct environment *env)
{
	long used;

	record->text[0] = 0;
	if (record->trusted) {
		env->room = CNI_TEXT;
		env->longest = CNI_VARIABLE;
		used = bpf_probe_read_kernel_str(record->text, CNI_VARIABLE, path);
	} else {
		env->room = CNI_SHORT_TEXT;
		env->longest = CNI_SHORT_VARIABLE;
		used = bpf_probe_read_kernel_str(record->text, CNI_SHORT_VARIABLE, path);
	}
	env->used = used > 0 ? used : 1;
	LOOP(keep_variables, env);
	record->path_cookie = 0;
	record->path_inum = 0;
	if (record->trusted)
		find_path(record, env->netns, env->netns_length);
	/* An environment may have more variables than the loop has steps: then what is left is missing. */
	record->cut = env->cut || env->at < env->end;
	record->length = env->used;
}

/*
 * The current process executes a program with CNI_COMMAND in its environment; or perhaps does, if that cannot
 * be read. `known` is what it began before: a helper, or nobody knows what.
 */
static __always_inline void cni_call_begin(__u32 pid, __u64 started, struct cni_call *known, const char *path,
					   struct environment *env)
{
	struct cni_scratch *scratch = scratch_here();
	struct cni_start_record *record;
	struct cni_call call = {};
	__u32 length;
	bool trusted;

	if (!scratch)
		return;
	record = &scratch->record;
	describe_cni_start();
	keep_text(record, path, env);
	if (known)
		call = *known;
	else
		describe_call(&call, started, record);
	call.unreadable = env->command == COMMAND_UNREADABLE;
	call.plugin = !call.outer || lies_in_cni_path(env->cni_path);
	if (!known) {
		if (!remember_call(pid, &call, record->trusted) && !call.plugin)
			return;
	} else if (known->unreadable || call.plugin) {
		known->began = record->time;
		known->own = record->own_cookie;
		known->entered = 0;
		known->entered_inum = 0;
		known->several = 0;
		known->plugin = call.plugin;
		if (known->unreadable && !call.unreadable)
			join_call(bpf_get_current_task_btf(), pid, started);
		known->unreadable = call.unreadable;
	} else {
		return; /* a helper still */
	}
	record->type = call.plugin ? RECORD_CNI_START : RECORD_CNI_EXEC;
	record->outer = call.outer;
	record->outer_started = call.outer_started;
	length = offsetof(struct cni_start_record, text) + env->used;
	if (length > sizeof(*record) || !bpf_ringbuf_output(&ring, record, length, 0))
		return;
	if (call.plugin) {
		count_lost(RECORD_CNI_START);
		return;
	}
	known = call_at(pid, started, &trusted);
	if (known)
		known->lost = 1;
}

/* The last thread of the current process has ended; `leader` is its first one. */
static __always_inline void cni_call_end(struct task_struct *task, struct task_struct *leader)
{
	__u32 pid = task->tgid;
	bool trusted;
	struct cni_call *found = call_at(pid, leader->start_boottime, &trusted);
	struct cni_end_record *record;
	struct cgroup_at cgroup = {};
	struct cni_call call;

	if (!found)
		return;
	call = *found;
	/* Two threads that end at once may both find none left: the one that deletes the entry reports. */
	if (!forget_call(pid, trusted))
		return;
	if (call.lost && !call.plugin) {
		count_lost(RECORD_CNI_EXEC);
		return;
	}
	cgroup_here(&cgroup);
	send_cgroup(&cgroup);
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count_lost(call.plugin ? RECORD_CNI_END : RECORD_CNI_EXEC);
		return;
	}
	record->type = RECORD_CNI_END;
	record->unreadable = call.unreadable;
	if (BPF_CORE_READ(task, signal, flags) & SIGNAL_GROUP_EXIT)
		record->status = BPF_CORE_READ(task, signal, group_exit_code);
	else
		record->status = leader->exit_code;
	/* Whoever entered just now may not have said yet where: then nothing of it is told. */
	record->entered_cookie = call.entered_inum && !call.several ? call.entered : 0;
	record->entered_inum = record->entered_cookie ? call.entered_inum : 0;
	record->several = call.several;
	record->nested = call.outer != 0;
	record->helper = !call.plugin;
	record->trusted = trusted;
	record->time = bpf_ktime_get_boot_ns();
	record->started = call.started;
	record->duration = record->time - call.began;
	describe_task(leader, &cgroup.key, &record->task);
	bpf_ringbuf_submit(record, 0);
}

/*
 * Whether what the current process has executed may begin a CNI call: it holds CAP_SYS_ADMIN, and held it
 * before. To whom the exec gave it (a set-user-ID program, file capabilities), that is not of their own: the
 * environment is the user's, who has no such right (AT_SECURE of getauxval(3)).
 */
static __always_inline bool may_call(const struct cred *cred, const struct linux_binprm *binary)
{
	__u64 capabilities = 0;

	bpf_core_read(&capabilities, sizeof(capabilities), &cred->cap_effective);
	return capabilities >> CAP_SYS_ADMIN & 1 && !BPF_CORE_READ_BITFIELD_PROBED(binary, secureexec);
}

/* Whether the process has begun a call and found no room: that is counted. */
static __always_inline bool began_call(__u32 pid, __u64 started)
{
	struct cni_member *member = in_calls ? member_of(bpf_get_current_task_btf(), false) : NULL;

	return member && member->pid == pid && member->started == started;
}

/* The current process has executed a program. What is no CNI call returns as early as can be. */
static __always_inline void process_exec(struct task_struct *task, const struct linux_binprm *binary)
{
	__u32 pid = task->tgid;
	struct environment env = {};
	struct cni_call *known;
	struct mm_struct *mm;
	__u64 started;
	bool trusted;

	if (!may_call(task->cred, binary))
		return;
	started = task->group_leader->start_boottime;
	known = call_at(pid, started, &trusted);
	/* A plugin it is for good. A helper may become one, as chroot does that executes one. */
	if (known ? !known->unreadable && known->plugin : began_call(pid, started))
		return;
	mm = task->mm;
	env.at = mm->env_start;
	env.end = mm->env_end;
	LOOP(look_for_command, &env); /* reads 64 MiB if it must; execve() takes 6 */
	if (env.command == COMMAND_ABSENT)
		return;
	env.at = mm->env_start;
	cni_call_begin(pid, started, known, BPF_CORE_READ(binary, filename), &env);
}

/* The current thread is ending, and off the count of the living: the last one sees none left. */
static __always_inline void thread_exit(struct task_struct *task)
{
	if (!in_calls)
		return;
	leave_call();
	if (!task->signal->live.counter)
		cni_call_end(task, task->group_leader);
}

#endif
