"""What many commands share: where the configuration and the data are."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from transom.settings import Settings, load


def add_location(parser: argparse.ArgumentParser) -> None:
    """Add `--config` and `--data`."""
    parser.add_argument(
        "--config",
        type=Path,
        default=os.environ.get("TRANSOM_CONFIG"),
        metavar="FILE",
        help="configuration file (TOML); default: $TRANSOM_CONFIG, else built-in defaults",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("TRANSOM_DATA"),
        metavar="DIR",
        help="data folder; default: $TRANSOM_DATA, else `data` of the file, else ./data",
    )


def settings_of(args: argparse.Namespace, flags: dict[str, object] | None = None) -> Settings:
    """The settings that the arguments lead to. Raises ConfigurationError."""
    config = Path(args.config) if args.config else None
    data = Path(args.data) if args.data else None
    return load(config, data, os.environ, flags)
