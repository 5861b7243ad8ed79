/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Loops of many steps, which the verifier walks once: by a walk over an array, as bpf_loop() is of 5.17 and
 * bpf_for_each_map_elem() of 5.13.
 */
#ifndef CNI_LOOP_H
#define CNI_LOOP_H

#define STEPS 65536 /* at most, in one loop */

/* Nothing is kept in it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STEPS);
	__type(key, __u32);
	__type(value, __u8);
} steps SEC(".maps");

/* The head of a function that is one step: it returns 1 to end the loop, otherwise 0. */
#define STEP(name, context) static long name(void *map, __u32 *index, __u8 *nothing, context)

/* `context` points to the stack: 5.15 takes nothing else. */
#define LOOP(step, context) bpf_for_each_map_elem(&steps, step, context, 0)

#endif
