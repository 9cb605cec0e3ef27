"""What the inventory service keeps."""

from __future__ import annotations

from sqlalchemy import BigInteger, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from .extensions import Base


class Storage(Base):
    """How much of a product lies in a warehouse."""

    __tablename__ = "storage"
    __table_args__ = (UniqueConstraint("product_code", "warehouse_name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    product_code: Mapped[str] = mapped_column(String(64))
    warehouse_name: Mapped[str] = mapped_column(String(64))
    quantity: Mapped[int] = mapped_column(BigInteger, default=0)
