"""``flask queue acl``."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click

from .. import acl as rules
from . import loading
from .printing import asking

_EPILOG = """
\b
Examples:
  flask --app supply queue acl --role producer >users.acl
  flask --app inventory queue acl --role operator --user anna >>users.acl

\b
A consumer may not send. An app that handles a queue and knows another one is
both, so that its handlers may send there; where they send to a queue that it
handles, say so:
  flask --app inventory queue acl --role consumer --role producer
"""


def _check_user(context: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    if name is not None and (not name.isprintable() or name.split() != [name]):
        raise click.BadParameter(
            "A user of Redis is one word: no blanks, line breaks or control characters.",
            context,
            parameter,
        )
    return name


@click.command("acl", epilog=_EPILOG)
@click.option(
    "--role",
    "roles",
    type=click.Choice(rules.ROLES),
    multiple=True,
    help="What the user is for; may be repeated.  [default: consumer where the app has handlers, "
    "producer where it has none or knows a queue that it does not handle]",
)
@click.option(
    "--user",
    "name",
    metavar="NAME",
    callback=_check_user,
    help="Its name.  [default: the app's and its roles]",
)
@click.pass_context
def acl(context: click.Context, roles: tuple[rules.Role, ...], name: str | None) -> None:
    """Print the least that a Redis user needs for the queues of this app.

    A producer sends, a consumer handles, an operator looks and brings dead letters back; one line
    has all that the user is for. Put a password in the place of PASSWORD. The line goes into
    Redis's file of users, or, without its first word, behind ACL SETUSER.
    """
    state = loading.load_state(context)
    with asking(state):
        version = state.inspector.server().version
    handled, known = state.registry.handled_queues, state.registry.known_queues
    wanted = tuple(dict.fromkeys(roles)) or _roles_of_app(handled, known)
    queues = {role: handled if role == "consumer" else known for role in wanted}
    user = name or re.sub(r"[^A-Za-z0-9._-]", "-", "-".join([state.app.name, *wanted]))
    click.echo(rules.rule(user, queues, knows_setinfo=_knows_setinfo(version)))


def _roles_of_app(handled: Sequence[str], known: Sequence[str]) -> tuple[rules.Role, ...]:
    if not handled:
        return ("producer",)
    return ("consumer",) if set(known) <= set(handled) else ("consumer", "producer")


def _knows_setinfo(version: str) -> bool:
    number = re.search(r"(\d+)\.(\d+)", version)
    return number is not None and (int(number[1]), int(number[2])) >= (7, 2)
