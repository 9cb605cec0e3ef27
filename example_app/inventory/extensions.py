"""The extension objects of the inventory service."""

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase

from flask_redis_queue import RedisQueue


class Base(DeclarativeBase):
    """The base of this service's models."""


db = SQLAlchemy(model_class=Base)
queue = RedisQueue(handlers=".handlers")
