"""What can go wrong. A message says what was being done, why it failed, and what to do about it."""


class CollectorError(Exception):
    """The root of everything this package raises on purpose."""


class UnsupportedError(CollectorError):
    """This platform, kernel or libbpf cannot do what was asked."""


class LockdownError(UnsupportedError):
    """The kernel was booted so that nobody may read its memory."""


class PrivilegeError(CollectorError):
    """The process lacks a capability; the message names it."""


class LoadError(CollectorError):
    """The kernel refused a program.

    Attributes:
        log: what libbpf and the verifier said, possibly many lines.
    """

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class AttachError(CollectorError):
    """A loaded program could not be attached.

    Attributes:
        program: name of the program.
        target: where it was to be attached, as libbpf writes it (`tp_btf/sched_process_fork`).
        errno: the system's error number.
    """

    def __init__(self, message: str, program: str, target: str, errno: int) -> None:
        super().__init__(message)
        self.program = program
        self.target = target
        self.errno = errno


class LayoutError(CollectorError):
    """The compiled object and this package disagree about the bytes that pass between them."""


class ClosedError(CollectorError):
    """The collector is not started, or was stopped and has nothing left to give."""


def of_the_system(what: str, error: OSError) -> CollectorError:
    """The error of what the system refuses.

    Args:
        what: what cannot be done, as in `start collecting`.
        error: why.
    """
    where = f": {error.filename}" if error.filename else ""
    return CollectorError(f"cannot {what}: {error.strerror or error}{where}")


def missing_extra(what: str, distribution: str, extra: str) -> CollectorError:
    """The error of what needs an optional part of the package.

    Args:
        what: what cannot be done, as in `speak to NATS`.
        distribution: what is not installed.
        extra: the extra of this package that brings it.
    """
    return CollectorError(f"cannot {what}: {distribution} is not installed; pip install 'cni-collector[{extra}]'")
