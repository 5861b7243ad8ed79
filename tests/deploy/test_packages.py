"""`make test` installs packages that bring services: none of them is started by that, now or at the next boot."""

from __future__ import annotations

import subprocess
from typing import Final

import pytest

from ..machines.cache import CHECKOUT
from .booted import Machine

POLICY: Final = "/usr/sbin/policy-rc.d"
"""What is asked whether a service may be started (invoke-rc.d(8))."""

# As debhelper makes them, of a package that has both a unit and a script of System V.
_BUILD: Final = """set -e
root=$(mktemp -d) name=$1 version=$2 depends=$3
mkdir -p $root/DEBIAN $root/lib/systemd/system $root/etc/init.d /repository
cat > $root/DEBIAN/control <<EOF
Package: $name
Version: $version
Architecture: all
Maintainer: nobody <nobody@localhost>
Depends: init-system-helpers$depends
Description: a service
EOF
cat > $root/lib/systemd/system/$name.service <<EOF
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
EOF
cat > $root/etc/init.d/$name <<EOF
#!/bin/sh
### BEGIN INIT INFO
# Provides: $name
# Required-Start:
# Required-Stop:
# Default-Start: 2 3 4 5
# Default-Stop: 0 1 6
### END INIT INFO
EOF
cat > $root/DEBIAN/postinst <<EOF
#!/bin/sh
set -e
update-rc.d $name defaults >/dev/null
if deb-systemd-helper --quiet was-enabled $name.service; then
	deb-systemd-helper enable $name.service >/dev/null
else
	deb-systemd-helper update-state $name.service >/dev/null
fi
systemctl daemon-reload
if [ -n "\\$2" ]; then action=restart; else action=start; fi
deb-systemd-invoke \\$action $name.service >/dev/null || true
EOF
chmod 755 $root $root/DEBIAN/postinst $root/etc/init.d/$name
dpkg-deb --build $root /repository/${name}_$version.deb >/dev/null
cd /repository
for deb in *.deb; do
	dpkg-deb --field $deb
	printf 'Filename: ./%s\\nSize: %s\\n' $deb $(stat -c %s $deb)
	printf 'SHA256: %s\\n\\n' $(sha256sum $deb | cut -d ' ' -f 1)
done > Packages
rm -rf /etc/apt/sources.list.d $root
echo 'deb [trusted=yes] file:/repository ./' > /etc/apt/sources.list
"""


def _build(machine: Machine, name: str, version: str = "1", depends: str = "") -> None:
    """Makes a package with a service that can be installed; no other can."""
    machine("sh", "-c", _BUILD, "sh", name, version, depends)


def _install(machine: Machine, *names: str) -> None:
    machine.copy(CHECKOUT / "tools" / "packages", "/packages")
    machine("/packages", *names)


def _links(machine: Machine, name: str) -> str:
    """What starts it at boot."""
    return machine("sh", "-c", f"find /etc/systemd /etc/rc?.d -name '{name}.service' -o -name 'S*{name}'")


def _is_installed(machine: Machine, name: str) -> bool:
    return machine("dpkg-query", "-W", "-f", "${Status}", name) == "install ok installed"


@pytest.fixture
def no_policy(machine: Machine) -> None:
    """As on a machine, not in a container."""
    machine("rm", "-f", POLICY)


@pytest.mark.usefixtures("no_policy")
def test_a_service_is_not_started_and_not_enabled(machine: Machine) -> None:
    """One that runs is restarted with its new version as ever; one that apt itself installs shows that it would be."""
    _build(machine, "cni-test-old")
    machine("sh", "-c", "apt-get update -qq && apt-get install -qq cni-test-old")
    before = machine.ask("cni-test-old", "MainPID")
    assert machine.ask("cni-test-old", "ActiveState") == "active"
    assert _links(machine, "cni-test-old")
    _build(machine, "cni-test-old", "2")
    _build(machine, "cni-test-new", depends=", cni-test-old (>= 2)")
    _install(machine, "dpkg", "cni-test-new")
    assert _is_installed(machine, "cni-test-new")
    assert machine.ask("cni-test-new", "ActiveState") == "inactive"
    assert _links(machine, "cni-test-new") == ""
    assert machine.ask("cni-test-old", "ActiveState") == "active"
    assert machine.ask("cni-test-old", "MainPID") != before
    assert _links(machine, "cni-test-old")
    assert machine("sh", "-c", f"ls {POLICY} 2>/dev/null || true") == ""


def test_the_owners_policy_decides_and_stays(machine: Machine) -> None:
    text = "#!/bin/sh\nexit 0  # the owner's"
    machine.write(POLICY, text)
    machine("chmod", "755", POLICY)
    _build(machine, "cni-test-allowed")
    _install(machine, "cni-test-allowed")
    assert machine.ask("cni-test-allowed", "ActiveState") == "active"
    assert _links(machine, "cni-test-allowed") == ""
    assert machine("cat", POLICY) == text


@pytest.mark.usefixtures("no_policy")
def test_nothing_is_left_where_it_fails(machine: Machine) -> None:
    _build(machine, "cni-test-other")
    with pytest.raises(subprocess.CalledProcessError):
        _install(machine, "cni-test-none")
    assert machine("sh", "-c", f"ls {POLICY} 2>/dev/null || true") == ""


def test_what_was_left_by_one_that_was_killed_goes(machine: Machine) -> None:
    machine.write(POLICY, "#!/bin/sh\n# Only while tools/packages runs, as process 4194305\nexit 101\n")
    _build(machine, "cni-test-later")
    _install(machine, "cni-test-later")
    assert machine.ask("cni-test-later", "ActiveState") == "inactive"
    assert machine("sh", "-c", f"ls {POLICY} 2>/dev/null || true") == ""
