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

/* The first argument of the system call that the current task is in, also at its end. */
static __always_inline unsigned long first_argument(void)
{
	const void *registers = (const void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	const struct pt_regs___x86 *x86 = registers;
	const struct pt_regs___arm64 *arm64 = registers;

	if (on_x86())
		return is_compat() ? x86->bx : x86->di;
	return arm64->orig_x0;
}

/* The second argument of the system call that the current task is in. */
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
