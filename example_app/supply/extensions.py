"""The extension objects of the supply service."""

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase

from flask_redis_queue import RedisQueue

from .. import contracts


class Base(DeclarativeBase):
    """The base of this service's models."""


db = SQLAlchemy(model_class=Base)
queue = RedisQueue(contracts=contracts)
