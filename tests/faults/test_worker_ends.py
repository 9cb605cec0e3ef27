"""How the workers of ``flask consume -p`` end, and what their supervisor makes of it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..apps import QUEUE
from ..conftest import eventually
from .helpers import FACTOR
from .test_supervised import APP, Shop

POISON = APP.replace(
    'if supplied["quantity"] == 500:',
    'if supplied["quantity"] == 1:\n        if KIND.isdigit():\n            os._exit(int(KIND))',
)
PATH = "from pathlib import Path\n"


class Started(Shop):
    """A shop that knows what it has started."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder, url)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, kind: str = "") -> subprocess.Popen[bytes]:
        """:return: A running ``flask consume``."""
        self.processes.append(super().start(*arguments, kind=kind))
        return self.processes[-1]


@pytest.fixture
def shop(tmp_path: Path, redis_url: str) -> Iterator[Shop]:
    """An app on an empty server; what a test has started ends with it."""
    started = Started(tmp_path, redis_url)
    yield started
    for process in started.processes:
        process.kill()
        process.wait()


def end(consumer: subprocess.Popen[bytes], shop: Shop) -> int:
    """:return: The exit code after SIGTERM; it must run still."""
    assert consumer.poll() is None, shop.log.read_text()
    consumer.send_signal(signal.SIGTERM)
    return consumer.wait(20)


@pytest.mark.parametrize("code", [0, 1, 2, 3, 5, 9])
def test_a_handler_that_ends_its_process(shop: Shop, code: int) -> None:
    """Whatever its exit code, and first in the queue: one dead letter, and work goes on."""
    (shop.folder / "shop.py").write_text(POISON)
    shop.send(20)
    consumer = shop.start("-p", "2", "-q", kind=str(code))
    eventually(lambda: shop.is_done() and shop.status().dead, "all is done", 40)
    assert 0 == end(consumer, shop), shop.log.read_text()
    assert dict.fromkeys(range(2, 21), 1) == dict(shop.handled())
    assert (1, 0) == (shop.status().dead, shop.status().missing)
    (bad,) = shop.app.extensions["redis_queue"].inspector.dead_letters(QUEUE)
    said = f"ended with exit code {code} while 1 handler ran on {QUEUE} (message {bad.id});"
    assert 3 == shop.log.read_text().count(said)


@pytest.mark.parametrize("code", [0, 3, 9])
def test_a_burst_goes_on_after_it(shop: Shop, code: int) -> None:
    """With --burst, too: only a worker that has left is done."""
    (shop.folder / "shop.py").write_text(POISON)
    shop.send(20)
    consumer = shop.start("-p", "2", "-b", "-q", kind=str(code))
    assert 6 == consumer.wait(40), shop.log.read_text()
    assert dict.fromkeys(range(2, 21), 1) == dict(shop.handled())
    assert (1, 0) == (shop.status().dead, shop.status().waiting)


def test_the_command_says_why_it_ends(shop: Shop) -> None:
    """An app that no worker can load, though its supervisor could."""
    text = 'if "FLASK_REDIS_QUEUE_SEAT" in os.environ:\n    sys.exit(3)\n'
    (shop.folder / "shop.py").write_text(APP + text)
    consumer = shop.start("-p", "2", "-q")
    assert 3 == consumer.wait(20), shop.log.read_text()
    line = "ended with exit code 3 before it consumed, as each would: the command ends"
    assert 1 == shop.log.read_text().count(line), shop.log.read_text()


def test_workers_that_handle_nothing_are_started_ever_more_rarely(shop: Shop) -> None:
    """Ready is not enough: who ends again and again without having handled anything has to wait."""
    text = """
from flask_redis_queue import consumer_started
@consumer_started.connect_via(app)
def end(app, **extra):
    with open("starts", "a") as starts:
        starts.write(f"{time.monotonic()}\\n")
    os._exit(1)
"""
    (shop.folder / "shop.py").write_text(APP + text)
    consumer = shop.start("-p", "2", "-q")
    starts = shop.folder / "starts"
    eventually(lambda: starts.exists() and len(starts.read_text().split()) >= 8, "starts", 30)
    moments = sorted(map(float, starts.read_text().split()))
    # Each worker: at 0, 0.2, 0.6 and 1.4 s, and what a start takes.
    assert moments[7] - moments[0] > 1.3
    assert end(consumer, shop) in (0, 1)  # 1 where one has just ended so again
    assert "started again in 0.4s" in shop.log.read_text()


