"""Where a number came from: fingerprints of inputs, versions of software, the machine in words."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

_RECORDED = ("whence", "torch", "numpy", "zarr", "xarray", "scikit-learn")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on (absent packages are left out)."""
    found = {"python": platform.python_version()}
    for name in _RECORDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """The machine in words that matter for timings: usable cores, architecture and model of the processor
    (None where the system does not tell), what multiplies bfloat16 matrices on it ("AMX", "AVX-512" or None),
    accelerator names."""
    import torch

    about = _processor()
    model = re.search(r"^model name\s*:\s*(.+)$", about, re.MULTILINE)
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cores": usable_cores(),
        "architecture": platform.machine(),
        "processor": model[1].strip() if model else None,
        "system": platform.system(),
        "bfloat16": "AMX" if "amx_bf16" in about else "AVX-512" if "avx512_bf16" in about else None,
        "gpus": gpus,
    }


def _processor() -> str:
    """What Linux says of the processor; nothing elsewhere."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def usable_cores() -> int:
    """Number of cores this process may run on (affinity-aware where the system tells)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def fingerprint(value: Any) -> str:
    """SHA-256 (hex) of nested dicts, lists, scalars, arrays and tensors; equal content gives equal
    fingerprints.

    Arrays contribute dtype, shape and bytes, so a copy has the fingerprint of its original and a changed
    element does not. Anything else must be JSON-able.
    """
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    if hasattr(type(value), "detach"):  # a torch tensor, without importing torch here
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        _token(digest, f"array {value.dtype.str} {value.shape}")
        if value.dtype == object:
            _token(digest, repr(value.tolist()))
        else:  # as many bytes as the token before says
            digest.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
    elif isinstance(value, dict):
        _token(digest, f"dict {len(value)}")
        for key in sorted(value, key=str):
            _token(digest, f"key {key!s}")
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        _token(digest, f"list {len(value)}")
        for item in value:
            _feed(digest, item)
    elif isinstance(value, np.generic):
        _feed(digest, value.item())
    else:
        _token(digest, json.dumps(value, sort_keys=True))


def _token(digest: Any, text: str) -> None:
    """Text with its length before it, or [1, 12] and [11, 2] would look the same."""
    content = text.encode()
    digest.update(f"{len(content)}:".encode() + content)
