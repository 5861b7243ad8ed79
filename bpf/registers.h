/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What a function was called with and what it returned: x86-64 and arm64 in one object. */
#ifndef CNI_REGISTERS_H
#define CNI_REGISTERS_H

static __always_inline bool on_x86(void)
{
	return bpf_core_field_exists(((struct pt_regs___x86 *)0)->di);
}

/* The first or second argument of a function, or of the system call that these registers came with. */
static __always_inline unsigned long argument(const void *registers, int index)
{
	const struct pt_regs___x86 *x86 = registers;
	const struct pt_regs___arm64 *arm64 = registers;

	if (on_x86())
		return index ? BPF_CORE_READ(x86, si) : BPF_CORE_READ(x86, di);
	return index ? BPF_CORE_READ(arm64, regs[1]) : BPF_CORE_READ(arm64, regs[0]);
}

/* Whether the current task is in a system call of a 32-bit program, which has its arguments in other
 * registers. */
static __always_inline bool is_compat(void)
{
	return on_x86() && bpf_get_current_task_btf()->thread_info.status & TS_COMPAT;
}

/* The same on all architectures. */
#define SYS_CLONE3 435

/* The numbers of system calls, for the program that the current task executes. */
static __always_inline __u32 clone_number(void)
{
	return on_x86() ? (is_compat() ? 120 : 56) : 220;
}

static __always_inline __u32 unshare_number(void)
{
	return on_x86() ? (is_compat() ? 310 : 272) : 97;
}

/* Which system call a task is in, by the registers with which it entered the kernel. */
static __always_inline __u32 syscall_number(const void *registers)
{
	const struct pt_regs___x86 *x86 = registers;
	const struct pt_regs___arm64 *arm64 = registers;

	return on_x86() ? x86->orig_ax : arm64->syscallno;
}

static __always_inline bool is_in_unshare(void)
{
	return syscall_number((const void *)bpf_task_pt_regs(bpf_get_current_task_btf())) == unshare_number();
}

/*
 * The first or second argument of the system call that the current task is in, also at its end. By the helper
 * and as a global function: the compiler makes one load of several that the verifier wants apart.
 */
__noinline __u64 syscall_argument(int index)
{
	const void *registers = (const void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	const struct pt_regs___x86 *x86 = registers;
	const struct pt_regs___arm64 *arm64 = registers;

	if (is_compat())
		return index ? BPF_CORE_READ(x86, cx) : BPF_CORE_READ(x86, bx);
	if (on_x86())
		return index ? BPF_CORE_READ(x86, si) : BPF_CORE_READ(x86, di);
	return index ? BPF_CORE_READ(arm64, regs[1]) : BPF_CORE_READ(arm64, orig_x0);
}

/* The second argument of the system call that the current task is in, of a 64-bit program. */
static __always_inline unsigned long second_argument(void)
{
	const void *registers = (const void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	const struct pt_regs___x86 *x86 = registers;
	const struct pt_regs___arm64 *arm64 = registers;

	return on_x86() ? x86->si : arm64->regs[1];
}

/* What a function returned. */
static __always_inline long result(const void *registers)
{
	const struct pt_regs___x86 *x86 = registers;
	const struct pt_regs___arm64 *arm64 = registers;

	return on_x86() ? BPF_CORE_READ(x86, ax) : BPF_CORE_READ(arm64, regs[0]);
}

#endif
