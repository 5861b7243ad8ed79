/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * CNI calls. A process begins one that executes a program with CNI_COMMAND in its environment and holds
 * CAP_SYS_ADMIN then, as every plugin needs that for setns(). It lasts until the process ends, also if that
 * executes something else meanwhile.
 */
#ifndef CNI_CNI_H
#define CNI_CNI_H

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
 * Whether what the current process has executed may begin a CNI call: it holds CAP_SYS_ADMIN, and that is its
 * own. To a user whom the exec gave it (a set-user-ID program, file capabilities), it is not: the environment
 * is the user's, who has no such right (AT_SECURE of getauxval(3)). Root has it anyway, whatever else an exec
 * changes (a group, a domain of SELinux).
 */
static __always_inline bool may_call(const struct cred *cred, const struct linux_binprm *binary)
{
	__u64 capabilities = 0;

	bpf_core_read(&capabilities, sizeof(capabilities), &cred->cap_effective);
	if (!(capabilities >> CAP_SYS_ADMIN & 1))
		return false;
	return !BPF_CORE_READ(cred, uid.val) || !BPF_CORE_READ_BITFIELD_PROBED(binary, secureexec);
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
