"""The inventory service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask

from ..database import init_database
from ..errors import init_errors
from . import models as models  # its tables must be known before they are created
from .extensions import db, queue
from .views import bp


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Make the app.

    :param config: What overrides the environment.
    :return: The app.
    """
    app = Flask(__name__, instance_relative_config=True)
    app.config.from_mapping(config or {})
    init_database(app, db, "inventory.sqlite")
    queue.init_app(app)
    init_errors(app)
    app.register_blueprint(bp)
    return app
