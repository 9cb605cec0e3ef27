"""What is wrong with Redis: trouble that passes or trouble that lasts, and the sentence for it."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from .config import Config
from .exceptions import QueueRefused

Kind = Literal["away", "wrong", "other"]

# redis-py cuts the code off the errors that it has a class for, and leaves it on the others; Redis
# 6.2 puts what a command inside a script said behind the script's own words.
_AWAY = re.compile(
    r"(?:^|: )-?(READONLY|MASTERDOWN|MISCONF|NOREPLICAS|CLUSTERDOWN|BUSY|UNBLOCKED|TRYAGAIN)\b"
)
_WRONG = re.compile(
    r"^-?(ERR )?(NOPERM|NOAUTH|WRONGPASS|WRONGTYPE|unknown command|AUTH\b|invalid password|DB index"
    r"|Client sent AUTH|ACL failure"
    r"|(Error running script.*|@user_script: \d+: )?The user executing the script)"
)
_TLS_WRONG = re.compile(
    r"CERTIFICATE_VERIFY_FAILED|CERTIFICATE_REQUIRED|ALERT_(UNKNOWN_CA|BAD_CERT|CERTIFICATE|DECRYPT)"
    r"|ALERT_HANDSHAKE|WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|record layer failure"
    r"|PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL"
    r"|KEY_VALUES_MISMATCH|PEM lib|NO_START_LINE|NO_CERTIFICATE"
)
_DEMOTED = "The previous master is now a slave"
"""What redis-py's Sentinel makes of READONLY."""


class NotSent(Exception):
    """The connection could not be made, so that nothing of the request left."""

    def __init__(self, cause: RedisError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class NoMaster(RedisConnectionError):
    """No sentinel has named the master of a service.

    :param service: Its name.
    :param known: The services that the sentinels know.
    :param trouble: What the last sentinel did that did not answer; ``None``: all answered.
    """

    def __init__(self, service: str, known: Collection[str], trouble: RedisError | None) -> None:
        super().__init__(f"no sentinel names the master of {service!r}")
        self.service, self.known, self.trouble = service, sorted(known), trouble

    @property
    def kind(self) -> Kind:
        """:return: As :func:`kind`. One sentinel that is being set up anew convicts nobody."""
        if self.trouble is None:
            return "away" if self.service in self.known else "wrong"
        return "away" if self.known or kind(self.trouble) == "away" else "wrong"

    def __str__(self) -> str:
        if self.trouble is None and self.service not in self.known:
            names = ", ".join(self.known) or "none"
            return f'has no service "{self.service}": its sentinels know {names}'
        if self.known or self.trouble is None:
            return f'has no master for "{self.service}" now: its sentinels look for one'
        if isinstance(self.trouble, (AuthenticationError, NoPermissionError)):
            return (
                "cannot be found: its sentinels refuse the login "
                "(sentinel_username= and sentinel_password= in the URL)"
            )
        return f"cannot be found: the last of its sentinels {_said(self.trouble)}"


def kind(error: BaseException) -> Kind:
    """Tell trouble that passes from trouble that lasts.

    :param error: What redis-py raised, or :class:`NotSent`.
    :return: ``"away"``: wait and try again. ``"wrong"``: a person must act. ``"other"``: neither.
    """
    if isinstance(error, NotSent):
        error = error.cause
    if isinstance(error, NoMaster):
        return error.kind
    text = str(error)
    # AuthenticationError is a ConnectionError: a wrong password would look like an outage below.
    if isinstance(error, (AuthenticationError, AuthorizationError, NoPermissionError)):
        return "wrong"
    if is_full(error) or isinstance(error, _PASSES) or _AWAY.search(text):
        return "away"
    if isinstance(error, InvalidResponse) or _WRONG.match(text) or _TLS_WRONG.search(text):
        return "wrong"
    if isinstance(error, (RedisConnectionError, RedisTimeoutError)):
        return "away"
    return "other"


def is_full(error: BaseException) -> bool:
    """:return: Whether the server has no memory left; scripts say it in mid-text."""
    return isinstance(error, ResponseError) and (
        type(error).__name__ == "OutOfMemoryError" or "OOM command not allowed" in str(error)
    )


_PASSES = (ReadOnlyError, MasterDownError, ClusterDownError, TryAgainError)


def is_demoted(error: BaseException) -> bool:
    """:return: Whether the server is a replica now, so that the master is to be looked for."""
    return isinstance(error, (ReadOnlyError, MasterDownError)) or bool(
        re.search(r"(?:^|: )-?(READONLY|MASTERDOWN|UNBLOCKED)\b", str(error))
    )


def is_doubtful(error: BaseException) -> bool:
    """:return: Whether the request may have been applied: it left, and no answer came."""
    if isinstance(error, (AuthenticationError, AuthorizationError, BusyLoadingError)):
        return False
    return isinstance(error, (RedisConnectionError, RedisTimeoutError)) and not re.match(
        _DEMOTED, str(error)
    )


def explain(error: BaseException, config: Config) -> str:
    """Say what is wrong with Redis, as the end of a sentence that begins "Redis at …".

    :param error: What redis-py raised, or :class:`NotSent`.
    :param config: Whose passwords are not shown.
    :return: For example ``refused the connection``.
    """
    connecting = isinstance(error, NotSent)
    if isinstance(error, NotSent):
        error = error.cause
    if _is_login(error):
        password = "password set, not shown" if config.login[1] else "no password set"
        return f'refused user "{config.user}" ({password})'
    said = _said(error)
    if connecting and config.ssl and isinstance(error, RedisTimeoutError):
        # A plain Redis waits for the end of the line that it takes the handshake for.
        return f"{said}; does it speak TLS on this port?"
    if connecting and not config.ssl and said == _CLOSED:
        return f"{said} before it said anything; if it wants TLS, use rediss://"
    return said


def _said(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, NoMaster):
        return text
    if isinstance(error, BusyLoadingError):
        return "is still loading its data"
    if is_full(error):
        return "is full: it has reached its maxmemory and takes no more"
    for types, pattern, said in _SAID:
        if isinstance(error, types) or re.search(pattern, text):
            return said
    return f"answered: {text}" if isinstance(error, ResponseError) else f"failed: {text}"


_LOGIN = re.compile(r"^-?(NOAUTH|WRONGPASS|ERR AUTH|ERR invalid password)")
_CLOSED = "closed the connection"
_REPLICA = "is a replica, which takes no writes"
_UNVERIFIED = "has a certificate that could not be verified"
_SAID: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    ((), "VERIFY_FAILED.*mismatch", f"{_UNVERIFIED}: it is for another host name"),
    ((), "VERIFY_FAILED.*expired", f"{_UNVERIFIED}: it has expired"),
    ((), "VERIFY_FAILED", f"{_UNVERIFIED}: name its CA in REDIS_SSL_CA_CERTS"),
    (
        (),
        "CERTIFICATE_REQUIRED|ALERT_HANDSHAKE",
        "wants a client certificate (REDIS_SSL_CERTFILE, REDIS_SSL_KEYFILE)",
    ),
    ((), r"ALERT_(UNKNOWN_CA|BAD_CERT|CERTIFICATE|DECRYPT)", "refused our client certificate"),
    (
        (),
        "KEY_VALUES_MISMATCH|PEM lib|NO_START_LINE|NO_CERTIFICATE",
        "was not asked: a file of REDIS_SSL_… is no certificate or key, or the two do not match",
    ),
    ((), _TLS_WRONG.pattern, "does not speak TLS on this port"),
    (
        (InvalidResponse,),
        "^$",
        "does not speak Redis's protocol on this port; if it is TLS, use rediss://",
    ),
    ((RedisTimeoutError,), "^$", "did not answer in time"),
    ((), "Connection refused|Error 111|Error 61\\b", "refused the connection"),
    ((), "No such file or directory|Error 2\\b", "is not there (no such socket)"),
    (
        (),
        "Name or service|nodename nor|Temporary failure in name|Error -[23]\\b",
        "has no such host",
    ),
    ((ReadOnlyError,), f"(^|: )-?READONLY|{_DEMOTED}", _REPLICA),
    ((MasterDownError,), "(^|: )-?MASTERDOWN", "is a replica that has lost its master"),
    ((), "(^|: )-?UNBLOCKED", "has become a replica"),
    ((), "(^|: )-?MISCONF", "takes no writes, because it cannot save to its disk"),
    ((), "(^|: )-?NOREPLICAS", "takes no writes, because it has too few replicas"),
    ((), "max number of clients", "has no connection left (maxclients)"),
    ((), "closed by server|reset by peer|Broken pipe|Connection has data|EOF occurred", _CLOSED),
)


