"""What both services do with their own database."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from marshmallow import validate
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

# PostgreSQL stores no NUL, and UTF-8 has no bytes for half of a surrogate pair; JSON has both.
storable = validate.Regexp(
    r"[^\0\ud800-\udfff]*\Z", error="Must have no NUL and no half of a surrogate pair."
)
LARGEST_INTEGER = 2**63 - 1  # of any database; Python's have no end


def init_database(app: Flask, db: SQLAlchemy, filename: str) -> None:
    """Give an app its database: ``DATABASE_URL``, or SQLite in the instance folder.

    :param app: The app.
    :param db: Its extension object.
    :param filename: Of the SQLite file.
    """
    if "SQLALCHEMY_DATABASE_URI" not in app.config:
        app.config["SQLALCHEMY_DATABASE_URI"] = os.environ.get("DATABASE_URL") or _sqlite(
            app, filename
        )
    # A database that was restarted leaves dead connections in the pool.
    app.config.setdefault("SQLALCHEMY_ENGINE_OPTIONS", {"pool_pre_ping": True})
    db.init_app(app)
    with app.app_context():
        try:
            db.create_all()
        except (OperationalError, ProgrammingError, IntegrityError):
            db.create_all()  # another process of the service made the tables in the same moment


def _sqlite(app: Flask, filename: str) -> str:
    Path(app.instance_path).mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{Path(app.instance_path, filename)}"


@event.listens_for(Engine, "connect")
def _set_up_sqlite(connection: Any, record: object) -> None:
    """Let the API read while the consumer writes, and let writers wait for one another."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA busy_timeout=10000")
        connection.execute("PRAGMA journal_mode=WAL")
