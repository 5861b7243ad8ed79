"""Beside real runtimes: containerd, driven as a kubelet would, and podman."""
