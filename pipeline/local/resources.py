"""Where the files under infra/ are: beside the package in a checkout, inside it once it is installed."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def infra(*parts: str) -> Path:
    """The path of a file under infra/."""
    installed = _PACKAGE / "resources" / "infra"
    return (installed if installed.is_dir() else _PACKAGE.parent / "infra").joinpath(*parts)