def refused(error: BaseException, config: Config) -> BaseException:
    """:return: A :class:`.QueueRefused` for trouble that lasts; any other error as it is."""
    return QueueRefused(refusal(error, config)) if kind(error) == "wrong" else error


def refusal(error: BaseException, config: Config) -> str:
    """Say why it is no use to try again, and what would help.

    :param error: Trouble that lasts.
    :param config: Where Redis is, and as whom this app logs in.
    :return: One or two sentences.
    """
    text = str(error.cause if isinstance(error, NotSent) else error)
    line = f"The whole line comes from: flask --app … queue acl --role ROLE --user {config.user}"
    command = _NO_COMMAND.search(text)
    if command is not None:
        name = command[1].lower()
        return (
            f'User "{config.user}" may not run {name.upper()} on Redis at {config.safe_url}. '
            f"An admin can run: ACL SETUSER {config.user} +{name}. {line}"
        )
    if _SCRIPT_REFUSED in text:
        return (
            f'User "{config.user}" may not run a command that the scripts of this package use, on '
            f"Redis at {config.safe_url}. {line}"
        )
    if "key" in text and "permission" in text.lower():
        return (
            f'User "{config.user}" may not use the keys of its queues on Redis at '
            f"{config.safe_url}. An admin can run, for each queue: "
            f"ACL SETUSER {config.user} ~QUEUE ~{{QUEUE}}:*. {line}"
        )
    cure = _cure_of_login(config) if _is_login(error) else ""
    return f"Redis at {config.safe_url} {explain(error, config)}. {cure}Not retrying."


def _is_login(error: BaseException) -> bool:
    cause = error.cause if isinstance(error, NotSent) else error
    is_auth = isinstance(cause, (AuthenticationError, AuthorizationError))
    return is_auth or _LOGIN.match(str(cause)) is not None


def _cure_of_login(config: Config) -> str:
    name, password = config.login
    if not password:
        return "Set REDIS_PASSWORD, or user and password in REDIS_URL. "
    if not name:
        return "Correct REDIS_PASSWORD, or name its user in REDIS_USERNAME or REDIS_URL. "
    return "Correct REDIS_USERNAME and REDIS_PASSWORD, or both in REDIS_URL. "


_SCRIPT_REFUSED = "The user executing the script can't run"
_NO_COMMAND = re.compile(r"no permissions to run the '([a-zA-Z|]+)' command")
