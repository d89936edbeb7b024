"""Aliases: other names of collections, switched together at one moment."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from api.wire.base import Wire, exactly_one
from vss.errors import Code, VssError
from vss.storage.catalog import AliasAction, CreateAlias, DeleteAlias, RenameAlias

MAX_ACTIONS = 1_000
"""Actions in one request."""


class CreateAliasWire(Wire):
    """Let an alias stand for a collection; where it stood for another one, it is moved."""

    collection_name: str
    alias_name: str


class DeleteAliasWire(Wire):
    """Forget an alias."""

    alias_name: str


class RenameAliasWire(Wire):
    """Let another name stand for what an alias stands for."""

    old_alias_name: str
    new_alias_name: str


class AliasActionWire(Wire):
    """Exactly one action."""

    create_alias: CreateAliasWire | None = None
    delete_alias: DeleteAliasWire | None = None
    rename_alias: RenameAliasWire | None = None


class AliasActionsWire(Wire):
    """`POST /collections/aliases`: all of the actions or none, at one moment for every reader."""

    actions: list[AliasActionWire]


class AliasReply(msgspec.Struct, kw_only=True):
    """An alias and its collection."""

    alias_name: str
    collection_name: str


class AliasesReply(msgspec.Struct, kw_only=True):
    """Aliases, by name."""

    aliases: list[AliasReply]


def read_actions(wire: AliasActionsWire) -> list[AliasAction]:
    """The actions. VssError: INVALID, TOO_LARGE."""
    if len(wire.actions) > MAX_ACTIONS:
        raise VssError(
            Code.TOO_LARGE, f"got {len(wire.actions)} actions, wanted at most {MAX_ACTIONS}", field="actions"
        )
    return [_action(one, f"actions[{place}]") for place, one in enumerate(wire.actions)]


def _action(wire: AliasActionWire, where: str) -> AliasAction:
    exactly_one(wire, AliasActionWire.__struct_fields__, where)
    if wire.create_alias is not None:
        return CreateAlias(wire.create_alias.alias_name, wire.create_alias.collection_name)
    if wire.delete_alias is not None:
        return DeleteAlias(wire.delete_alias.alias_name)
    assert wire.rename_alias is not None
    return RenameAlias(wire.rename_alias.old_alias_name, wire.rename_alias.new_alias_name)


def show_aliases(aliases: Mapping[str, str], collection: str | None = None) -> AliasesReply:
    """All aliases, or those of one collection."""
    return AliasesReply(
        aliases=[
            AliasReply(alias_name=alias, collection_name=name)
            for alias, name in sorted(aliases.items())
            if collection in (None, name)
        ]
    )
