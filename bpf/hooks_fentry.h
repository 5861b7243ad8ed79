/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The fentry tier: the kernel's own functions, through BPF trampolines. What the kernel calls on behalf of
 * 32-bit programs is seen, too, and other system calls pay nothing.
 */
#ifndef CNI_HOOKS_FENTRY_H
#define CNI_HOOKS_FENTRY_H

/* The entry of setns itself: the functions below it do not see a bad descriptor. Named as on x86-64. */
SEC("?fentry/__x64_sys_setns")
int BPF_PROG(cni_fe_setns, const void *registers)
{
	setns_begin(argument(registers, 0), argument(registers, 1));
	return 0;
}

SEC("?fexit/__x64_sys_setns")
int BPF_PROG(cni_fx_setns, const void *registers, long result)
{
	setns_end(result);
	return 0;
}

SEC("?fentry/__ia32_sys_setns")
int BPF_PROG(cni_fe_setns32, const struct pt_regs___x86 *registers)
{
	setns_begin(BPF_CORE_READ(registers, bx), BPF_CORE_READ(registers, cx));
	return 0;
}

SEC("?fexit/__ia32_sys_setns")
int BPF_PROG(cni_fx_setns32, const void *registers, long result)
{
	setns_end(result);
	return 0;
}

SEC("?fentry/ksys_unshare")
int BPF_PROG(cni_fe_unshare, unsigned long flags)
{
	unshare_begin(flags);
	return 0;
}

SEC("?fexit/ksys_unshare")
int BPF_PROG(cni_fx_unshare, unsigned long flags, int result)
{
	unshare_end(result);
	return 0;
}

SEC("?fentry/switch_task_namespaces")
int BPF_PROG(cni_fe_switch, const struct task_struct *task, const struct nsproxy *to)
{
	/* A task that ends, or one that never began, switches to none. */
	if (to && task == bpf_get_current_task_btf())
		task_switch_namespaces(to);
	return 0;
}

SEC("?fentry/kernel_clone")
int BPF_PROG(cni_fe_clone, const struct kernel_clone_args *args)
{
	clone_begin(BPF_CORE_READ(args, flags));
	return 0;
}

SEC("?fexit/kernel_clone")
int BPF_PROG(cni_fx_clone, const struct kernel_clone_args *args, int result)
{
	clone_end(result);
	return 0;
}

SEC("?fexit/copy_net_ns")
int BPF_PROG(cni_fx_copy, __u64 flags, void *user_ns, void *old, struct net *result)
{
	copy_net_ns_end(result);
	return 0;
}

SEC("?fentry/cleanup_net")
int BPF_PROG(cni_fe_cleanup, void *work)
{
	cleanup_begin();
	return 0;
}

SEC("?fexit/cleanup_net")
int BPF_PROG(cni_fx_cleanup, void *work)
{
	cleanup_end();
	return 0;
}

#endif
