"""`transom token`: the keys that sign the local identity's tokens."""

from __future__ import annotations

import argparse
import datetime as dt
import secrets

from transom.auth.local.accounts import Accounts
from transom.auth.local.identity import GRACE_SECONDS
from transom.auth.local.manage import now
from transom.cli.accounts import add_verb, show
from transom.settings import Settings


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("token", help="look after the tokens of the local identity")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    add_verb(
        verbs,
        "rotate-key",
        "sign with a new key; tokens signed with the old ones live until they expire",
        _rotate,
    )
    add_verb(verbs, "revoke-all", "let every token die at once; everybody logs in again", _revoke)


async def _rotate(args: argparse.Namespace, settings: Settings, accounts: Accounts) -> None:
    moment = now()
    # Beside a service token, a token is read for a while after its end.
    life = dt.timedelta(seconds=settings.identity.token_seconds + GRACE_SECONDS)
    number = await accounts.add_key(secrets.token_bytes(32), moment, drop_before=moment - life)
    kept = len((await accounts.basics()).keys)
    show(args, {"key": number, "keys_kept": kept})


async def _revoke(args: argparse.Namespace, _settings: Settings, accounts: Accounts) -> None:
    number = await accounts.replace_keys(secrets.token_bytes(32), now())
    show(args, {"key": number, "keys_kept": 1})
