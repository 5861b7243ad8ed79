/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Hooks of more than one tier. */
#ifndef CNI_HOOKS_SHARED_H
#define CNI_HOOKS_SHARED_H

/* kernel_clone() has made a task, which does not run yet. The parent is the current task. Runs at each fork.
 */
SEC("?tp_btf/sched_process_fork")
int BPF_PROG(cni_fork, struct task_struct *parent, struct task_struct *child)
{
	if (child->nsproxy->net_ns != parent->nsproxy->net_ns)
		task_fork(child);
	inherit_call(child);
	return 0;
}

/*
 * do_exit() of the current task: it is off the count of its process's living threads, and still is where it
 * was, as exit_task_namespaces() comes later.
 */
SEC("?tp_btf/sched_process_exit")
int BPF_PROG(cni_exit, struct task_struct *task)
{
	task_exit();
	thread_exit(task);
	return 0;
}

/* The end of an exec that succeeded: the memory, and with it the environment, is the new program's. */
SEC("?tp_btf/sched_process_exec")
int BPF_PROG(cni_exec, struct task_struct *task, int old_pid, struct linux_binprm *binary)
{
	process_exec(task, binary);
	return 0;
}

#endif
