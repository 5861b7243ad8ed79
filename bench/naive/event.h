/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the two sides of the naive tracer share. */
struct naive_event {
	unsigned long long time;
	unsigned int pid;
	unsigned int tid;
	unsigned int uid;
	unsigned int inum;
	char comm[16];
	char call[8];
};
