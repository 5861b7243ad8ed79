/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Where network namespaces are mounted: by cookie, from the kernel's own list of the mounts of nsfs, the file
 * system that all namespaces are files of. Programs run under RCU, which keeps the memory of mounts and of
 * directory entries from being used again. The lists may change meanwhile: what such a change may have spoilt
 * is UNSURE.
 */
#ifndef CNI_MOUNTS_H
#define CNI_MOUNTS_H

enum exposure {
	EXPOSED = 0, /* whoever has this root and follows the path comes here */
	HIDDEN, /* under another mount, outside of the root, or too deep */
	UNSURE,
};

/* The mounts on a mount, in the search for one on a certain directory. */
struct mounted_on {
	const struct list_head *head;
	const struct list_head *at;
	const struct dentry *directory;
	__u32 exposure;
};

STEP(next_mounted_on, struct mounted_on *search)
{
	const struct list_head *at = search->at;
	const struct mount *child;

	if (at == search->head) {
		search->exposure = EXPOSED;
		return 1;
	}
	child = (void *)at - bpf_core_field_offset(struct mount, mnt_child);
	if (BPF_CORE_READ(child, mnt_mountpoint) == search->directory) {
		search->exposure = HIDDEN;
		return 1;
	}
	search->at = BPF_CORE_READ(at, next);
	/* umount_mnt() takes it out by list_del_init(), which has it point to itself. */
	return !search->at || search->at == at;
}

/* Whether nothing is mounted on a directory of a mount: enum exposure. */
__noinline int exposure_of(__u64 mount_address, __u64 directory)
{
	const struct mount *mount = (const struct mount *)mount_address;
	struct mounted_on search = {
		.head = (void *)mount + bpf_core_field_offset(struct mount, mnt_mounts),
		.at = BPF_CORE_READ(mount, mnt_mounts.next),
		.directory = (const struct dentry *)directory,
		.exposure = UNSURE,
	};

	LOOP(next_mounted_on, &search);
	return search.exposure;
}

/* One step from a directory towards the root, its name put ahead of the path; whether it was the last. */
static __always_inline int climb(struct mount_walk *walk)
{
	const struct mount *mount, *below;
	const struct dentry *directory, *above;
	__u32 length, start;
	int exposure;

	mount = walk->up_mount;
	directory = walk->up;
	walk->exposure = HIDDEN;
	if (mount == walk->root_mount && directory == walk->root) {
		/* Where a mount stands on the root itself, paths begin under it. */
		walk->exposure = walk->up_is_mounted ? HIDDEN : EXPOSED;
		return 1;
	}
	if (!walk->up_is_mounted) {
		exposure = exposure_of((__u64)mount, (__u64)directory);
		if (exposure != EXPOSED) {
			walk->exposure = exposure;
			return 1;
		}
	}
	if (directory == BPF_CORE_READ(mount, mnt.mnt_root)) {
		below = BPF_CORE_READ(mount, mnt_parent);
		walk->up_mount = below;
		walk->up = BPF_CORE_READ(mount, mnt_mountpoint);
		walk->up_is_mounted = true;
		return below == mount;
	}
	above = BPF_CORE_READ(directory, d_parent);
	length = BPF_CORE_READ(directory, d_name.len);
	start = walk->start;
	if (above == directory || length > MOUNT_NAME || start > MOUNT_DIRECTORY || start <= MOUNT_NAME)
		return 1;
	start -= length + 1;
	asm volatile("%0 &= %1" : "+r"(start) : "i"(MOUNT_DIRECTORY - 1));
	walk->path[start] = '/';
	bpf_probe_read_kernel(walk->path + start + 1, length, BPF_CORE_READ(directory, d_name.name));
	walk->start = start;
	walk->up = above;
	walk->up_is_mounted = false;
	return 0;
}

struct mount_walk_at {
	struct mount_walk *walk;
};

STEP(climb_on, struct mount_walk_at *at)
{
	return climb(at->walk);
}

/*
 * The path of the mount that the walk has come to, from the walk's root: whether it has one that is not
 * hidden. Most mounts stand in one directory, so the last one's path is kept.
 */
static __always_inline bool place_mount(struct mount_walk *walk)
{
	struct mount_walk_at at = {.walk = walk};
	const struct ns_common *common;
	const struct mount *mount, *parent;
	const struct dentry *point, *directory;
	const struct net *net;
	__u32 length;

	mount = walk->mount;
	if (BPF_CORE_READ(mount, mnt_ns) != walk->mnt_ns)
		return false;
	common = BPF_CORE_READ(mount, mnt.mnt_root, d_inode, i_private);
	if (BPF_CORE_READ(common, ops) != net_ns_operations)
		return false;
	parent = BPF_CORE_READ(mount, mnt_parent);
	point = BPF_CORE_READ(mount, mnt_mountpoint);
	for (int i = 0; i < MOUNT_STACK; i++) {
		if (point != BPF_CORE_READ(parent, mnt.mnt_root))
			break;
		point = BPF_CORE_READ(parent, mnt_mountpoint);
		parent = BPF_CORE_READ(parent, mnt_parent);
	}
	directory = BPF_CORE_READ(point, d_parent);
	if (parent != walk->parent || directory != walk->directory) {
		walk->parent = walk->up_mount = parent;
		walk->directory = walk->up = directory;
		walk->up_is_mounted = false;
		walk->start = MOUNT_DIRECTORY;
		LOOP(climb_on, &at);
		walk->directory_exposure = walk->exposure;
	}
	walk->exposure = walk->directory_exposure;
	length = BPF_CORE_READ(point, d_name.len);
	if (walk->exposure == HIDDEN || length > MOUNT_NAME)
		return false;
	walk->path[MOUNT_DIRECTORY] = '/';
	bpf_probe_read_kernel(walk->path + MOUNT_DIRECTORY + 1, length, BPF_CORE_READ(point, d_name.name));
	walk->end = MOUNT_DIRECTORY + 1 + length;
	net = (void *)common - bpf_core_field_offset(struct net, ns);
	walk->cookie = BPF_CORE_READ(net, net_cookie);
	walk->inum = BPF_CORE_READ(net, ns.inum);
	return true;
}

