"""A container of the manifests in the words that a kubelet has for a runtime."""

from __future__ import annotations

import cri_api as cri

from .pods import Container


def config(container: Container, image: str, pod: cri.PodSandboxConfig, log: str) -> cri.ContainerConfig:
    """What is to run in a pod. What is to be mounted is made, if need be.

    Args:
        container: what it is.
        image: the name of its image.
        pod: of which the namespaces are.
        log: the file that it writes to, in the pod's directory.
    """
    for mount in container.mounts:
        mount.prepare()
    profile = cri.SecurityProfile.ProfileType.Value(container.seccomp)
    return cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name="cni-collector"),
        image=cri.ImageSpec(image=image),
        args=container.arguments,
        envs=[cri.KeyValue(key=key, value=value) for key, value in container.environment.items()],
        mounts=[
            cri.Mount(host_path=one.source, container_path=one.place, readonly=one.read_only)
            for one in container.mounts
        ],
        labels={**pod.labels, "io.kubernetes.container.name": "cni-collector"},
        log_path=log,
        linux=cri.LinuxContainerConfig(
            resources=cri.LinuxContainerResources(memory_limit_in_bytes=container.memory),
            security_context=cri.LinuxContainerSecurityContext(
                capabilities=cri.Capability(add_capabilities=container.added, drop_capabilities=container.dropped),
                namespace_options=pod.linux.security_context.namespace_options,
                run_as_user=cri.Int64Value(value=container.user),
                run_as_group=cri.Int64Value(value=container.group),
                no_new_privs=container.no_new_privileges,
                readonly_rootfs=container.read_only,
                seccomp=cri.SecurityProfile(profile_type=profile),
            ),
        ),
    )
