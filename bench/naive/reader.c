// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* `reader OBJECT`: loads what one of the .bpf.c beside it was compiled to, and writes a line for each event
 * until SIGINT. */
#include <bpf/libbpf.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "event.h"

static volatile sig_atomic_t stopped;

static void stop(int number)
{
	(void)number;
	stopped = 1;
}

static int show(void *context, void *data, size_t size)
{
	const struct naive_event *event = data;

	(void)context;
	(void)size;
	printf("%llu %u %u %s %u %u %s\n", event->time, event->pid, event->tid, event->comm, event->uid,
	       event->inum, event->call);
	return 0;
}

int main(int argc, char **argv)
{
	struct bpf_object *object;
	struct bpf_program *program;
	struct ring_buffer *ring;
	struct bpf_map *counters;
	unsigned long long lost = 0;
	int key = 0;

	signal(SIGINT, stop);
	object = argc == 2 ? bpf_object__open(argv[1]) : NULL;
	if (!object || bpf_object__load(object))
		return 1;
	bpf_object__for_each_program(program, object) if (!bpf_program__attach(program)) return 1;
	ring = ring_buffer__new(bpf_object__find_map_fd_by_name(object, "ring"), show, NULL, NULL);
	if (!ring)
		return 1;
	puts("ready");
	fflush(stdout);
	while (!stopped && ring_buffer__poll(ring, -1) >= 0)
		fflush(stdout);
	ring_buffer__consume(ring);
	counters = bpf_object__find_map_by_name(object, ".bss");
	if (counters && !bpf_map__lookup_elem(counters, &key, sizeof(key), &lost, sizeof(lost), 0))
		printf("lost %llu\n", lost);
	fflush(stdout);
	return 0;
}
