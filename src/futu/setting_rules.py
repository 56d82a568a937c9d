"""What single settings may be; each refusal says what is allowed."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable

from pydantic import field_validator
from pydantic_settings import BaseSettings

from futu.models.spec import Question, with_similar

MIN_TOKEN_CHARS = 16


class CheckedSettings(BaseSettings):
    """The rules, by the names of the fields that ``futu.config.Settings`` has."""

    @field_validator("image_roots", mode="before", check_fields=False)
    @classmethod
    def _split_roots(cls, value: object) -> object:
        return tuple(value.split(os.pathsep)) if isinstance(value, str) else value

    @field_validator(
        "questions",
        "keep_rules",
        "trusted_proxies",
        "cors_origins",
        mode="before",
        check_fields=False,
    )
    @classmethod
    def _split_commas(cls, value: object) -> object:
        parts = value.split(",") if isinstance(value, str) else value
        return [str(part).strip() for part in parts] if isinstance(parts, Iterable) else parts

    @field_validator("trusted_proxies", check_fields=False)
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for part in value:
            ipaddress.ip_network(part, strict=False)
        return value

    @field_validator("cors_origins", check_fields=False)
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for part in value:
            if not re.fullmatch(r"https?://[^/*]+", part):
                raise ValueError("each must be like http://localhost:19197, without a path")
        return value

    @field_validator("api_token", "api_read_token", check_fields=False)
    @classmethod
    def _long_enough(cls, value: str) -> str:
        if value and (len(value) < MIN_TOKEN_CHARS or not value.isascii() or " " in value):
            raise ValueError(
                f"must have {MIN_TOKEN_CHARS} or more ASCII characters without spaces; "
                "'futu token --new' makes one"
            )
        return value

    @field_validator("questions", check_fields=False)
    @classmethod
    def _similar_first(cls, value: tuple[Question, ...]) -> tuple[Question, ...]:
        return with_similar(value)

    @field_validator(
        *("runtime", "device", "precision", "watch_mode", "log_format"),
        mode="before",
        check_fields=False,
    )
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("log_level", mode="before", check_fields=False)
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("redis_url", check_fields=False)
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        if value and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return value

    @field_validator("database_url", check_fields=False)
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value and not re.match(r"(postgres|postgresql|sqlite)(\+\w+)?://", value):
            raise ValueError("must begin with postgresql:// or sqlite:///")
        return value

    @field_validator("index_url", check_fields=False)
    @classmethod
    def _known_index(cls, value: str) -> str:
        if not re.fullmatch(r"faiss:|milvuss?://[^/].*|(milvus-lite:)?[^:]*\.db", value):
            raise ValueError(
                "must be faiss:, milvus://HOST:PORT, milvuss://HOST:PORT (TLS) or "
                "milvus-lite:FILE.db"
            )
        return value
