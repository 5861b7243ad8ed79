"""Whose a namespace is: CNI calls, names, cgroups. Knows no BPF."""
