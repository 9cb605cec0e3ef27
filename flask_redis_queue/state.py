"""What one app's queue is made of. Everything that touches Redis is made at first use, so that a
process that forks after ``create_app()`` shares no connection."""

from __future__ import annotations

import importlib
import os
import re
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import redis
from flask import Flask, current_app

from . import clients
from . import config as configuration
from .board import Seat
from .broker import Broker
from .config import Config
from .consumer import Consumer
from .context import MessageContext
from .contracts import Contract
from .envelope import Message
from .exceptions import ConfigurationError
from .guard import Guard
from .handlers import Recorder
from .inspector import Inspector
from .pace import Limits
from .processor import Processor
from .publisher import Publisher
from .registry import Registry
from .voice import Voice

EXTENSION = "redis_queue"
_MARGIN = 5.0
"""Seconds that an answer may take beyond the time it was asked to wait."""


@dataclass(frozen=True, eq=False)
class AppState:
    """The objects that belong to one app.

    :param app: The real app.
    :param owner: The ``RedisQueue`` that initialised it.
    :param recorder: Its handlers.
    :param contracts: What the app sends without handling.
    :param handler_modules: What ``consume`` imports.
    :param make_pool: Makes connections; tests put others in its place.
    """

    app: Flask
    owner: object
    recorder: Recorder
    contracts: Sequence[Contract]
    handler_modules: Sequence[str]
    make_pool: Callable[..., redis.ConnectionPool] = clients.make_pool

    @cached_property
    def config(self) -> Config:
        """:return: The settings, read once."""
        return configuration.load(self.app.config)

    @cached_property
    def broker(self) -> Broker:
        """:return: For senders: short timeouts, for a view waits for it."""
        # Two tries fit into the time that a send may take.
        timeout = self.config.send_timeout / 2
        return Broker(self.make_pool(self.config, timeout, self._client_name), self.config)

    @cached_property
    def publisher(self) -> Publisher:
        """:return: What ``send`` runs."""
        return Publisher(self.config, self.broker, self.app.name, self.app)

    @cached_property
    def inspector(self) -> Inspector:
        """:return: For operators."""
        return Inspector(self.make_pool(self.config, _MARGIN, self._client_name))

    @property
    def registry(self) -> Registry:
        """:return: What the app knows, resolved; again when handlers were added."""
        cached: tuple[int, Registry] | None = self.__dict__.get("_registry")
        if cached is None or cached[0] != self.recorder.version:
            cached = (
                self.recorder.version,
                Registry(
                    self.contracts,
                    self.recorder.handlers,
                    self.config.queue_name,
                    self.config.retry,
                ),
            )
            self.__dict__["_registry"] = cached
        return cached[1]

    def import_handlers(self) -> None:
        """Import the modules of ``handlers=``, so that their decorators have run.

        :raises ConfigurationError: If a relative name has no package to start from.
        """
        package = self._package()
        for name in self.handler_modules:
            if name.startswith(".") and not package:
                raise ConfigurationError(
                    f'handlers="{name}" is relative, but {self.app.import_name} is in no package. '
                    "Use the module's full name."
                )
            importlib.import_module(name, package or None)

    def make_consumer(
        self,
        queues: Sequence[str] = (),
        *,
        name: str | None = None,
        limits: Limits | None = None,
        stop_timeout: float | None = None,
        on_ready: Callable[[], None] = lambda: None,
        on_stuck: Callable[[bool], None] = lambda is_stopping: None,
        concurrency: int = 1,
        seats: Sequence[Seat] = (),
        voice: Voice | None = None,
        on_left: Callable[[float], None] = lambda seconds: None,
    ) -> Consumer:
        """Make a consumer; its handlers are imported already.

        :raises ConfigurationError: If there is nothing to consume.
        """
        registry, config = self.registry, self.config
        answer = min(_MARGIN, config.lease / 3)
        name = check_consumer_name(name)
        pool = self.make_pool(config, answer, name)
        blocking_pool = self.make_pool(config, answer + 1.0, name)

        return Consumer(
            Broker(pool, config),
            blocking_pool,
            partial(self._make_processor, registry),
            registry.queues_to_read(queues),
            name,
            limits or Limits(),
            config.stop_timeout if stop_timeout is None else stop_timeout,
            self.app,
            on_ready,
            on_stuck,
            concurrency,
            seats,
            voice,
            on_left,
        )

    def _make_processor(
        self, registry: Registry, guard: Guard, is_to_blame: Callable[[Message], bool]
    ) -> Processor:
        app = self.app
        return Processor(
            registry, lambda message: MessageContext(app, message), app, guard, is_to_blame
        )

    @property
    def _client_name(self) -> str:
        return re.sub(r"[^\x21-\x7e]", "-", self.app.name)

    def _package(self) -> str:
        module = sys.modules.get(self.app.import_name)
        if module is not None and hasattr(module, "__path__"):
            return self.app.import_name
        return self.app.import_name.rpartition(".")[0]


def check_consumer_name(name: str | None) -> str:
    """Make or check the name of a consumer.

    :param name: What the user wants; ``None``: the host's name and the process id.
    :return: The name.
    :raises ValueError: If it has other characters than letters, digits, ``.``, ``_`` and ``-``.
    """
    if name is None:
        host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()) or "host"
        return f"{host[:80]}-{os.getpid()}"
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name, re.ASCII):
        raise ValueError(
            f"The consumer name is {name!r}. Use 1 to 100 letters, digits, '.', '_' or '-'."
        )
    return name


def state_of(app: Flask) -> AppState:
    """Find the queue of an app.

    :raises ConfigurationError: If it has none.
    """
    found = app.extensions.get(EXTENSION)
    if not isinstance(found, AppState):
        raise ConfigurationError(
            f'App "{app.name}" has no RedisQueue. Add RedisQueue(app), or queue.init_app(app) in '
            "create_app()."
        )
    return found


def current_state() -> AppState:
    """Find the queue of the current app.

    :raises ConfigurationError: If there is no app context, or the app has no queue.
    """
    if not current_app:
        raise ConfigurationError(
            "There is no app context here. Put it into `with app.app_context():`."
        )
    return state_of(current_app._get_current_object())  # type: ignore[attr-defined]
