/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The kprobe tier: functions by breakpoints, or by ftrace where they begin with its call. Programs run with
 * preemption off, on every kernel: so none is skipped because another task was preempted in it, as the
 * programs of fentry (and, from 7.0 on, of tracepoints) are. That is why exec and exit are kprobes here, too.
 * Only the fork is not: a kprobe cannot reach the child's task storage. What skips a kprobe is a bpf(2) map
 * operation that was preempted on the same CPU (bpf_prog_active).
 *
 * The kernel skips a return probe where more system calls are under way than it has places
 * (kretprobe.maxactive: 10, or twice the CPUs). So no success depends on one: the task's switch to other
 * namespaces and the fork are seen at their entry, and refusals whose end was skipped are counted.
 */
#ifndef CNI_HOOKS_KPROBE_H
#define CNI_HOOKS_KPROBE_H

SEC("?kprobe/__x64_sys_setns")
int cni_kp_setns(void *ctx)
{
	const void *registers = (const void *)argument(ctx, 0);

	setns_begin(argument(registers, 0), argument(registers, 1));
	return 0;
}

SEC("?kretprobe/__x64_sys_setns")
int cni_kr_setns(void *ctx)
{
	setns_end(result(ctx));
	return 0;
}

SEC("?kprobe/__ia32_sys_setns")
int cni_kp_setns32(void *ctx)
{
	const struct pt_regs___x86 *registers = (const void *)argument(ctx, 0);

	setns_begin(BPF_CORE_READ(registers, bx), BPF_CORE_READ(registers, cx));
	return 0;
}

SEC("?kretprobe/__ia32_sys_setns")
int cni_kr_setns32(void *ctx)
{
	setns_end(result(ctx));
	return 0;
}

SEC("?kprobe/ksys_unshare")
int cni_kp_unshare(void *ctx)
{
	unshare_begin(argument(ctx, 0));
	return 0;
}

SEC("?kretprobe/ksys_unshare")
int cni_kr_unshare(void *ctx)
{
	unshare_end((int)result(ctx));
	return 0;
}

SEC("?kprobe/switch_task_namespaces")
int cni_kp_switch(void *ctx)
{
	const struct nsproxy *to = (const void *)argument(ctx, 1);

	/* A task that ends, or one that never began, switches to none. */
	if (to && argument(ctx, 0) == bpf_get_current_task())
		task_switch_namespaces(to);
	return 0;
}

SEC("?kprobe/do_exit")
int cni_kp_exit(void *ctx)
{
	task_exit();
	return 0;
}

/* The last step of an exec that succeeds: the memory, and with it the environment, is the new program's. */
SEC("?kprobe/finalize_exec")
int cni_kp_exec(void *ctx)
{
	process_exec(bpf_get_current_task_btf(), (const void *)argument(ctx, 0));
	return 0;
}

/* A step of do_exit(), once the thread is off the count of the living. A fork that fails comes here, too. */
SEC("?kprobe/exit_files")
int cni_kp_files(void *ctx)
{
	if (argument(ctx, 0) == bpf_get_current_task())
		thread_exit(bpf_get_current_task_btf());
	return 0;
}

SEC("?kprobe/kernel_clone")
int cni_kp_clone(void *ctx)
{
	clone_begin(BPF_CORE_READ((const struct kernel_clone_args *)argument(ctx, 0), flags));
	return 0;
}

SEC("?kretprobe/kernel_clone")
int cni_kr_clone(void *ctx)
{
	clone_end((int)result(ctx));
	return 0;
}

SEC("?kretprobe/copy_net_ns")
int cni_kr_copy(void *ctx)
{
	copy_net_ns_end((struct net *)result(ctx));
	return 0;
}

SEC("?kprobe/cleanup_net")
int cni_kp_cleanup(void *ctx)
{
	cleanup_begin();
	return 0;
}

SEC("?kretprobe/cleanup_net")
int cni_kr_cleanup(void *ctx)
{
	cleanup_end();
	return 0;
}

#endif