/* Whether the mount is still where `place_mount` found it, and nothing is mounted on it: enum exposure. */
__noinline int exposure_of_mount(struct mount_walk *walk)
{
	const struct mount *mount;
	int exposure;

	if (!walk)
		return UNSURE;
	mount = walk->mount;
	if (walk->exposure != EXPOSED)
		return walk->exposure;
	exposure = exposure_of((__u64)mount, (__u64)BPF_CORE_READ(mount, mnt.mnt_root));
	if (exposure == EXPOSED && BPF_CORE_READ(mount, mnt_ns) != walk->mnt_ns)
		return UNSURE;
	return exposure;
}

/* To 6.17 mounts of a file system are in a list that begins and ends at its super block; then in a chain. */
static __always_inline bool mounts_are_listed(void)
{
	struct mount___list *listed = NULL;

	return bpf_core_field_exists(listed->mnt_instance);
}

/* Begins to walk through the mounts of one mount namespace, whose paths begin at one root. */
static __always_inline void begin_walk(struct mount_walk *walk, const struct task_struct *task)
{
	const struct super_block___list *list = (const void *)nsfs;
	const struct super_block___chain *chain = (const void *)nsfs;

	walk->mnt_ns = BPF_CORE_READ(task, nsproxy, mnt_ns);
	walk->root_mount =
		(void *)BPF_CORE_READ(task, fs, root.mnt) - bpf_core_field_offset(struct mount, mnt);
	walk->root = BPF_CORE_READ(task, fs, root.dentry);
	walk->parent = NULL;
	walk->directory = NULL;
	walk->ended = false;
	if (mounts_are_listed())
		walk->next = BPF_CORE_READ(list, s_mounts.next);
	else
		walk->next = BPF_CORE_READ(chain, s_mounts);
}

/* Goes on to the next mount; whether there is none, or its place in the list is lost. */
__noinline int next_mount(struct mount_walk *walk)
{
	const struct mount___chain *chained;

	if (!walk)
		return 1;
	if (mounts_are_listed()) {
		const struct super_block___list *list = (const void *)nsfs;
		const struct list_head *at = walk->next;

		walk->ended = at == (void *)list + bpf_core_field_offset(list->s_mounts);
		if (walk->ended || !at)
			return 1;
		walk->mount = (void *)at - bpf_core_field_offset(struct mount___list, mnt_instance);
		walk->next =
			BPF_CORE_READ(at, next); /* LIST_POISON1 if it was taken out: reads give zero then */
		return 0;
	}
	chained = walk->next;
	walk->ended = !chained;
	if (walk->ended)
		return 1;
	walk->mount = (const void *)chained;
	walk->next = BPF_CORE_READ(chained, mnt_next_for_sb);
	return 0;
}

/* Writes down the mount that the walk has come to, if it names a namespace. */
__noinline int list_mount(struct mount_walk *walk)
{
	__u32 zero = 0, used, start, length;
	struct mounts *list = bpf_map_lookup_elem(&mounts, &zero);
	struct mounted *entry;

	if (!walk || !list || !place_mount(walk) || walk->cookie == state.host_cookie)
		return 0;
	switch (exposure_of_mount(walk)) {
	case HIDDEN:
		return 0;
	case UNSURE:
		list->unsure = 1;
		return 0;
	}
	used = list->used;
	start = walk->start;
	length = walk->end - start;
	if (used > MOUNTS_BYTES - sizeof(struct mounted) - MOUNT_PATH || start > MOUNT_DIRECTORY ||
	    length > MOUNT_PATH)
		return 1;
	asm volatile("%0 &= %1" : "+r"(length) : "i"(2 * MOUNT_DIRECTORY - 1));
	entry = (struct mounted *)(list->entries + used);
	entry->cookie = walk->cookie;
	entry->length = length;
	bpf_probe_read_kernel(entry->path, length, walk->path + start);
	list->used = used + sizeof(struct mounted) + ((length + 7) & ~7U);
	return 0;
}

STEP(list_next, struct mount_walk_at *at)
{
	return next_mount(at->walk) || list_mount(at->walk);
}

/* Lists the namespaces that are mounted where the first process, and so the machine, sees them. Run by
 * Python. */
SEC("?raw_tp")
int cni_mounts(void *ctx)
{
	struct mount_walk_at at = {.walk = &list_walk};
	__u32 zero = 0;
	struct mounts *list = bpf_map_lookup_elem(&mounts, &zero);

	if (!list)
		return 1;
	list->used = 0;
	list->unsure = 0;
	begin_walk(&list_walk, BPF_CORE_READ(own_pid_ns, child_reaper));
	LOOP(list_next, &at);
	return list->unsure || !list_walk.ended;
}

#endif
