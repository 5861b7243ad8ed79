/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The tracepoint tier: the edges of the system calls, and of the work that the kernel does by itself. */
#ifndef CNI_HOOKS_TRACEPOINT_H
#define CNI_HOOKS_TRACEPOINT_H

SEC("?tp/syscalls/sys_enter_setns")
int cni_tp_setns(struct trace_event_raw_sys_enter *ctx)
{
	setns_begin(ctx->args[0], ctx->args[1]);
	return 0;
}

SEC("?tp/syscalls/sys_exit_setns")
int cni_tx_setns(struct trace_event_raw_sys_exit *ctx)
{
	setns_end(ctx->ret);
	return 0;
}

SEC("?tp/syscalls/sys_enter_unshare")
int cni_tp_unshare(struct trace_event_raw_sys_enter *ctx)
{
	unshare_begin(ctx->args[0]);
	return 0;
}

SEC("?tp/syscalls/sys_exit_unshare")
int cni_tx_unshare(struct trace_event_raw_sys_exit *ctx)
{
	unshare_end(ctx->ret);
	return 0;
}

SEC("?tp/syscalls/sys_enter_clone")
int cni_tp_clone(struct trace_event_raw_sys_enter *ctx)
{
	clone_begin(ctx->args[0]);
	return 0;
}

SEC("?tp/syscalls/sys_exit_clone")
int cni_tx_clone(struct trace_event_raw_sys_exit *ctx)
{
	clone_end(ctx->ret);
	return 0;
}

SEC("?tp/syscalls/sys_enter_clone3")
int cni_tp_clone3(struct trace_event_raw_sys_enter *ctx)
{
	__u64 flags = 0; /* the first field of struct clone_args */

	bpf_probe_read_user(&flags, sizeof(flags), (void *)ctx->args[0]);
	clone_begin(flags);
	return 0;
}

SEC("?tp/syscalls/sys_exit_clone3")
int cni_tx_clone3(struct trace_event_raw_sys_exit *ctx)
{
	clone_end(ctx->ret);
	return 0;
}

/* cleanup_net() is the only work on the workqueue "netns" (net_ns_init). */
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
int cni_tp_cleanup(struct bpf_raw_tracepoint_args *ctx)
{
	void *function = BPF_CORE_READ((struct work_struct *)ctx->args[0], func);

	if (cleanup_net ? function != cleanup_net : !on_netns_workqueue())
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
