// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The kernel side, in the order in which to read it. One object holds all programs; none loads by itself
 * ("?"): Python chooses those of the tier that works here.
 *
 * Functions that are __noinline and not static are global ones to the verifier, hence their results: int,
 * where void would do. libbpf copies such a function into each program that calls it. There the verifier
 * walks it once, whatever its arguments may be; any other it walks at each call, and again for each state
 * that the program can be in.
 */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/* clang-format off: the order matters */
#include "record.h"
#include "kernel.h"
#include "globals.h"
#include "loop.h"
#include "netns.h"
#include "task.h"
#include "registers.h"
#include "members.h"
#include "facts.h"
#include "unseen.h"
#include "syscalls.h"
#include "mounts.h"
#include "paths.h"
#include "environment.h"
#include "cni_path.h"
#include "cni.h"
#include "snapshot.h"
#include "hooks_shared.h"
#include "hooks_fentry.h"
#include "hooks_kprobe.h"
#include "hooks_tracepoint.h"
/* clang-format on */

char LICENSE[] SEC("license") = "GPL";
