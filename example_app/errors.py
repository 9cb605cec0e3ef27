"""Errors as JSON, the same in both services."""

from __future__ import annotations

from flask import Flask, json
from flask.typing import ResponseReturnValue
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException

from flask_redis_queue import QueueFull, QueueUnavailable


def init_errors(app: Flask) -> None:
    """Register the handlers.

    :param app: The app.
    """
    app.register_error_handler(ValidationError, _invalid)  # a refused message is one, too
    app.register_error_handler(QueueUnavailable, _unavailable)
    app.register_error_handler(QueueFull, _unavailable)
    app.register_error_handler(HTTPException, _http)


def _invalid(error: ValidationError) -> ResponseReturnValue:
    return {"errors": error.messages}, 400


def _unavailable(error: QueueUnavailable | QueueFull) -> ResponseReturnValue:
    return {"error": str(error)}, 503, {"Retry-After": "5"}


def _http(error: HTTPException) -> ResponseReturnValue:
    response = error.get_response()  # with its own headers, such as Allow
    response.data = json.dumps({"error": error.description})
    response.content_type = "application/json"
    return response
