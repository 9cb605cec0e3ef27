"""Messages between Flask services over Redis lists: validated, kept, applied, and visible."""

from .consumer import Consumer
from .context import current_message
from .contracts import message
from .exceptions import (
    ConfigurationError,
    InvalidMessage,
    MessageTooLarge,
    QueueFull,
    QueueRefused,
    QueueUnavailable,
    RedisQueueError,
    Reject,
    Retry,
    UnknownMessage,
)
from .extension import RedisQueue
from .options import SentMessage
from .pace import Tally
from .retry import RetryPolicy
from .signals import (
    consumer_started,
    consumer_stopped,
    message_dead,
    message_handled,
    message_lost_lease,
    message_received,
    message_retried,
    message_sent,
)

__all__ = [
    "ConfigurationError",
    "Consumer",
    "InvalidMessage",
    "MessageTooLarge",
    "QueueFull",
    "QueueRefused",
    "QueueUnavailable",
    "RedisQueue",
    "RedisQueueError",
    "Reject",
    "Retry",
    "RetryPolicy",
    "SentMessage",
    "Tally",
    "UnknownMessage",
    "consumer_started",
    "consumer_stopped",
    "current_message",
    "message",
    "message_dead",
    "message_handled",
    "message_lost_lease",
    "message_received",
    "message_retried",
    "message_sent",
]
