"""Kernels for emulated machines that somebody has in a directory."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.machines import kernels
from tests.machines.cache import MachineError

NAME = "5.15.0-91-generic"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A kernel, as its packages unpack."""
    modules = tmp_path / "lib" / "modules" / NAME
    modules.mkdir(parents=True)
    (modules / "modules.dep").touch()
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot" / f"vmlinuz-{NAME}").touch()
    return tmp_path


@pytest.mark.parametrize("version", ["5", "5.15", "5.15.0", NAME])
def test_a_kernel_from_a_directory(directory: Path, version: str) -> None:
    kernel = kernels.chosen(version, "arm64-16k", directory)
    assert (kernel.arch, kernel.name) == ("arm64", NAME)
    assert kernel.image == directory / "boot" / f"vmlinuz-{NAME}"
    assert kernel.modules == directory / "lib" / "modules" / NAME


@pytest.mark.parametrize("version", ["5.1", "5.15.1", "6"])
def test_another_version(directory: Path, version: str) -> None:
    with pytest.raises(MachineError, match=rf"one image of Linux {version}, as vmlinuz-NAME; there are {NAME}"):
        kernels.in_directory(directory, version, "amd64")


def test_several_of_one_version(directory: Path) -> None:
    (directory / "boot" / "vmlinuz-5.15.1").touch()
    with pytest.raises(MachineError, match=f"there are {NAME}, 5.15.1"):
        kernels.in_directory(directory, "5.15", "amd64")


def test_no_image(directory: Path) -> None:
    (directory / "boot" / f"vmlinuz-{NAME}").unlink()
    with pytest.raises(MachineError, match=r"there is no vmlinuz-\* at all"):
        kernels.in_directory(directory, "5.15", "amd64")


def test_modules_without_their_table(directory: Path) -> None:
    (directory / "lib" / "modules" / NAME / "modules.dep").unlink()
    with pytest.raises(MachineError, match=re.escape(f"depmod -b {directory} {NAME}")):
        kernels.in_directory(directory, "5.15", "amd64")


def test_no_modules(directory: Path) -> None:
    modules = directory / "lib" / "modules"
    (modules / NAME).rename(modules / "5.15.1")
    with pytest.raises(MachineError, match=f"{modules} has no {NAME}"):
        kernels.in_directory(directory, "5.15", "amd64")


def test_modules_in_an_unknown_compression(directory: Path) -> None:
    with pytest.raises(MachineError, match=r"cannot uncompress 9p\.ko\.zst"):
        kernels._uncompressed(Path("9p.ko.zst"))
