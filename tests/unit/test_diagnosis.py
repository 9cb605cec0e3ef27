"""What a person is told to do where Redis refuses."""

from __future__ import annotations

import pytest
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from flask_redis_queue import config, diagnosis

_LINE = "The whole line comes from: flask --app … queue acl --role ROLE --user shop"
_WRONG = AuthenticationError("invalid username-password pair or user is disabled.")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "(no password set). Set REDIS_PASSWORD, or user and password in REDIS_URL."),
        (
            {"REDIS_PASSWORD": "x"},
            "(password set, not shown). Correct REDIS_PASSWORD, or name its user in REDIS_USERNAME",
        ),
        (
            {"REDIS_PASSWORD": "x", "REDIS_USERNAME": "shop"},
            'user "shop" (password set, not shown). Correct REDIS_USERNAME and REDIS_PASSWORD',
        ),
    ],
)
def test_a_refused_login_names_its_cure(settings: dict[str, str], said: str) -> None:
    """Which depends on what is set."""
    text = diagnosis.refusal(_WRONG, config.load(settings, {}))
    assert (True, True) == (said in text, text.endswith("Not retrying.")), text


@pytest.mark.parametrize(
    "error",
    [
        NoPermissionError("this user has no permissions to run the 'blmove' command"),
        ResponseError("The user executing the script can't run this command or subcommand"),
        NoPermissionError("No permissions to access a key"),
    ],
)
def test_a_missing_right_names_where_all_come_from(error: Exception) -> None:
    """Else an admin adds one command after the other."""
    where = config.load({"REDIS_PASSWORD": "x", "REDIS_USERNAME": "shop"}, {})
    assert _LINE in diagnosis.refusal(error, where)
