"""What the supply service records."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import DateTime, String
from sqlalchemy.orm import Mapped, mapped_column

from .extensions import Base


class SupplyTransaction(Base):
    """One delivery of goods."""

    __tablename__ = "supply_transaction"

    id: Mapped[int] = mapped_column(primary_key=True)
    product_code: Mapped[str] = mapped_column(String(64))
    warehouse_name: Mapped[str] = mapped_column(String(64))
    quantity: Mapped[int]
    supplier_name: Mapped[str] = mapped_column(String(128))
    note: Mapped[str] = mapped_column(String(500), default="")
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), default=lambda: datetime.now(UTC)
    )
