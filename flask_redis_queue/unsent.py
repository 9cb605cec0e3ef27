"""What a sender is told of a send that did not succeed: what is stored, and what to do."""

from __future__ import annotations

from . import diagnosis
from .config import Config
from .durations import text
from .exceptions import QueueFull, QueueRefused, QueueUnavailable
from .protocol import SendRequest


def unavailable(
    error: BaseException,
    config: Config,
    name: str | None,
    request: SendRequest | None = None,
    id: str | None = None,
) -> QueueUnavailable:
    """Explain why Redis stored nothing, or may have.

    :param error: What happened last.
    :param config: The app's settings.
    :param name: The type of the message.
    :param request: What was asked for; ``None``: nothing that stores.
    :param id: What the sender may send it again with; ``None``: it carries none, or is one of many.
    :return: The error for the sender.
    """
    what = name or "The message"
    if diagnosis.kind(error) == "wrong":
        why = diagnosis.refusal(error, config)
        return QueueRefused(f"{what} was NOT sent, and nothing was stored. {why}", id=id)
    said = f"Redis at {config.safe_url} {diagnosis.explain(error, config)}"
    if request is not None and diagnosis.is_doubtful(error):
        return QueueUnavailable(
            f"{what} may have been sent: {said} (within {config.send_timeout:g}s). "
            f"{_again(request, id)}",
            stored="unknown",
            id=id,
        )
    return QueueUnavailable(
        f"{what} was NOT sent: {said}. Nothing was stored. Try again later.", id=id
    )


def _again(request: SendRequest, id: str | None) -> str:
    known, window = f'id="{id}"', request.seen_ms
    if request.dedup is not None:
        known, window = f'dedup="{request.dedup[0]}"', request.dedup[1]
    elif id is None:
        return (
            "What is sent again may be stored twice. Where that matters, send messages one by one, "
            "each with its own dedup=."
        )
    return f"Sending it again with {known} within {text(window / 1000)} stores it once."


def full(config: Config, name: str | None, queue: str) -> QueueFull:
    """:return: The error for the sender to a queue that has reached its length."""
    return QueueFull(
        f"{name or 'The message'} was NOT sent: {queue} has reached "
        f"REDIS_QUEUE_MAX_LENGTH ({config.max_length:,}). Nothing was stored. "
        "Try again when its consumer has caught up."
    )
