#!/bin/busybox sh
# First process of a machine: makes a root file system of what the host shares, and hands over to command.sh there.
# Where anything fails here it ends, and with it the machine.
set -eu
/bin/busybox mkdir /proc
/bin/busybox --install -s /bin
export PATH=/bin
. /parameters
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod "$module"; done

# What the host shares under this name.
share() {
	mkdir -p "$2"
	mount -t 9p -o "trans=virtio,version=9p2000.L,msize=262144,$3" "$1" "$2"
}

# The same with a tmpfs over it, which takes what is written.
overlay() {
	share "$1" "/lower/$1" ro,cache=loose
	mkdir -p "/upper/$1" "$2"
	mount -t tmpfs tmpfs "/upper/$1"
	mkdir "/upper/$1/new" "/upper/$1/work"
	mount -t overlay -o "lowerdir=/lower/$1,upperdir=/upper/$1/new,workdir=/upper/$1/work" overlay "$2"
}
overlay root /root
mount -t tmpfs -o mode=755 run /root/run
mount -t tmpfs tmp /root/tmp
overlay checkout "/root$checkout"
share modules "/root/lib/modules/$(uname -r)" ro,cache=loose
share machine /root/run/machine cache=none

mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
mount -t bpf bpf /root/sys/fs/bpf
mount -t debugfs debugfs /root/sys/kernel/debug
mount -t tracefs tracefs /root/sys/kernel/tracing
mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
mount --move /dev /root/dev
ip link set lo up
exec switch_root /root /bin/sh "$checkout/tests/machines/command.sh"
