"""Claims: several processes fill one bank and mostly do not train the same block twice.

Claims are advice. A retraining is a function of its row, so two processes that train one block anyway write
the same bytes, and nothing depends on a claim being seen, being fresh or being unique."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

from whence.bank._commits import marker
from whence.bank.errors import disk_full_is_clear

STALE_SECONDS = 120.0
BEAT_SECONDS = 10.0


class Claims:
    """The blocks that this process works on, kept fresh by `beat`.

    Parameters
    ----------
    folder : the bank's ``claims`` folder.
    stale : a claim not touched for this many seconds is free, as is one whose process on this host is gone.
    """

    def __init__(self, folder: Path, stale: float = STALE_SECONDS) -> None:
        self.folder, self.stale = folder, stale
        self.mine: set[int] = set()
        self._last_beat = time.monotonic()

    def take(self, block: int) -> bool:
        """Claim `block`; False when another live process has it."""
        path = marker(self.folder, block)
        content = json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode()
        for _ in range(2):
            try:
                with disk_full_is_clear(self.folder.parent, f"the claim on block {block}"):
                    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
                    with os.fdopen(descriptor, "wb") as file:
                        file.write(content)
            except FileExistsError:
                if block in self.mine:
                    return True
                if not self._free(path):
                    return False
                path.unlink(missing_ok=True)
            else:
                self.mine.add(block)
                return True
        return False

    def release(self, block: int) -> None:
        """Give `block` up, or finish with it."""
        if block in self.mine:
            self.mine.discard(block)
            marker(self.folder, block).unlink(missing_ok=True)

    def release_all(self) -> None:
        """Give everything up."""
        for block in list(self.mine):
            self.release(block)

    def sweep(self) -> None:
        """Clear away what dead processes left; only tidiness, for their claims are free anyway."""
        for entry in os.scandir(self.folder):
            path = Path(entry.path)
            if entry.name[:-5].isdigit() and int(entry.name[:-5]) not in self.mine and self._free(path):
                path.unlink(missing_ok=True)

    def beat(self) -> None:
        """Show that this process is alive; cheap enough to call in every turn of a loop."""
        if time.monotonic() - self._last_beat < min(BEAT_SECONDS, self.stale / 4):
            return
        self._last_beat = time.monotonic()
        for block in self.mine:
            try:
                os.utime(marker(self.folder, block))
            except OSError:  # taken away as stale, or the disk is gone: advice needs no more than this
                continue

    def _free(self, path: Path) -> bool:
        try:
            age = time.time() - path.stat().st_mtime
            if age > self.stale:
                return True
            owner = json.loads(path.read_text())
        except FileNotFoundError:
            return True
        except ValueError:  # being written this moment, or its writer was killed between creating and writing
            return age > 5.0
        return owner.get("host") == socket.gethostname() and not _alive(int(owner.get("pid", 0)))


def _alive(pid: int) -> bool:
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
