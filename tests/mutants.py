"""Takes each guard of the protocol out, one at a time, and sees the named tests go red.

``make mutants``, or ``python -m tests.mutants [NAME]…`` for some of them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
_LEFT_OUT = (".venv*", ".git", ".*_cache", "*.egg-info", "__pycache__")


class Mutant(NamedTuple):
    """One guard, taken out.

    :param invariant: Of ``docs/architecture.md``.
    :param file: In the package.
    :param old: The guard.
    :param new: What stands in its place.
    :param tests: Which tests must go red, as ``-k`` has it.
    :param where: In which folder or module of ``tests`` they are.
    :param nth: Which of the places that read like ``old``, counted from 0.
    """

    invariant: int
    file: str
    old: str
    new: str
    tests: str
    where: str = "integration"
    nth: int = 0


_TURN, _COMMON = "lua/turn.lua", "lua/_common.lua"
_HDEL = "redis.call('HDEL', held, ARGV[i])"  # of a retry, a dead letter, a hand-back
_CLOCK, _FOUND = "faults/test_leases.py", "model/test_found.py"
MUTANTS = [
    # 1: a message is in one place
    Mutant(1, _TURN, _HDEL, "", "invariant_1"),
    Mutant(1, _TURN, _HDEL, "", "invariant_1", nth=1),
    Mutant(1, _TURN, _HDEL, "", "invariant_1", nth=2),
    Mutant(1, _TURN, "redis.call('ZREM', delayed, stored)", "", "refused_command"),
    Mutant(1, _TURN, "redis.call('ZREM', delayed, stored)", "", "invariant_1_due", nth=1),
    Mutant(
        1,
        _TURN,
        "put_dead(dead, dead_index, key, now, stored or",
        "local _ = (stored or",
        "invariant_1_what_is_too_large",
    ),
    Mutant(1, _TURN, "redis.call('RPOP', back)", "", "invariant_1"),
    Mutant(
        1,
        "lua/bury.lua",
        "redis.call('HDEL', KEYS[2], unpack(tags, i, math.min(i + 499, #tags)))",
        "",
        "invariant_1_burying",
    ),
    # … and what Redis may refuse is asked for before anything is taken away
    Mutant(1, _TURN, "redis.call('ZREM', delayed, '-')", "local _ = 0", "refused_command"),
    Mutant(
        1, "lua/bury.lua", "redis.call('ZADD', KEYS[1], 'XX'", "tonumber('0'", "refused_command"
    ),
    Mutant(1, "lua/replay.lua", "redis.call('ZREM', KEYS[2], '-')", "", "refused_command"),
    Mutant(1, "lua/discard.lua", "redis.call('ZREM', KEYS[2], '-')", "", "refused_command"),
    Mutant(
        1,
        "lua/send.lua",
        "redis.call('SET', KEYS[6], ARGV[1], 'XX', 'PX', ARGV[2])",
        "",
        "refused_command",
    ),
    Mutant(1, "lua/bury.lua", "redis.call('LPUSH', KEYS[3], stored)", "", "invariant_1_burying"),
    Mutant(1, "lua/replay.lua", "redis.call('HDEL', KEYS[1], key)", "", "invariant_1"),
    # 2: a repeated request carries its identity
    Mutant(2, "lua/send.lua", "if seen then", "if false then", "invariant_2_send"),
    Mutant(2, _TURN, "if seq == last then", "if false then", "invariant_2_a_repeated"),
    Mutant(2, _TURN, "if seq < last then return {'stale', now} end", "", "invariant_2_a_repeated"),
    Mutant(
        2,
        "subscription.py",
        "self._entering = consumer = self._entering or",
        "self._entering = consumer =",
        "cut_replies",
    ),
    Mutant(2, "lua/enter.lua", " * 1000000", " * 0", "two_late_requests", _FOUND),
    # 3: a server that forgot is noticed
    Mutant(
        3, _TURN, "if seq > last + 1 then return {'behind', now} end", "", "invariant_2_a_repeated"
    ),
    Mutant(3, "subscription.py", "self._seq + 2", "self._seq", "a_late_copy"),
    Mutant(3, "subscription.py", 'if reply.status != "ok":', "if False:", "invariant_3"),
    Mutant(3, "subscription.py", "if reply.held != expected:", "if False:", "invariant_3"),
    # 4: who lost its lease changes nothing
    Mutant(
        4,
        _TURN,
        "if not last then return {'gone', now} end",
        "if not last then last = 0 end",
        "invariant_4",
    ),
    Mutant(
        4,
        "lua/beat.lua",
        "if redis.call('HEXISTS', KEYS[2], '#') == 0 then",
        "if false then",
        "invariant_4_a_beat",
    ),
    # 5: burying
    Mutant(5, "lua/bury.lua", "if ARGV[3] == 'lapsed' and", "if false and", "invariant_5_burying"),
    Mutant(5, _TURN, "if deaths > 0 then", "if false then", "invariant_5_a_killer"),
    Mutant(5, _TURN, "if deaths > 0 then", "if false then", "travels_alone", _FOUND, nth=1),
    Mutant(5, _TURN, "ARGV[5] ~= '1'", "false", "invariant_5_a_killer_waits"),
    Mutant(5, _TURN, "#messages > 0 or ", "", "invariant_5_a_killer_waits"),
    Mutant(5, _TURN, "if alone then break end", "", "invariant_5_only"),
    Mutant(5, _TURN, "if not alone and", "if", "invariant_5_a_killer_waits"),
    Mutant(
        5,
        "lua/bury.lua",
        "elseif guilty and deaths >= tonumber(ARGV[2]) then",
        "elseif false then",
        "invariant_1_burying",
    ),
    Mutant(5, "lua/bury.lua", "ARGV[6] == 'all' or is_guilty[one[3]]", "true", "invariant_5_only"),
    Mutant(5, "lua/bury.lua", "if is_handled[one[3]] then", "if false then", "invariant_5_only"),
    # 6: a jump of the clock
    Mutant(6, _COMMON, "if own and (", "if false and (", "invariant_6"),
    Mutant(6, _COMMON, "tonumber(own) < now or", "", "jumps_and_buries", _CLOCK),
    Mutant(6, _COMMON, "or tonumber(own) > now + 2 * lease_ms + 1000", "", "invariant_6_a_clock"),
    Mutant(6, _COMMON, "or tonumber(own) > now + 2 * lease_ms + 1000", "", "one_has_died", _CLOCK),
    # 7: the ledger
    Mutant(7, _COMMON, "if length > known then", "if false then", "invariant_7"),
    # 8: bounds, and a full server
    Mutant(8, _TURN, "redis.call('HDEL', held, '-')", "", "invariant_8_a_full"),
    Mutant(
        8,
        _TURN,
        "if #body <= tonumber(ARGV[6]) then return false end",
        "if true then return false end",
        "invariant_1_what_is_too_large",
    ),
    Mutant(8, _TURN, "bytes < 1048576", "true", "invariant_8_a_turn"),
    Mutant(8, _TURN, "bytes = bytes + #body", "", "invariant_8_what_is_too_large"),
    Mutant(8, "scripts.py", "except NoScriptError:", "except ZeroDivisionError:", "script_flush"),
    # 9: a slow handler holds nobody up; no start on an old lease
    Mutant(
        9,
        "holdings.py",
        "return bool(self.ready and self.running) and",
        "return bool(self.ready and False) and",
        "invariant_9_waiting",
    ),
    Mutant(
        9,
        "subscription.py",
        "return time.monotonic() - self._renewed < self._lease",
        "return True",
        "invariant_9_nothing",
    ),
    # 10: order
    Mutant(10, _TURN, "take_listed(wake)", "", "invariant_1_settling"),
    Mutant(
        10,
        _TURN,
        "for i = first + size - 1, first, -1 do",
        "for i = first, first + size - 1 do",
        "invariant_10",
    ),
]


def survives(mutant: Mutant, folder: Path) -> bool:
    """:return: Whether the tests stay green without the guard."""
    path = folder / "flask_redis_queue" / mutant.file
    original = path.read_text()
    parts = original.split(mutant.old)
    if len(parts) < mutant.nth + 2:
        raise SystemExit(f"{mutant.file} has no {mutant.old!r}: bring this list up to date.")
    before, after = (mutant.old.join(p) for p in (parts[: mutant.nth + 1], parts[mutant.nth + 1 :]))
    path.write_text(before + mutant.new + after)
    try:
        return is_green(folder, mutant.where, mutant.tests)
    except subprocess.TimeoutExpired:
        return False
    finally:
        path.write_text(original)


def is_green(folder: Path, where: str, tests: str, patience: float = 120) -> bool:
    """:return: Whether the chosen tests of a folder or module pass."""
    command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", f"tests/{where}"]
    done = subprocess.run(
        [*command, "-k", tests],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        timeout=patience,
        text=True,
    )
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout + done.stderr)
    if "error" in done.stdout.splitlines()[-1]:
        raise SystemExit(done.stdout)
    return done.returncode == 0


def main() -> int:
    """Try each.

    :return: 1 if a guard can be taken out unnoticed.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", type=int, metavar="INVARIANT")
    only = parser.parse_args().only
    chosen = [one for one in MUTANTS if not only or one.invariant in only]
    survivors = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*_LEFT_OUT), dirs_exist_ok=True)
        for where in {one.where for one in chosen}:
            tests = {one.tests for one in chosen if one.where == where}
            if not is_green(folder, where, " or ".join(tests), patience=600):
                raise SystemExit(f"{where}: these tests are red with every guard in place.")
        for mutant in chosen:
            started = time.monotonic()
            alive = survives(mutant, folder)
            survivors += alive
            print(
                f"{'SURVIVES' if alive else 'red     '}  {mutant.invariant:>2}  {mutant.file:<16} "
                f"{mutant.old.splitlines()[0][:48]:<48} {time.monotonic() - started:5.1f}s",
                flush=True,
            )
    print(f"{len(chosen) - survivors} of {len(chosen)} guards are missed when they are gone")
    return min(survivors, 1)


if __name__ == "__main__":
    sys.exit(main())
