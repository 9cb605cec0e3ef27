"""``flask queue acl``."""

from __future__ import annotations

import re

import click

from .. import acl as rules
from . import loading
from .printing import asking

_EPILOG = """
\b
Examples:
  flask --app supply queue acl --role producer >users.acl
  flask --app inventory queue acl --role consumer --role operator
"""


@click.command("acl", epilog=_EPILOG)
@click.option(
    "--role",
    "roles",
    type=click.Choice(rules.ROLES),
    multiple=True,
    help="What the user is for; may be repeated.  [default: what the app does]",
)
@click.option("--user", "name", metavar="NAME", help="Its name.  [default: app-role]")
@click.pass_context
def acl(context: click.Context, roles: tuple[rules.Role, ...], name: str | None) -> None:
    """Print the least that Redis users need for the queues of this app.

    A producer sends, a consumer handles, an operator looks and brings dead letters back. Put a
    password in the place of PASSWORD. The lines go into Redis's file of users, or, without their
    first word, behind ACL SETUSER.
    """
    state = loading.load_state(context)
    with asking(state):
        version = state.inspector.server().version
    registry = state.registry
    for role in roles or (("consumer",) if registry.handlers else ("producer",)):
        queues = registry.handled_queues if role == "consumer" else registry.known_queues
        user = name or re.sub(r"[^A-Za-z0-9._-]", "-", f"{state.app.name}-{role}")
        click.echo(rules.rule(role, user, queues, knows_setinfo=_knows_setinfo(version)))


def _knows_setinfo(version: str) -> bool:
    number = re.search(r"(\d+)\.(\d+)", version)
    return number is not None and (int(number[1]), int(number[2])) >= (7, 2)