@pytest.mark.parametrize("arguments", [(), ("-p", "2")])
def test_a_limit_below_the_size_of_the_app(shop: Shop, arguments: tuple[str, ...]) -> None:
    """It is said at once, no message is taken, and nothing is started again."""
    shop.send(5)
    consumer = shop.start("-q", "--max-memory", "20M", *arguments)
    assert 3 == consumer.wait(20), shop.log.read_text()
    said = shop.log.read_text()
    assert 1 == said.count("MiB before it has handled anything, and --max-memory allows 20 MiB")
    assert (5, 0, 0) == (shop.status().waiting, shop.status().dead, shop.handled().total())


def test_workers_that_are_larger_than_their_supervisor(shop: Shop) -> None:
    """What only a worker weighs is said once, too, and blames no message."""
    text = 'if "FLASK_REDIS_QUEUE_SEAT" in os.environ:\n    ballast = b"x" * 400 * 2**20\n'
    (shop.folder / "shop.py").write_text(APP + text)
    shop.send(5)
    consumer = shop.start("-p", "2", "-q", "--max-memory", "300M")
    assert 3 == consumer.wait(20), shop.log.read_text()
    assert 1 == shop.log.read_text().count("MiB before it has handled anything")
    assert (5, 0, 0) == (shop.status().waiting, shop.status().dead, shop.handled().total())


def test_a_consumer_says_that_memory_ends_it(shop: Shop) -> None:
    """Without -p, too."""
    # The handler ends when its size has been seen.
    wait = "    while 'it stops' not in Path('output').read_text():\n        time.sleep(0.01)\n"
    text = APP.replace("    log.write(", f"{wait}    log.write(").replace(
        'if supplied["quantity"] == 500:',
        'if supplied["quantity"] == 1:\n'
        '        global ballast\n        ballast = b"x" * 400 * 2**20\n    if KIND:',
    )
    (shop.folder / "shop.py").write_text(text.replace("import ctypes", PATH + "import ctypes"))
    shop.send(5)
    consumer = shop.start("-q", "--max-memory", "300M")
    assert 0 == consumer.wait(20), shop.log.read_text()
    said = shop.log.read_text()
    assert 1 == said.count("MiB, more than --max-memory 300 MiB: it stops"), said
    assert (4, 1) == (shop.status().waiting, shop.handled().total())


def children(process: subprocess.Popen[bytes]) -> list[int]:
    """:return: The workers that run now."""
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(one) for one in text.split()]


