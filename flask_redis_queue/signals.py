"""blinker signals: the sender is the real Flask app, receivers take ``**extra``."""

from __future__ import annotations

import contextlib
import inspect
import logging
from typing import Any

from blinker import NamedSignal, Namespace

_logger = logging.getLogger("flask_redis_queue")
_namespace = Namespace()

message_sent = _namespace.signal("message-sent")
"""A message is in Redis. ``message=``"""
message_received = _namespace.signal("message-received")
"""A message was decoded, before its handler runs. ``message=``"""
message_handled = _namespace.signal("message-handled")
"""The handler returned. ``message= duration=`` (seconds)"""
message_retried = _namespace.signal("message-retried")
"""The message comes again. ``message= error= delay=`` (seconds) ``max_attempts= duration=``"""
message_dead = _namespace.signal("message-dead")
"""The message becomes a dead letter. ``message= error= duration=`` and its ``cause=``"""
message_lost_lease = _namespace.signal("message-lost-lease")
"""This consumer was taken for dead while it held the message; another one gets it. ``message=``"""
consumer_started = _namespace.signal("consumer-started")
"""A consumer is ready. ``consumer=``"""
consumer_stopped = _namespace.signal("consumer-stopped")
"""A consumer has stopped. ``consumer=``"""


def emit(signal: NamedSignal, sender: object, **extra: Any) -> None:
    """Tell every receiver; one that raises is logged and changes nothing.

    :param signal: Which signal.
    :param sender: The Flask app.
    """
    if not signal.receivers:
        return
    for receiver in signal.receivers_for(sender):
        try:
            if inspect.iscoroutinefunction(receiver):
                raise TypeError("a signal receiver must be a plain function, not async def")
            receiver(sender, **extra)
        except Exception:
            # A log that raises, for its disk is full, must not do what the receiver may not.
            with contextlib.suppress(Exception):
                _logger.exception(
                    "A receiver of %s failed; the message is not affected.", signal.name
                )
