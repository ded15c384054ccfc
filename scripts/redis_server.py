"""A Redis server of one's own on a free port of this machine, to be killed and started again."""

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import redis

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
MISSING = "there is no redis-server here: apt-get install redis-server"


class Server:
    """Keeps its data in a folder, and what it acknowledges on the disk unless ``options`` say otherwise."""

    def __init__(self, folder: Path, *options: str) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.folder, self._options = folder, options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        assert PROGRAM is not None
        words = [PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        words += ["--save", "", "--appendonly", "yes", "--appendfsync", "always", *self._options]
        # A limit on the size of files is then an error to it, as a full disk is, and not its end.
        self._process = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, restore_signals=False
        )
        until = time.monotonic() + 20
        with redis.Redis(port=self.port) as client:
            while time.monotonic() < until:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:  # while it starts, and while it loads
                    time.sleep(0.01)
        raise TimeoutError(f"no Redis server on port {self.port} after 20 s")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends it, by default as a power cut would."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(20)
            self._process = None