def test_a_start_that_fails_is_tried_again(shop: Shop) -> None:
    """No descriptor left for a moment: the healthy worker goes on, the other is started later."""
    consumer = shop.start("-p", "2", "-q")
    eventually(lambda: len(shop.status().consumers) == 2, "both consume", 20)
    soft, hard = resource.prlimit(consumer.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(consumer.pid, resource.RLIMIT_NOFILE, (3, hard))
    os.kill(children(consumer)[0], signal.SIGKILL)
    eventually(lambda: "could not be started" in shop.log.read_text(), "it is said", 20)
    resource.prlimit(consumer.pid, resource.RLIMIT_NOFILE, (soft, hard))
    shop.send(20)
    eventually(lambda: shop.is_done() and len(shop.status().consumers) == 2, "it is back", 20)
    assert 0 == end(consumer, shop), shop.log.read_text()
    assert "Too many open files" in shop.log.read_text()


def test_nothing_of_it_lies_in_the_folder_for_temporary_files(shop: Shop) -> None:
    """What a sweeper removes, or a killed supervisor leaves behind, is not there at all."""
    folder = shop.folder / "temporary"
    folder.mkdir()
    shop.environ["TMPDIR"] = str(folder)
    consumer = shop.start("-p", "2", "-q")
    eventually(lambda: len(shop.status().consumers) == 2, "both consume", 20)
    assert [] == list(folder.iterdir())
    for pid in children(consumer):
        os.kill(pid, signal.SIGKILL)
    shop.send(20)
    eventually(lambda: shop.is_done() and len(shop.status().consumers) == 2, "they are back", 20)
    assert 0 == end(consumer, shop), shop.log.read_text()
    assert dict.fromkeys(range(1, 21), 1) == dict(shop.handled())


HANGING = """
def hang(seconds):
    with open("hangs", "a") as hangs:
        hangs.write("x")
    time.sleep(seconds)
"""
HANGS = {
    "receiver": """
from flask_redis_queue import message_handled
@message_handled.connect_via(app)
def tell(app, **extra):
    hang(600)
""",
    "farewell": """
from flask_redis_queue import consumer_stopped
@consumer_stopped.connect_via(app)
def tell(app, **extra):
    hang(600)
""",
    "executor": """
import asyncio
@queue.handler(queue="slow", retry=1, timeout="300ms")
async def wait(payload):
    await asyncio.to_thread(hang, 60)
""",
    "thread": """
import threading
@queue.handler(queue="slow")
def start(payload):
    threading.Thread(target=hang, args=(60,)).start()
""",
}


@pytest.mark.parametrize("kind", list(HANGS))
@pytest.mark.parametrize("arguments", [(), ("-p", "2")])
def test_a_stop_takes_no_longer_than_it_may(
    shop: Shop, kind: str, arguments: tuple[str, ...]
) -> None:
    """Whatever hangs where no handler can be interrupted: it leaves Redis and ends, with 7."""
    (shop.folder / "shop.py").write_text(APP + HANGING + HANGS[kind])
    shop.send(1)
    with shop.app.app_context():
        shop.queue.send({"n": 1}, queue="slow")
    consumer = shop.start("--stop-timeout", "1s", *arguments)
    inspector = shop.app.extensions["redis_queue"].inspector
    eventually(lambda: "ready in" in shop.log.read_text(), "it is ready", 20)
    if kind != "farewell":  # which hangs when it is stopped
        eventually(lambda: (shop.folder / "hangs").exists(), "it hangs", 20)
    consumer.send_signal(signal.SIGTERM)
    assert 7 == consumer.wait(1 + 2 * 2 + 2 * FACTOR), shop.log.read_text()
    for name in (QUEUE, "slow"):
        assert ([], 0) == (inspector.status(name).consumers, inspector.status(name).held)


def test_a_worker_that_has_left_and_does_not_end_is_replaced(shop: Shop) -> None:
    """A thread that a handler left behind holds up nobody."""
    text = APP.replace(
        "    log.write(",
        "    import threading\n"
        "    threading.Thread(target=time.sleep, args=(60,)).start()\n    log.write(",
    )
    (shop.folder / "shop.py").write_text(text)
    shop.send(4)
    consumer = shop.start("-p", "2", "-q", "--max-messages", "1")
    eventually(shop.is_done, "all is done", 40)
    assert dict.fromkeys(range(1, 5), 1) == dict(shop.handled())
    said = "worker 1 has left and does not end: killed"
    eventually(lambda: said in shop.log.read_text(), "it is said", 20)
    consumer.send_signal(signal.SIGTERM)
    consumer.wait(40)


def test_a_child_of_a_handler_can_be_terminated(shop: Shop) -> None:
    """A forked process takes SIGTERM as any other does, not as a consumer."""
    text = APP.replace("    log.write(", FORKS + "    log.write(")
    (shop.folder / "shop.py").write_text(text)
    shop.send(1)
    consumer = shop.start("-q")
    eventually(shop.is_done, "the message is handled", 20)
    assert 0 == end(consumer, shop), shop.log.read_text()
    assert (0, 1) == (shop.status().dead, shop.handled().total())


FORKS = """
    import multiprocessing
    hears, tells = os.pipe()
    live = lambda: (os.write(tells, b"x"), time.sleep(60))
    child = multiprocessing.get_context("fork").Process(target=live)
    child.start()
    os.read(hears, 1)
    child.terminate()
    child.join(20)
    code = child.exitcode
    child.kill()
    assert code == -signal.SIGTERM, code
"""
