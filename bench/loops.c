// SPDX-License-Identifier: Apache-2.0
/*
 * What other programs do all day, in loops: `loops KIND COUNT` prints the CPU time in microseconds, its own and
 * its children's. Without a C library, so that a process is as small as it can be and the kernel's part shows.
 */
#include <linux/resource.h>
#include <linux/sched.h>
#include <sys/syscall.h>

static long call(long number, long a, long b, long c, long d)
{
	register long fourth asm("r10") = d;
	long result;

	asm volatile("syscall"
		     : "=a"(result)
		     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth)
		     : "rcx", "r11", "memory");
	return result;
}

static void quit(int status)
{
	call(SYS_exit_group, status, 0, 0, 0);
	__builtin_unreachable();
}

static void wait_for(long child)
{
	int status = 0;

	if (child < 0 || call(SYS_wait4, child, (long)&status, 0, 0) != child || status)
		quit(1);
}

static void once(char kind, char **argv)
{
	char *child_argv[] = {argv[0], "x", "0", 0};
	char *no_environment[] = {0};
	long child;

	switch (kind) {
	case 'g':
		call(SYS_getppid, 0, 0, 0, 0);
		break;
	case 'f':
		child = call(SYS_fork, 0, 0, 0, 0);
		if (!child)
			quit(0);
		wait_for(child);
		break;
	case 'v':
		child = call(SYS_vfork, 0, 0, 0, 0);
		if (!child)
			quit(call(SYS_execve, (long)argv[0], (long)child_argv, (long)no_environment, 0));
		wait_for(child);
		break;
	case 'u':
		child = call(SYS_fork, 0, 0, 0, 0);
		if (!child)
			quit(call(SYS_unshare, CLONE_NEWNET, 0, 0, 0));
		wait_for(child);
		break;
	}
}

static long cpu_time(void)
{
	struct rusage of;
	long sum = 0;

	for (int who = RUSAGE_CHILDREN; who <= RUSAGE_SELF; who++) {
		call(SYS_getrusage, who, (long)&of, 0, 0);
		sum += (of.ru_utime.tv_sec + of.ru_stime.tv_sec) * 1000000 + of.ru_utime.tv_usec + of.ru_stime.tv_usec;
	}
	return sum;
}

static void run(char **argv)
{
	char digits[21], *at = digits + sizeof(digits);
	long count = 0, spent;

	for (char *digit = argv[2]; *digit; digit++)
		count = count * 10 + *digit - '0';
	spent = cpu_time();
	for (long i = 0; i < count; i++)
		once(argv[1][0], argv);
	spent = cpu_time() - spent;
	*--at = '\n';
	do
		*--at = '0' + spent % 10;
	while (spent /= 10);
	call(SYS_write, 1, (long)at, digits + sizeof(digits) - at, 0);
	quit(0);
}

asm(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n");

__attribute__((used)) static void begin(char **stack)
{
	if (stack[2][0] == 'x')
		quit(0);
	run(stack + 1);
}
