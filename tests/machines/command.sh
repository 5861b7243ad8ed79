# First process of a machine that has its root file system: runs the command, and switches the machine off.
sh /run/machine/command </dev/null >/run/machine/stdout 2>/run/machine/stderr
echo $? >/run/machine/status
busybox poweroff -nf
