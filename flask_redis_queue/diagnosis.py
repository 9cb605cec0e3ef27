"""What is wrong with Redis: trouble that passes or trouble that lasts, and the sentence for it."""

from __future__ import annotations

import re
from typing import Literal

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from .config import Config

Kind = Literal["away", "wrong", "other"]

_AWAY = re.compile(
    r"^-?(LOADING|READONLY|MASTERDOWN|MISCONF|NOREPLICAS|CLUSTERDOWN|OOM|BUSY|UNBLOCKED|TRYAGAIN)\b"
)
_WRONG = re.compile(
    r"^-?(NOPERM|NOAUTH|WRONGPASS|WRONGTYPE|ERR unknown|ERR AUTH|ERR invalid password|ERR DB index)"
)


class NotSent(Exception):
    """The connection could not be made, so that nothing of the request left."""

    def __init__(self, cause: RedisError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def kind(error: BaseException) -> Kind:
    """Tell trouble that passes from trouble that lasts.

    :param error: What redis-py raised, or :class:`NotSent`.
    :return: ``"away"``: wait and try again. ``"wrong"``: a person must act. ``"other"``: neither.
    """
    if isinstance(error, NotSent):
        error = error.cause
    text = str(error)
    # AuthenticationError is a ConnectionError: a wrong password would look like an outage below.
    if isinstance(error, (AuthenticationError, AuthorizationError, NoPermissionError)):
        return "wrong"
    if is_full(error) or _AWAY.match(text):
        return "away"
    if _WRONG.match(text):
        return "wrong"
    if isinstance(error, (RedisConnectionError, RedisTimeoutError)):
        return "away"
    return "other"


def is_full(error: BaseException) -> bool:
    """:return: Whether the server has no memory left; scripts say it in mid-text."""
    return isinstance(error, ResponseError) and (
        type(error).__name__ == "OutOfMemoryError" or "OOM command not allowed" in str(error)
    )


def is_doubtful(error: BaseException) -> bool:
    """:return: Whether the request may have been applied: it left, and no answer came."""
    return isinstance(error, (RedisConnectionError, RedisTimeoutError)) and not isinstance(
        error, (AuthenticationError, AuthorizationError, BusyLoadingError)
    )


def explain(error: BaseException, config: Config) -> str:
    """Say what is wrong with Redis, as the end of a sentence that begins "Redis at …".

    :param error: What redis-py raised, or :class:`NotSent`.
    :param config: Whose passwords are not shown.
    :return: For example ``refused the connection``.
    """
    if isinstance(error, NotSent):
        error = error.cause
    text = str(error)
    if isinstance(error, (AuthenticationError, AuthorizationError)) or _LOGIN.match(text):
        password = "password set, not shown" if config.has_password else "no password set"
        return f'refused user "{config.user}" ({password})'
    if isinstance(error, BusyLoadingError):
        return "is still loading its data"
    if is_full(error):
        return "is full: it has reached its maxmemory and takes no more"
    if isinstance(error, RedisTimeoutError):
        return "did not answer in time"
    for pattern, said in _SAID:
        if re.search(pattern, text):
            return said
    return f"answered: {text}" if isinstance(error, ResponseError) else f"failed: {text}"


_LOGIN = re.compile(r"^-?(NOAUTH|WRONGPASS|ERR AUTH|ERR invalid password)")
_SAID = (
    (r"Connection refused|Error 111|Error 61\b", "refused the connection"),
    (r"No such file or directory|Error 2\b", "is not there (no such socket)"),
    (r"Name or service|nodename nor|Temporary failure in name|Error -[23]\b", "has no such host"),
    (r"^-?READONLY", "is a replica, which takes no writes"),
    (r"^-?MASTERDOWN", "is a replica that has lost its master"),
    (r"^-?MISCONF", "takes no writes, because it cannot save to its disk"),
    (r"^-?NOREPLICAS", "takes no writes, because it has too few replicas"),
    (r"max number of clients", "has no connection left (maxclients)"),
    (r"closed by server|reset by peer|Broken pipe|Connection has data", "closed the connection"),
)


def refusal(error: BaseException, config: Config) -> str:
    """Say why it is no use to try again, and what would help.

    :param error: Trouble that lasts.
    :param config: Where Redis is, and as whom this app logs in.
    :return: One or two sentences.
    """
    text = str(error.cause if isinstance(error, NotSent) else error)
    command = _NO_COMMAND.search(text)
    if command is not None:
        name = command[1].lower()
        return (
            f'User "{config.user}" may not run {name.upper()} on Redis at {config.safe_url}. '
            f"An admin can run: ACL SETUSER {config.user} +{name}"
        )
    if "key" in text and "permission" in text.lower():
        return (
            f'User "{config.user}" may not use the keys of its queues on Redis at '
            f"{config.safe_url}. An admin can run, for each queue: "
            f"ACL SETUSER {config.user} ~QUEUE ~{{QUEUE}}:*"
        )
    return f"Redis at {config.safe_url} {explain(error, config)}. Not retrying."


_NO_COMMAND = re.compile(r"no permissions to run the '([a-zA-Z|]+)' command")
