"""Where settings come from: sources by field name, secrets in files, what is in force and why."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from futu.errors import SettingsError

SECRETS = (
    "api_token",
    "api_read_token",
    "redis_password",
    "redis_url",
    "database_url",
    "index_url",
    "index_token",
)
"""Settings that are, or may hold, a secret: each may come from a file named by <VARIABLE>_FILE."""

_OTHER_VARIABLES = ("FUTU_SETTINGS", "FUTU_SERVER", "FUTU_PYTHON", "FUTU_STOP_FILE")
_MOST_SECRET_BYTES = 64 * 1024


def alias_of(field: FieldInfo) -> str | None:
    """The environment variable of a field that has one without our prefix."""
    alias = field.validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else None


class Named(PydanticBaseSettingsSource):
    """A source whose values come by field name, so that a weightier source replaces them.

    Args:
        origin: what to call it.
        source: the source itself.
    """

    def __init__(self, origin: str, source: PydanticBaseSettingsSource) -> None:
        super().__init__(source.settings_cls)
        self.origin = origin
        self._source = source

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """As the base class wants it."""
        return self._source.get_field_value(field, field_name)

    def __call__(self) -> dict[str, Any]:
        """Field name -> value; unknown names as they are."""
        names = {
            alias: name
            for name, field in self.settings_cls.model_fields.items()
            if (known := alias_of(field)) is not None
            for alias in (known, f"FUTU_{known}")
        }
        return {names.get(key, key): value for key, value in self._source().items()}


class SecretFiles(PydanticBaseSettingsSource):
    """Secrets in files that the environment names: ``REDIS_PASSWORD_FILE`` and the like."""

    origin = "secret file"

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The content of the file, or None."""
        variable = alias_of(field) or f"FUTU_{field_name.upper()}"
        path = os.environ.get(f"{variable}_FILE")
        if field_name not in SECRETS or not path:
            return None, field_name, False
        if os.environ.get(variable):
            raise SettingsError(
                f"{variable} and {variable}_FILE are both set. Leave one of them out."
            )
        return _read(path, f"{variable}_FILE"), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Field name -> content, without the line's end.

        Raises:
            SettingsError: a file cannot be read or is empty, or the secret is given twice.
        """
        found = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in found.items() if value is not None}


def _read(path: str, variable: str) -> str:
    try:
        with open(path, "rb") as file:
            text = file.read(_MOST_SECRET_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SettingsError(f"{variable} names {path}, which cannot be read ({reason}).") from error
    if not text:
        raise SettingsError(f"{variable} names {path}, which is empty. Put the secret into it.")
    return text


def shown(name: str, value: object) -> str:
    """A value as it may be printed: without what is secret in it."""
    if name not in SECRETS or not value:
        return str(value)
    if not name.endswith("_url"):
        return "(hidden)"
    text = re.sub(r"//[^/]*@", "//***@", str(value))
    return re.sub(r"((?:password|token)=)[^&]*", r"\1***", text)


def secret_files(variables: Iterable[str], settings_file: Path) -> list[Path]:
    """The files that secrets are read from.

    Args:
        variables: the environment variables of settings.
        settings_file: one of them if a secret stands in it.
    """
    named = [os.environ.get(f"{variable}_FILE") for variable in variables]
    found = [Path(path) for path in named if path]
    try:
        text = settings_file.read_text("utf-8")
    except OSError:
        return found
    lines = [line.partition("=")[0].strip() for line in text.splitlines()]
    return [*found, settings_file] if any(name in SECRETS for name in lines) else found


def origins(settings: type[BaseSettings], given: Mapping[str, Any]) -> dict[str, str]:
    """Field name -> where its value in force comes from; left out are the defaults.

    Args:
        settings: the class.
        given: values of the command line.
    """
    found: dict[str, str] = {}
    init = _Given(settings, given)
    env = _environment(settings)
    for source in settings.settings_customise_sources(settings, init, env, env, env):
        origin = str(getattr(source, "origin", ""))
        for name in source():
            found.setdefault(name, origin)
    return found


class _Given(PydanticBaseSettingsSource):
    def __init__(self, settings_cls: type[BaseSettings], given: Mapping[str, Any]) -> None:
        super().__init__(settings_cls)
        self._given = given

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self._given.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return dict(self._given)


def _environment(settings: type[BaseSettings]) -> PydanticBaseSettingsSource:
    from pydantic_settings import EnvSettingsSource

    return EnvSettingsSource(settings)


def misspelt(variables: Iterable[str]) -> list[str]:
    """A sentence for each variable of the environment that looks like a setting and is none.

    Args:
        variables: the environment variables of settings.
    """
    known = [*variables, *_OTHER_VARIABLES]
    known += [f"{name}_FILE" for name in known]
    sentences = []
    for name in sorted(os.environ):
        if name.startswith(("FUTU_", "REDIS_", "COMPUTE_")) and name not in known:
            close = difflib.get_close_matches(name, known, 1, cutoff=0.85)
            if close:
                sentences.append(f"{name} is no setting. Did you mean {close[0]}?")
    return sentences
