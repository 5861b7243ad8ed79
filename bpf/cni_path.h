/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Whether the program that was executed lies in a directory of CNI_PATH, by their names alone. */
#ifndef CNI_CNI_PATH_H
#define CNI_CNI_PATH_H

/* A text is read, path by path, and each path name by name: so that its directory is known, normalised. */
struct paths {
	__u64 name; /* hash of the name so far */
	__u64 wanted; /* of the directory that is looked for; 0: none is */
	__u32 at; /* in the text */
	__u32 length; /* of the name so far */
	__u32 dots; /* at its beginning */
	__u32 depth; /* of the directory that the names so far lead to */
	bool inside; /* of a path, not at its beginning */
	bool odd; /* nothing can be said of the path: it is too deep, or leads out of where it begins */
	bool found;
	__u8 padding[5]; /* as in struct environment */
};

#define HASH_OF_ROOT 1
#define HASH_OF_HERE 2
#define HASH_FACTOR 0x100000001b3ULL /* FNV-1a's */

/* The name has ended: it leads on, or nowhere, or up. */
static __always_inline void end_name(struct paths *paths, __u64 *directories)
{
	bool only_dots = paths->length == paths->dots;
	__u32 depth = paths->depth;

	if (only_dots && paths->length == 2) {
		if (depth)
			paths->depth = depth - 1;
		else if (directories[0] != HASH_OF_ROOT)
			paths->odd = true;
	} else if (paths->length && !(only_dots && paths->length == 1)) {
		if (depth < CNI_DEPTH - 1) {
			directories[(depth + 1) & (CNI_DEPTH - 1)] =
				(directories[depth & (CNI_DEPTH - 1)] ^ paths->name) * HASH_FACTOR +
				paths->length;
			paths->depth = depth + 1;
		} else {
			paths->odd = true;
		}
	}
	paths->name = 0;
	paths->length = 0;
	paths->dots = 0;
}

/*
 * Takes the next byte of one path, or of a list of them when a directory is wanted. Whether it was the last.
 * A global function, as its callers are loops.
 */
__noinline int next_byte(struct paths *paths)
{
	struct cni_scratch *scratch = scratch_here();
	__u32 at = paths ? paths->at : 0;
	__u8 byte;

	if (!paths || !scratch || at >= CNI_TEXT)
		return 1;
	paths->at = at + 1;
	byte = scratch->record.text[at];
	if (!paths->inside)
		scratch->directories[0] = byte == '/' ? HASH_OF_ROOT : HASH_OF_HERE;
	if (byte && byte != '/' && !(byte == ':' && paths->wanted)) {
		paths->inside = true;
		if (byte == '.' && paths->dots == paths->length)
			paths->dots++;
		paths->length++;
		paths->name = (paths->name ^ byte) * HASH_FACTOR;
		return 0;
	}
	end_name(paths, scratch->directories);
	if (byte == '/') {
		paths->inside = true;
		return 0;
	}
	if (paths->wanted) {
		paths->found = paths->inside && !paths->odd &&
			       scratch->directories[paths->depth & (CNI_DEPTH - 1)] == paths->wanted;
		paths->inside = false;
		paths->odd = false;
		paths->depth = 0;
	}
	return !byte || paths->found;
}

STEP(take_bytes, struct paths *paths)
{
	return next_byte(paths) != 0;
}

/*
 * Whether the path that was executed lies in a directory of CNI_PATH, by their names alone. Both are in the
 * record's text.
 */
__noinline int lies_in_cni_path(__u32 cni_path)
{
	struct cni_scratch *scratch = scratch_here();
	struct paths paths = {};

	if (!cni_path || !scratch)
		return 0;
	LOOP(take_bytes, &paths);
	if (!paths.depth || paths.odd)
		return 0;
	paths = (struct paths){
		.at = cni_path + CNI_PATH_SIGN,
		.wanted = scratch->directories[(paths.depth - 1) & (CNI_DEPTH - 1)],
	};
	LOOP(take_bytes, &paths);
	return paths.found;
}

#endif
