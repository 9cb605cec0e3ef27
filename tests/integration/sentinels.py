"""A master, its replica, and the sentinels that watch them."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Any

import redis

from flask_redis_queue.server import WATCH

from ..conftest import eventually
from ..servers import Port, RealServer, default_binary


class Sentinels:
    """A master, its replica, and three sentinels that watch them."""

    def __init__(self, folder: Path, password: str = "s3cret") -> None:
        self.folder, self.password = folder, password
        self.nodes = [
            RealServer(self._folder(f"node{n}"), appendonly="no", save="") for n in (0, 1)
        ]
        self._held = [Port() for _ in range(3)]
        self.ports = [port.number for port in self._held]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self._patience = 0

    @property
    def url(self) -> str:
        """:return: What an app is given."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://:{self.password}@{hosts}/mymaster"

    def start(self) -> None:
        """Start all and wait until each sentinel knows all others."""
        master, replica = self.nodes
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            client = node.client()
            client.config_set("masterauth", self.password)
            if node is replica:
                client.replicaof("127.0.0.1", str(master.port))
            client.config_set("repl-diskless-sync-delay", "0")
            client.config_set("requirepass", self.password)
        eventually(
            lambda: self.client(replica).info("replication").get("master_link_status") == "up",
            "the replica follows",
        )
        for port in self.ports:
            self.start_sentinel(port)
        eventually(lambda: all(self._sees_all(port) for port in self.ports), "sentinels have met")

    def start_sentinel(self, port: int) -> None:
        """Start one sentinel."""
        folder = self._folder(f"sentinel{port}")
        file = folder / "sentinel.conf"
        if not file.exists():
            file.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
                f"sentinel monitor mymaster 127.0.0.1 {self.nodes[0].port} 2\n"
                # A machine that stands still is no master that is down.
                "sentinel down-after-milliseconds mymaster 60000\n"
                "sentinel failover-timeout mymaster 3000\n"
                f"sentinel auth-pass mymaster {self.password}\n"
            )
        with (folder / "log").open("ab") as log:
            self.processes[port] = subprocess.Popen(
                ["/bin/sh", "-c", WATCH, str(default_binary()), str(file), "--sentinel"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def stop_sentinel(self, port: int) -> None:
        """Kill one sentinel."""
        process = self.processes.pop(port)
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()

    def client(self, node: RealServer) -> redis.Redis:
        """:return: A client for looking at a data node."""
        return redis.Redis(port=node.port, password=self.password, socket_timeout=5)

    def hurry(self) -> None:
        """Have a master that is gone taken for down soon.

        A sentinel that finds time to have leapt does nothing for 30 s (TILT). After that no replica
        is fresh enough for a short patience, so that it stays long.
        """
        for port in self.ports:
            with redis.Redis(port=port, socket_timeout=5) as one:
                tilted = one.info("sentinel")["sentinel_tilt"]
                self._patience = max(self._patience, 10_000 if tilted else 500)
                one.sentinel_set("mymaster", "down-after-milliseconds", self._patience)

    def master(self) -> RealServer:
        """:return: The node that is the master now."""
        return next(n for n in self.nodes if self.client(n).info("replication")["role"] == "master")

    def stop(self) -> None:
        """Kill all."""
        for port in list(self.processes):
            self.stop_sentinel(port)
        for node in self.nodes:
            node.kill()

    def _sees_all(self, port: int) -> bool:
        with contextlib.suppress(redis.RedisError, KeyError):
            with redis.Redis(port=port, socket_timeout=5) as one:
                state: Any = one.sentinel_masters()
            seen = state["mymaster"]
            return (seen["num-other-sentinels"], seen["num-slaves"]) == (2, 1)
        return False

    def _folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder
