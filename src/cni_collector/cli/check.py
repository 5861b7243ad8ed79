"""`cni-collector check`: what works on this machine."""

from __future__ import annotations

import sys

import click

from ..errors import CollectorError
from ..kernel.hooks import TIERS, Hook
from ..kernel.tiers import preference, try_hook, try_tier


@click.command()
def check() -> None:
    """Say what works here, hook by hook.

    Every hook is loaded, attached and let go of. Where one does not work, what is lost by it and the reason are told.
    Exits with 1 if nothing can be collected.
    """
    offered = [tier for tier in preference() if _check_tier(tier)]
    if not offered:
        click.echo(f"nothing can be collected here (tried: {', '.join(TIERS)})", err=True)
        sys.exit(1)
    click.echo(f"cni-collector watch will use: {offered[0]}")


def _check_tier(tier: str) -> bool:
    """Prints what a tier offers, and says whether it can be used."""
    click.echo(f"tier {tier}")
    if error := try_tier(tier):
        click.echo(f"  {click.style('not offered', fg='red')}  {error}")
        return False
    usable = True
    for hook in TIERS[tier]:
        error = try_hook(hook)
        usable = usable and not (error and hook.required)
        click.echo(_line(hook, error))
    click.echo(
        f"  tier {tier}: " + (click.style("works", fg="green") if usable else click.style("does not work", fg="red"))
    )
    return usable


def _line(hook: Hook, error: CollectorError | None) -> str:
    names = "+".join(hook.programs)
    if error is None:
        return f"  {click.style('ok', fg='green')}       {hook.fact}  ({names})"
    lost = "needed" if hook.required else "lost by it"
    return f"  {click.style('missing', fg='red')}  {hook.fact} ({lost})  ({names})\n           {error}"
