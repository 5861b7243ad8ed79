/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The tracepoint tier: the edges of the system calls, and of the work that the kernel does by itself. */
#ifndef CNI_HOOKS_TRACEPOINT_H
#define CNI_HOOKS_TRACEPOINT_H

/*
 * One program for all edges of system calls, as the verifier takes 4 ms for each that reports (6.18). It may
 * read no more of its context than every edge has: the end of a system call has one number, as has the
 * beginning of unshare (perf_event_set_bpf_prog() compares). The second argument is in the registers.
 */
SEC("?tp")
int cni_syscall(void *ctx)
{
	const struct trace_event_raw_sys_enter *enter = ctx;
	const struct trace_event_raw_sys_exit *exit = ctx;
	__u64 flags = 0;

	switch (bpf_get_attach_cookie(ctx)) {
	case SYS_ENTER_SETNS:
		setns_begin(enter->args[0], second_argument());
		break;
	case SYS_EXIT_SETNS:
		setns_end(exit->ret);
		break;
	case SYS_ENTER_UNSHARE:
		unshare_begin(enter->args[0]);
		break;
	case SYS_EXIT_UNSHARE:
		unshare_end(exit->ret);
		break;
	case SYS_ENTER_CLONE:
		clone_begin(enter->args[0]);
		break;
	case SYS_ENTER_CLONE3: /* flags are the first field of struct clone_args */
		bpf_probe_read_user(&flags, sizeof(flags), (void *)enter->args[0]);
		clone_begin(flags);
		break;
	case SYS_EXIT_CLONE:
	case SYS_EXIT_CLONE3:
		clone_end(exit->ret);
		break;
	}
	return 0;
}

/*
 * cleanup_net() is the only work on the workqueue "netns" (net_ns_init). Work of bottom halves may interrupt
 * the worker that runs it: then the worker's work is another.
 */
static __always_inline bool on_netns_workqueue(const struct work_struct *work)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct kthread *kthread = bpf_core_field_exists(task->worker_private)
					  ? BPF_CORE_READ(task, worker_private)
					  : BPF_CORE_READ((struct task_struct___516 *)task, set_child_tid);
	struct worker *worker = BPF_CORE_READ(kthread, data);
	char name[8] = {};

	if (BPF_CORE_READ(worker, current_work) != work)
		return false;
	bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(worker, current_pwq, wq)->name);
	return !__builtin_memcmp(name, "netns\0\0", 8);
}

SEC("?raw_tp/workqueue_execute_start")
int cni_tp_cleanup(struct bpf_raw_tracepoint_args *ctx)
{
	const struct work_struct *work = (const void *)ctx->args[0];
	void *function = BPF_CORE_READ(work, func);

	if (cleanup_net ? function != cleanup_net : !on_netns_workqueue(work))
		return 0;
	cleanup_net = function;
	cleanup_begin();
	return 0;
}

SEC("?raw_tp/workqueue_execute_end")
int cni_tx_cleanup(struct bpf_raw_tracepoint_args *ctx)
{
	if (cleanup_net && (void *)ctx->args[1] == cleanup_net)
		cleanup_end();
	return 0;
}

#endif
