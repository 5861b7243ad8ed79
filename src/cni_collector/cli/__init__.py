"""The command `cni-collector`: one file for each of its commands. Click and printing, nothing else."""
