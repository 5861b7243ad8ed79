/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The environment of the program that the current process has executed: whether CNI_COMMAND is in it, and the
 * variables that matter, which go into the record of a CNI call.
 */
#ifndef CNI_ENVIRONMENT_H
#define CNI_ENVIRONMENT_H

static __always_inline struct cni_scratch *scratch_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&cni_scratch, &zero);
}

/* An environment, and how far it has been read. */
struct environment {
	__u64 at; /* the part that has not been read yet */
	__u64 end;
	__u32 used; /* bytes of the record's text */
	__u32 command; /* what the search for CNI_COMMAND came to: enum command */
	__u32 room; /* bytes of the record's text that may be used before the last variable */
	__u32 longest; /* bytes of a variable that are kept */
	__u32 netns; /* where the value of CNI_NETNS stands in the record's text; 0: it is not there */
	__u32 netns_length;
	__u32 cni_path; /* where CNI_PATH= stands in the text; 0: nowhere */
	bool cut; /* something that matters did not fit */
	bool kept; /* the last variable matters */
	bool tail; /* what follows is the rest of that variable */
	__u8 padding; /* 5.15 wants every byte written that a global function may read */
};

/* How far into CNI_COMMAND= these four bytes stand, if they are of its first eleven. */
__noinline int offset_of(__u32 word)
{
	switch (word) {
	case WORD('C', 'N', 'I', '_'):
		return 0;
	case WORD('N', 'I', '_', 'C'):
		return 1;
	case WORD('I', '_', 'C', 'O'):
		return 2;
	case WORD('_', 'C', 'O', 'M'):
		return 3;
	case WORD('C', 'O', 'M', 'M'):
		return 4;
	case WORD('O', 'M', 'M', 'A'):
		return 5;
	case WORD('M', 'M', 'A', 'N'):
		return 6;
	case WORD('M', 'A', 'N', 'D'):
		return 7;
	}
	return -1;
}

#define IS_COMMAND(words)                                                                    \
	((words)[0] == WORD('C', 'N', 'I', '_') && (words)[1] == WORD('C', 'O', 'M', 'M') && \
	 (words)[2] == WORD('A', 'N', 'D', '='))
#define NETNS_NAME 10 /* bytes of "CNI_NETNS=" */
#define IS_NETNS(words)                                                                      \
	((words)[0] == WORD('C', 'N', 'I', '_') && (words)[1] == WORD('N', 'E', 'T', 'N') && \
	 (__u16)(words)[2] == ('S' | '=' << 8))
#define IS_TRACEPARENT(words)                                                                \
	((words)[0] == WORD('T', 'R', 'A', 'C') && (words)[1] == WORD('E', 'P', 'A', 'R') && \
	 (words)[2] == WORD('E', 'N', 'T', '='))

#define CNI_PATH_SIGN 9 /* bytes of CNI_PATH= */
#define IS_CNI_PATH(words)                                                                   \
	((words)[0] == WORD('C', 'N', 'I', '_') && (words)[1] == WORD('P', 'A', 'T', 'H') && \
	 *(const char *)((words) + 2) == '=')

/* Whether the variable begins here. What stands before the first variable is the end of the last argument. */
__noinline int is_command(__u64 address)
{
	__u32 words[4] = {};
	char *before = (char *)words + 3;

	return !bpf_probe_read_user(before, 13, (void *)(address - 1)) && !*before && IS_COMMAND(words + 1);
}

enum command {
	COMMAND_ABSENT = 0,
	COMMAND_FOUND,
	COMMAND_UNREADABLE, /* the kernel could not get at the memory without waiting */
};

/*
 * Looks for CNI_COMMAND in a part of the environment. The name and its sign have twelve bytes: wherever they
 * begin, four of them stand at a multiple of eight, so the other half of the text need not be looked at.
 */
__noinline int command_in(__u64 address, __u32 size)
{
	struct cni_scratch *scratch = scratch_here();

	if (!scratch || size > CNI_CHUNK || bpf_probe_read_user(scratch->chunk, size, (void *)address))
		return COMMAND_UNREADABLE;
	for (__u32 i = 0; i < CNI_CHUNK; i += 8) {
		__u32 word;
		int offset;

		if (i >= size)
			break;
		word = *(__u32 *)(scratch->chunk + i);
		if ((word & 0xe0e0e0e0) != 0x40404040) /* not all of them from @ to _, the capitals */
			continue;
		offset = offset_of(word);
		if (offset >= 0 && is_command(address + i - offset))
			return COMMAND_FOUND;
	}
	return COMMAND_ABSENT;
}

/* The next step of a search through the environment: whether it was the last. */
__noinline int look_further(struct environment *env)
{
	__u64 left = env ? env->end - env->at : 0;
	__u32 size = left < CNI_CHUNK ? left : CNI_CHUNK;

	if (!left)
		return 1;
	env->command = command_in(env->at, size);
	env->at += size;
	return env->command != COMMAND_ABSENT;
}

/*
 * Adds the next variable to the record, if it matters; whether that was the last. One that is longer than its
 * place comes in parts. A global function, like those above: otherwise the verifier walks it for each state
 * that a loop can be in.
 */
__noinline int keep_next(struct environment *env)
{
	struct cni_scratch *scratch = scratch_here();
	const __u32 *words;
	__u32 used, longest;
	long length;

	if (!env || !scratch || env->at >= env->end)
		return 1;
	used = env->used;
	longest = env->longest;
	if (used > CNI_TEXT - CNI_VARIABLE || used > env->room || longest > CNI_VARIABLE) {
		env->cut = true;
		return 1;
	}
	words = (const __u32 *)(scratch->record.text + used);
	length = bpf_probe_read_user_str((void *)words, longest, (void *)env->at);
	if (length < 0) {
		env->cut = true;
		return 1;
	}
	if (!length) /* an empty one: strncpy_from_user_nofault() counts its NUL on newer kernels only */
		length = 1;
	if (env->tail) {
		if (env->kept && length > 1)
			env->cut = true;
	} else {
		env->kept = words[0] == WORD('C', 'N', 'I', '_') || IS_TRACEPARENT(words);
		if (env->kept)
			env->used = used + length;
		if (IS_NETNS(words) && !env->netns) { /* of several, the first counts */
			env->netns = used + NETNS_NAME;
			env->netns_length = length - 1 - NETNS_NAME;
		}
		if (!env->cni_path && IS_CNI_PATH(words))
			env->cni_path = used;
	}
	env->tail = length == longest;
	env->at += env->tail ? length - 1 : length;
	return 0;
}

STEP(look_for_command, struct environment *env)
{
	return look_further(env) != 0;
}

STEP(keep_variables, struct environment *env)
{
	return keep_next(env) != 0;
}

#endif
