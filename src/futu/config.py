"""Settings: defaults, a TOML file, the environment and the command line, in that order."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import platformdirs
from pydantic import AliasChoices, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from futu.errors import SettingsError
from futu.models.spec import Question
from futu.setting_rules import CheckedSettings
from futu.sources import SECRETS, Named, SecretFiles, alias_of, shown

SETTINGS_FILE_VARIABLE = "FUTU_SETTINGS"
DEFAULT_SETTINGS_FILE = "futu.toml"


def _seed(name: str, **facts: Any) -> Any:
    """A field whose environment variable has no prefix, as in the original description."""
    return Field(validation_alias=AliasChoices(name, f"FUTU_{name}"), **facts)


Rule = Literal["resolution", "size", "oldest", "path"]


def _models_dir() -> Path:
    return platformdirs.user_data_path("futu", appauthor=False) / "models"


class Settings(CheckedSettings):
    """All settings of controller, compute server and supervisor.

    The environment variable of a field is ``FUTU_<NAME>``, or the name given in its alias; the
    settings file uses the field names.
    """

    model_config = SettingsConfigDict(
        env_prefix="FUTU_", env_ignore_empty=True, extra="forbid", populate_by_name=True
    )

    host: str = Field("0.0.0.0", description="address the controller listens on")  # noqa: S104
    port: int = Field(19198, ge=1, le=65535, description="port the controller listens on")
    debug: bool = Field(False, description="debug mode (never in production)")
    config: Literal["development", "production"] = Field("development", description="environment")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="log level")
    log_file: Path = Field(Path("futu_backend.log"), description="log file, rotated at 10 MB")
    log_format: Literal["text", "json"] = Field(
        "text", description="lines for people, or JSON for programs"
    )
    data_dir: Path = Field(Path("data"), description="catalogue, index, socket")
    models_dir: Path = Field(default_factory=_models_dir, description="model files")
    datasets_dir: Path = Field(Path("datasets"), description="each sub-folder is a dataset")
    image_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="further folders from which pictures may be read"
    )
    auth: Literal["token", "none"] = Field(
        "token", description="none: nobody needs a token, said explicitly"
    )
    api_token: str = Field("", description="token that allows everything")
    api_read_token: str = Field("", description="token that allows looking and searching only")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="addresses or networks of proxies whose X-Forwarded-* headers count"
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="web pages of other origins that may use the API"
    )
    max_image_bytes: int = Field(100 * 1024 * 1024, ge=1, description="largest picture file, bytes")
    max_image_pixels: int = Field(200_000_000, ge=1, description="largest picture, pixels")
    similar_model: str = Field(
        "efficientnet-lite0", description="model that finds pictures that look alike"
    )
    copy_model: str = Field("sscd-distilled", description="model that tells copies")
    questions: Annotated[tuple[Question, ...], NoDecode] = Field(
        ("similar",), description="questions that new datasets answer: similar, copy"
    )
    keep_rules: Annotated[tuple[Rule, ...], NoDecode] = Field(
        ("resolution", "size", "oldest", "path"),
        description="rules that choose which duplicate is kept, the weightiest first",
    )
    runtime: Literal["auto", "openvino", "onnxruntime"] = Field(
        "auto", description="library that runs models"
    )
    device: Literal["auto", "cpu", "cuda", "tensorrt", "coreml", "directml"] = Field(
        "auto", description="processor or GPU that runs models"
    )
    precision: Literal["auto", "f32", "bf16"] = Field(
        "auto", description="numbers in which OpenVINO computes"
    )
    batch_size: int = Field(32, ge=1, le=1024, description="pictures in one library job")
    lease_s: float = Field(
        5.0, ge=0.2, le=3600, description="seconds after which a silent worker loses its jobs"
    )
    result_ttl_s: float = Field(
        600.0, ge=1, description="seconds an answer waits in Redis to be fetched"
    )
    max_deliveries: int = Field(
        3, ge=1, le=100, description="times a job is handed out before it counts as suspicious"
    )
    decode_bytes: int = Field(
        1024**3,
        ge=16 * 1024**2,
        description="memory that decoding pictures may take in a compute server, bytes",
    )
    model_idle_s: float = Field(
        600.0,
        ge=0,
        le=10**7,
        description="seconds after which an idle model is given back; 0: never",
    )
    queue_bytes: int = Field(
        256 * 1024 * 1024, ge=1024 * 1024, description="most that one job stream may hold, bytes"
    )
    max_missing_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description="share of a dataset's files that may vanish without being confirmed",
    )
    watch_mode: Literal["auto", "events", "polling"] = Field(
        "auto", description="how watched folders are watched"
    )
    watch_poll_s: float = Field(
        30.0, ge=0.2, le=86400, description="seconds between two looks at a folder that is polled"
    )
    thumbnail_bytes: int = Field(
        256 * 1024 * 1024, ge=0, description="most that kept thumbnails may take, bytes"
    )
    search_by_url: bool = Field(
        False, description="whether the controller fetches query pictures from public web addresses"
    )
    url_timeout: float = Field(
        10.0, gt=0, le=600, description="seconds for fetching a query picture"
    )
    http_threads: int = Field(16, ge=2, le=512, description="threads that serve HTTP")

    database_url: str = _seed(
        "DATABASE_URL", default="", description="database of the catalogue, instead of a file"
    )
    index_url: str = _seed(
        "INDEX_URL", default="faiss:", description="where the index is: files, or Milvus"
    )
    index_token: str = _seed(
        "INDEX_TOKEN", default="", description="user:password or key of Milvus, if not in its URL"
    )
    redis_host: str = _seed("REDIS_HOST", default="localhost", description="Redis host")
    redis_port: int = _seed("REDIS_PORT", default=6379, ge=1, le=65535, description="Redis port")
    redis_db: int = _seed("REDIS_DB", default=0, ge=0, description="Redis database number")
    redis_username: str = _seed("REDIS_USERNAME", default="", description="Redis ACL user")
    redis_password: str = _seed("REDIS_PASSWORD", default="", description="Redis password")
    redis_url: str = _seed("REDIS_URL", default="", description="Redis URL, instead of the above")
    compute_workers: int = _seed(
        "COMPUTE_WORKERS", default=2, ge=1, le=256, description="worker threads of a compute server"
    )
    feature_timeout: float = _seed(
        "FEATURE_TIMEOUT", default=30.0, gt=0, le=3600, description="seconds for one picture"
    )
    batch_feature_timeout: float = _seed(
        "BATCH_FEATURE_TIMEOUT", default=60.0, gt=0, le=3600, description="seconds for a batch"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        if self.debug and self.config == "production":
            raise ValueError(
                "--debug and --config production exclude each other: leave --debug out"
            )
        if self.api_token and self.api_token == self.api_read_token:
            raise ValueError("FUTU_API_TOKEN and FUTU_API_READ_TOKEN must differ: change one")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The command line, then the environment and the files it names, then the file."""
        toml = TomlConfigSettingsSource(settings_cls, settings_file())
        return (
            Named("command line", init_settings),
            Named("environment", env_settings),
            SecretFiles(settings_cls),
            Named(str(settings_file()), toml),
        )

    @property
    def redis_configured(self) -> bool:
        """Whether any REDIS_* setting was given, wherever it was given."""
        return any(name.startswith("redis_") for name in self.model_fields_set)

    @property
    def redis_address(self) -> str:
        """The Redis URL in force."""
        if self.redis_url:
            return self.redis_url
        user, password = quote(self.redis_username, safe=""), quote(self.redis_password, safe="")
        who = f"{user}:{password}@" if user or password else ""
        return f"redis://{who}{self.redis_host}:{self.redis_port}/{self.redis_db}"

    @property
    def roots(self) -> tuple[Path, ...]:
        """The datasets folder and all further image roots."""
        return (self.datasets_dir, *self.image_roots)

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for a child process."""
        result = {}
        for name, field in type(self).model_fields.items():
            value, variable = getattr(self, name), _variable(name, field)
            if name in self.model_fields_set and f"{variable}_FILE" not in os.environ:
                between = os.pathsep if name == "image_roots" else ","
                result[variable] = (
                    between.join(map(str, value)) if isinstance(value, tuple) else str(value)
                )
        return result


def settings_file() -> Path:
    """The settings file; it need not be there."""
    return Path(os.environ.get(SETTINGS_FILE_VARIABLE) or DEFAULT_SETTINGS_FILE)


def _variable(name: str, field: FieldInfo) -> str:
    return alias_of(field) or f"FUTU_{name.upper()}"


def variables() -> dict[str, FieldInfo]:
    """Every environment variable that is a setting, with its field."""
    return {_variable(name, field): field for name, field in Settings.model_fields.items()}


def load(**overrides: Any) -> Settings:
    """Read the settings.

    Args:
        overrides: values of the command line by field name; None means not given.

    Raises:
        SettingsError: one sentence for each wrong setting: its name, the value, what is allowed.
    """
    file = settings_file()
    if SETTINGS_FILE_VARIABLE in os.environ and not file.is_file():
        raise SettingsError(f"{SETTINGS_FILE_VARIABLE} names {file}, which is not a file.")
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = [_explain(problem, file) for problem in error.errors()]
        raise SettingsError("\n".join(lines)) from None
    except OSError as error:
        raise SettingsError(f"The settings file {file} cannot be read ({error}).") from error
    except ValueError as error:
        raise SettingsError(f"The settings file {file} is not valid TOML ({error}).") from error


def _explain(problem: Any, file: Path) -> str:
    where = str(problem["loc"][0]) if problem["loc"] else ""
    value, reason = problem["input"], str(problem["msg"]).removeprefix("Value error, ")
    by_alias = {v: n for n, v in ((n, _variable(n, f)) for n, f in Settings.model_fields.items())}
    name = by_alias.get(where.removeprefix("FUTU_"), where)
    field = Settings.model_fields.get(name)
    if problem["type"] == "extra_forbidden":
        close = difflib.get_close_matches(where, Settings.model_fields, 1)
        hint = f" Did you mean {close[0]}?" if close else ""
        return f"{file} has an unknown setting {where!r}.{hint}"
    if field is None:
        return reason[:1].upper() + reason[1:] + "."
    variable = _variable(name, field)
    value = shown(name, value) if name in SECRETS else repr(value)
    return f"{variable} ({name}, {field.description}) is {value}: {reason}."
