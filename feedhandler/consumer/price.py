"""Prices: whole numbers of 1e-9 in records, decimal text for people and JSON."""


def price_text(price: int) -> str:
    """Return a price in 1e-9 as decimal text, exactly: 4 places, or 9 where 4 do not do."""
    sign, units = ("-", -price) if price < 0 else ("", price)
    whole, rest = divmod(units, 1_000_000_000)
    return f"{sign}{whole}.{rest:09d}" if rest % 100_000 else f"{sign}{whole}.{rest // 100_000:04d}"
