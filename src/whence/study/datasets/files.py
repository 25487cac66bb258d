"""Where data files lie: find them in a data folder or the cache, else fetch them; check what they hold.

Files are looked for in `root`, else in the folder that the environment variable WHENCE_DATA names, then in
the cache. What is missing is fetched into the cache; the data folder is never written to.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from whence.errors import InputError

VARIABLE = "WHENCE_DATA"
PATIENCE_S = 20  # seconds without an answer from a server before it counts as out of reach


def cache_folder() -> Path:
    """Where fetched files are kept, for example ~/.cache/whence."""
    import pooch

    return Path(pooch.os_cache("whence"))


def data_folders(root: str | os.PathLike[str] | None) -> list[Path]:
    """The folders to look in, in order: `root`, else $WHENCE_DATA, then the cache.

    A `root` that is not a folder is an InputError: a mistyped path should not start a download.
    """
    argument, folder = ("root", root) if root is not None else (f"${VARIABLE}", os.environ.get(VARIABLE))
    folders = []
    if folder:
        if not Path(folder).is_dir():
            raise InputError(
                f"{argument} is {os.fspath(folder)!r}, which is not a folder; name the data's folder."
            )
        folders.append(Path(folder))
    return [*folders, cache_folder()]


def find(folders: Iterable[Path], places: Sequence[str]) -> Path | None:
    """The first of `places` (paths relative to a folder) that exists in one of `folders`."""
    for folder in folders:
        for place in places:
            if (folder / place).is_file():
                return folder / place
    return None


def fetch(name: str, url: str, md5: str, folders: Sequence[Path]) -> Path:
    """Download `url` into the cache and check it; InputError says where it looked and what would do."""
    import pooch
    from pooch.downloaders import HTTPDownloader

    pooch.get_logger().setLevel("WARNING")
    file = url.rsplit("/", 1)[-1]
    try:
        return Path(
            pooch.retrieve(
                url,
                known_hash=f"md5:{md5}",
                fname=file,
                path=cache_folder() / name,
                downloader=HTTPDownloader(timeout=PATIENCE_S),
            )
        )
    except ValueError as problem:  # pooch's word for a wrong checksum; it has removed what it got
        raise InputError(
            f"{file}, fetched from {url}, does not have the expected md5 {md5} ({_last_words(problem)}); try "
            f"again or put a good copy into a folder and name it as root or ${VARIABLE}."
        ) from None
    except OSError as problem:
        looked = " and ".join(str(folder) for folder in folders)
        raise InputError(
            f"{name} was not found in {looked} and could not be fetched from {url} "
            f"({type(problem).__name__}); put {file} into a folder and name it as root or ${VARIABLE}."
        ) from None


def check(path: Path | str, content: bytes | memoryview, md5: str) -> None:
    """InputError unless the (unpacked) content of `path` has this md5."""
    received = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if received != md5:
        raise InputError(
            f"{path} holds data with md5 {received}, but the published file has {md5}; it is damaged or "
            "another file, replace it."
        )


def _last_words(problem: Exception) -> str:
    return " ".join(str(problem).split())[:200].rstrip(".")
