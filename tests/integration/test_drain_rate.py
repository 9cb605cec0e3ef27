"""The rate of one consumer beside the loop that people write by hand, in the same run."""

from __future__ import annotations

import redis

from benchmarks.drain import bare, ours


def test_three_times_the_bare_loop(redis_url: str) -> None:
    """50,000 messages are drained at three times the rate of BRPOP + json.loads + Schema.load."""
    loop = bare(redis.Redis.from_url(redis_url), 5_000)
    _, _, drained = ours(redis_url, 50_000)
    print(f"bare loop {loop:,.0f}/s, flask consume {drained:,.0f}/s: {drained / loop:.1f} x")
    assert drained >= 3 * loop
