/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The tracepoint tier: where a task was when a call began, compared with where it is when the call ends. */
#ifndef CNI_HOOKS_TRACEPOINT_H
#define CNI_HOOKS_TRACEPOINT_H

static __always_inline struct task_state *call_begins(enum call call)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_state *its = state_of(task, true);

	if (its) {
		netns_of(task, &its->prev);
		its->call = call;
	}
	return its;
}

/* The state that the same call left at its beginning, if it did. */
static __always_inline struct task_state *call_ends(enum call call)
{
	struct task_state *its = state_of(bpf_get_current_task_btf(), false);

	if (!its || its->call != call)
		return NULL;
	its->call = CALL_NONE;
	return its;
}

/*
 * setns() can change the netns only if asked for one, or for whatever the descriptor is (nstype 0). With 0,
 * a descriptor that is certainly something else has nothing to do with us.
 */
SEC("?tp/syscalls/sys_enter_setns")
int cni_setns_enter(struct trace_event_raw_sys_enter *ctx)
{
	struct netns ns = {};
	__u32 nstype = ctx->args[1];
	enum target target;
	struct task_state *its;

	if (nstype && !(nstype & CLONE_NEWNET))
		return 0;
	target = target_of(ctx->args[0], nstype, &ns);
	if (!nstype && target == TARGET_OTHER)
		return 0;
	its = call_begins(CALL_SETNS);
	if (its)
		its->target = ns;
	return 0;
}

SEC("?tp/syscalls/sys_exit_setns")
int cni_setns_exit(struct trace_event_raw_sys_exit *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_state *its = call_ends(CALL_SETNS);
	struct netns prev, now;

	if (!its)
		return 0;
	prev = its->prev;
	if (ctx->ret < 0) {
		now = its->target;
		refused(RECORD_NETNS_ENTER_FAILED, &now, &prev, CAUSE_SETNS, -ctx->ret);
		return 0;
	}
	if (task->nsproxy->net_ns->net_cookie == prev.cookie)
		return 0;
	netns_of(task, &now);
	moved(&prev, &now, CAUSE_SETNS);
	return 0;
}

SEC("?tp/syscalls/sys_enter_unshare")
int cni_unshare_ent(struct trace_event_raw_sys_enter *ctx)
{
	if (ctx->args[0] & CLONE_NEWNET)
		call_begins(CALL_UNSHARE);
	return 0;
}

SEC("?tp/syscalls/sys_exit_unshare")
int cni_unshare_ex(struct trace_event_raw_sys_exit *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_state *its = call_ends(CALL_UNSHARE);
	struct netns prev, now, nothing = {};

	if (!its) {
		met();
		return 0;
	}
	prev = its->prev;
	if (ctx->ret < 0) {
		refused(RECORD_NETNS_CREATE_FAILED, &nothing, &prev, CAUSE_UNSHARE, -ctx->ret);
		return 0;
	}
	netns_of(task, &now);
	born(task->nsproxy->net_ns, &now, &prev, CAUSE_UNSHARE);
	moved(&prev, &now, CAUSE_UNSHARE);
	return 0;
}

/* A clone that succeeds is seen by cni_fork; here only what was refused. */
SEC("?tp/syscalls/sys_enter_clone")
int cni_clone_enter(struct trace_event_raw_sys_enter *ctx)
{
	if (ctx->args[0] & CLONE_NEWNET)
		call_begins(CALL_CLONE);
	return 0;
}

SEC("?tp/syscalls/sys_enter_clone3")
int cni_clone3_ent(struct trace_event_raw_sys_enter *ctx)
{
	__u64 flags = 0; /* the first field of struct clone_args */

	bpf_probe_read_user(&flags, sizeof(flags), (void *)ctx->args[0]);
	if (flags & CLONE_NEWNET)
		call_begins(CALL_CLONE);
	return 0;
}

static __always_inline int clone_ends(struct trace_event_raw_sys_exit *ctx)
{
	struct task_state *its = call_ends(CALL_CLONE);
	struct netns prev, nothing = {};

	if (!its || ctx->ret >= 0)
		return 0;
	prev = its->prev;
	refused(RECORD_NETNS_CREATE_FAILED, &nothing, &prev, CAUSE_CLONE, -ctx->ret);
	return 0;
}

SEC("?tp/syscalls/sys_exit_clone")
int cni_clone_exit(struct trace_event_raw_sys_exit *ctx)
{
	return clone_ends(ctx);
}

SEC("?tp/syscalls/sys_exit_clone3")
int cni_clone3_exit(struct trace_event_raw_sys_exit *ctx)
{
	return clone_ends(ctx);
}

/*
 * cleanup_net() is the only work on the workqueue "netns" (net_ns_init). Its address is learnt from
 * the first run instead of from kallsyms, which the machine may hide.
 */
static void *cleanup_net;

static __always_inline bool on_netns_workqueue(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct kthread *kthread = task->worker_private;
	struct worker *worker = BPF_CORE_READ(kthread, data);
	char name[8] = {};

	bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(worker, current_pwq, wq)->name);
	return !__builtin_memcmp(name, "netns\0\0", 8);
}

SEC("?raw_tp/workqueue_execute_start")
int cni_clean_start(struct bpf_raw_tracepoint_args *ctx)
{
	void *function = BPF_CORE_READ((struct work_struct *)ctx->args[0], func);

	if (cleanup_net ? function != cleanup_net : !on_netns_workqueue())
		return 0;
	cleanup_net = function;
	cleanup_start = bpf_ktime_get_boot_ns();
	return 0;
}

SEC("?raw_tp/workqueue_execute_end")
int cni_clean_end(struct bpf_raw_tracepoint_args *ctx)
{
	if (!cleanup_net || (void *)ctx->args[1] != cleanup_net)
		return 0;
	if (state.ready)
		report_gone();
	cleanup_start = 0;
	return 0;
}

#endif
