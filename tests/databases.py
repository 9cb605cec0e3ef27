"""Real database servers for tests, each on a folder of its own, reached by a Unix socket only."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, ClassVar
from urllib.parse import quote

from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

from flask_redis_queue.server import WATCH

from .conftest import eventually


def _path() -> str:
    # Debian's PostgreSQL is on nobody's PATH, and sbin is not on everybody's.
    folders = map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    return os.pathsep.join([*folders, os.environ.get("PATH", os.defpath), "/usr/sbin"])


def _other_user(names: Sequence[str]) -> pwd.struct_passwd | None:
    # PostgreSQL refuses to run as root, and MariaDB wants to be told twice.
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next((known[name] for name in names if name in known), None)


class DatabaseServer:
    """A server that a test starts; it ends with the test, also when the test run is killed."""

    name: ClassVar[str]
    programs: ClassVar[tuple[str, str]]  # what makes its files, and the server
    packages: ClassVar[tuple[str, str]]  # Debian's name for it, PyPI's for its driver
    driver: ClassVar[str]
    users: ClassVar[tuple[str, ...]]
    admin: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    listens: ClassVar[str]  # the name of its socket
    locked: ClassVar[str]  # how many transactions wait for a lock
    created: ClassVar[str] = ""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        # The other user must get in, which the folders of pytest forbid, and a socket's path must
        # be short, which TMPDIR need not be.
        self.folder = Path(tempfile.mkdtemp(prefix="redis-queue-database-", dir="/tmp"))
        self._as: dict[str, Any] = {}
        if user := _other_user(self.users):
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    @classmethod
    def missing(cls) -> str:
        """:return: What is not here, as a sentence; ``""``: all is."""
        lacking = [name for name in cls.programs if shutil.which(name, path=_path()) is None]
        if importlib.util.find_spec(cls.driver) is None:
            lacking.append(cls.driver)
        packages = "apt-get install {}, pip install {}".format(*cls.packages)
        return f"no {' and no '.join(lacking)} here: {packages}" if lacking else ""

    def url(self, database: str) -> str:
        """:return: What to put into ``DATABASE_URL``."""
        raise NotImplementedError

    def create(self, database: str) -> str:
        """:return: The URL of a new, empty database."""
        self.query(f"CREATE DATABASE {database} {self.created}")
        return self.url(database)

    def waiting(self) -> int:
        """:return: How many transactions wait for a lock."""
        return int(self.query(self.locked)[0][0])

    def query(self, statement: str) -> Sequence[Any]:
        """:return: The rows of a statement that the administrator runs."""
        url = self.url(self.admin)
        engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            result = connection.execute(text(statement))
            return result.all() if result.returns_rows else []

    def __enter__(self) -> DatabaseServer:
        try:
            with self._log() as out:
                installed = subprocess.run([self._program(0), *self._files()], **self._common(out))
            assert 0 == installed.returncode, (self.folder / "log").read_text()[-2000:]
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Start it, on the files that it has."""
        with self._log() as out:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", WATCH, self._program(1), *self._settings()],
                stdin=subprocess.PIPE,
                **self._common(out),
            )
        eventually(self._answers, f"{self.name} answers")

    def stop(self) -> None:
        """Stop it, with its clients in the midst of whatever they do."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdin.close()
        self._process = None

    def _program(self, number: int) -> str:
        return str(shutil.which(self.programs[number], path=_path()))

    def _log(self) -> IO[bytes]:
        return (self.folder / "log").open("ab")

    def _common(self, out: IO[bytes]) -> dict[str, Any]:
        return {"stdout": out, "stderr": out, "cwd": self.folder, **self._as}

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
        try:
            # PyMySQL leaves a socket open that found nobody, so it is asked when somebody listens.
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.folder / self.listens))
            return bool(self.query("SELECT 1"))
        except (OSError, OperationalError):
            return False

    def _files(self) -> list[str]:
        raise NotImplementedError

    def _settings(self) -> list[str]:
        raise NotImplementedError


class PostgreSQL(DatabaseServer):
    """PostgreSQL, with nothing on disk that would have to survive a crash."""

    name = "postgresql"
    programs = ("initdb", "postgres")
    packages = ("postgresql", "'psycopg[binary]'")
    driver = "psycopg"
    users = ("postgres", "nobody")
    admin = "postgres"
    listens = ".s.PGSQL.5432"
    stop_signal = signal.SIGINT  # SIGTERM would wait for the clients
    locked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

    def url(self, database: str) -> str:
        """:return: What to put into ``DATABASE_URL``."""
        return f"postgresql+psycopg://example@/{database}?host={quote(str(self.folder))}"

    def _files(self) -> list[str]:
        data = str(self.folder / "data")
        return ["-D", data, "-U", "example", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]

    def _settings(self) -> list[str]:
        lines = ["listen_addresses=", f"unix_socket_directories={self.folder}", "fsync=off"]
        options = [part for line in lines for part in ("-c", line)]
        return ["-D", str(self.folder / "data"), *options]


class MariaDB(DatabaseServer):
    """MariaDB; the machine's own configuration is left out."""

    name = "mariadb"
    programs = ("mariadb-install-db", "mariadbd")
    packages = ("mariadb-server", "PyMySQL")
    driver = "pymysql"
    users = ("mysql", "nobody")
    admin = "mysql"
    listens = "socket"
    stop_signal = signal.SIGTERM
    # The table of transactions would not do: it stays as it was while it is read often.
    locked = (
        "SELECT variable_value FROM information_schema.global_status"
        " WHERE variable_name = 'Innodb_row_lock_current_waits'"
    )
    # With the default collation two products that differ by case only would be one.
    created = "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"

    def url(self, database: str) -> str:
        """:return: What to put into ``DATABASE_URL``."""
        path = quote(str(self.folder / self.listens))
        return f"mysql+pymysql://root@localhost/{database}?unix_socket={path}"

    def _files(self) -> list[str]:
        root = "--auth-root-authentication-method=normal"
        return ["--no-defaults", f"--datadir={self.folder / 'data'}", root, "--skip-test-db"]

    def _settings(self) -> list[str]:
        return [
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            f"--socket={self.folder / self.listens}",
            f"--pid-file={self.folder / 'pid'}",
            "--skip-networking",
            "--innodb-flush-log-at-trx-commit=0",
        ]
