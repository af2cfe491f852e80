"""The settings of one NeuroSight process.

Owns: every value an operator may set, its default, its unit and its bounds. Values come from the environment
(`NEUROSIGHT_...`) and from `var/neurosight.env`, which `make up` and `make demo` write. `load_settings()` validates
them once and returns a frozen object that is handed down.

Refuses: to be read at import time, to be changed after start, to know a secret that is committed anywhere.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from config import series_rules
from config.dicom_peers import AE_TITLE, parse_peers

ROOT = Path(__file__).resolve().parent.parent

MIB = 1024 * 1024


class SettingsError(Exception):
    """A setting is missing or out of range. The message names each one, what was received and what is expected."""


def _below(name: str) -> Callable[[dict[str, Any]], Path]:
    """A folder of this name in `var_dir`."""

    def folder(values: dict[str, Any]) -> Path:
        return Path(values.get("var_dir", ROOT / "var")) / name

    return folder


class Settings(BaseSettings):
    """All settings of a process; units stand in the names."""

    model_config = SettingsConfigDict(env_prefix="NEUROSIGHT_", frozen=True, extra="ignore")

    # Where state lives.
    var_dir: Path = Field(ROOT / "var", description="Folder of all local state: database, blobs, logs, secrets")
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in var_dir")
    broker_url: str = Field("", description="Redis-protocol URL with password; empty: not configured")
    broker_keyprefix: str = Field("ns:", description="Prefix of every key in the broker")
    blob_url: str = Field("", description="fsspec URL of the blob store; empty: var_dir/blobs")
    models_dir: Path = Field(ROOT / "models", description="Folder of shipped artefacts")

    # Web.
    environment: Literal["local", "production"] = "local"
    web_host: str = "127.0.0.1"
    web_port: int = Field(8350, ge=1, le=65535)
    web_threads: int = Field(16, ge=2, le=256)
    proxy_count: int = Field(0, ge=0, le=5, description="Reverse proxies in front whose forwarded headers are trusted")
    secret_key: SecretStr = Field(SecretStr(""), description="Signs sessions; empty: a random one kept in var_dir")
    secure_cookies: bool = Field(False, description="Send cookies over HTTPS only; required in production")
    session_idle_s: int = Field(30 * 60, ge=60)
    session_absolute_s: int = Field(12 * 3600, ge=300)
    login_failures_allowed: int = Field(8, ge=1, description="Failed logins per name and address before a pause")
    login_pause_s: int = Field(300, ge=1)
    default_locale: Literal["en", "id"] = "en"
    metrics_token: SecretStr = Field(
        SecretStr(""), description="Opens /metrics to other machines; empty: this one only"
    )

    # Limits on what a user may send.
    max_request_bytes: int = Field(512 * MIB, ge=1 * MIB, description="Largest single HTTP request body")
    max_upload_bytes: int = Field(8192 * MIB, ge=1 * MIB, description="Largest submission, all files together")
    max_upload_files: int = Field(20_000, ge=1)
    min_free_disk_bytes: int = Field(256 * MIB, ge=0, description="Uploads are refused when less would stay free")
    upload_expiry_s: int = Field(24 * 3600, ge=60, description="An unfinished upload is swept after this time")
    # Nothing larger could be decoded (max_decoded_bytes) or arrive in one request (max_request_bytes).
    max_file_bytes: int = Field(512 * MIB, ge=1024, description="Largest single file, packed archives included")
    max_pixels: int = Field(50_000_000, ge=1024)
    max_side: int = Field(16_384, ge=64)
    max_frames: int = Field(2_000, ge=1)
    max_decoded_bytes: int = Field(512 * MIB, ge=1 * MIB)
    max_model_bytes: int = Field(1024 * MIB, ge=1024, description="Largest model artefact or weights file taken in")
    zip_max_entries: int = Field(20_000, ge=1)
    zip_max_member_bytes: int = Field(
        512 * MIB, ge=1024, description="Largest file in an archive; beyond max_file_bytes it would be refused anyway"
    )
    zip_max_total_bytes: int = Field(4096 * MIB, ge=1024)
    zip_max_ratio: int = Field(200, ge=2)
    zip_max_depth: int = Field(2, ge=0)
    decode_memory_bytes: int = Field(
        2048 * MIB, ge=256 * MIB, description="Memory that reading one file may take, beyond what a decoder has anyway"
    )
    decode_cpu_s: int = Field(20, ge=1, le=3600, description="Processor time that reading one file may take")
    decode_wall_s: float = Field(30.0, ge=1, le=3600, description="Time that reading one file may take")

    # Ways in over the network, and a watched folder (docs/dicom.md).
    dicom_port: int = Field(0, ge=0, le=65535, description="Port of the DICOM listener, by custom 11112; 0: none runs")
    dicom_host: str = Field("0.0.0.0", description="Address the DICOM listener binds to")  # noqa: S104 - off by default
    dicom_ae_title: str = Field("NEUROSIGHT", description="Our AE title: peers must call it, and we call ourselves so")
    dicom_allowed_peers: str = Field(
        "", description="Who may send: AETITLE@address, ...; an address is an IP address or network (10.1.0.0/16)"
    )
    dicom_user: str = Field("", description="Account that owns what the listener receives; of the role submitter")
    dicom_tls_certificate: Path | None = Field(
        None, description="PEM certificate chain of the listener; with dicom_tls_key: TLS only"
    )
    dicom_tls_key: Path | None = Field(None, description="PEM key of that certificate")
    dicom_tls_ca: Path | None = Field(
        None, description="PEM certificates of authorities; set: peers must show a certificate of one of them"
    )
    dicom_max_associations: int = Field(16, ge=1, le=200, description="Associations at once; more are refused")
    dicom_max_pdu_bytes: int = Field(128 * 1024, ge=4096, le=1 * MIB, description="Largest PDU that peers may send")
    dicom_idle_s: float = Field(60.0, ge=1, description="An association in which nothing happens for so long is ended")
    study_quiet_s: float = Field(
        30.0, ge=1, description="A study sent by DICOM or STOW-RS is complete when nothing of it came for so long"
    )
    watch_dir: Path | None = Field(None, description="Watched folder; none: nothing is watched")
    watch_user: str = Field("", description="Account that owns what is put there; of the role submitter")
    watch_quiet_s: float = Field(10.0, ge=1, description="A file or folder is taken when it did not change for so long")

    # Work.
    engine: Literal["auto", "openvino", "tensorflow"] = "auto"
    inference_threads: int = Field(0, ge=0, description="CPU threads of one engine; 0: all cores")
    chunk_slices: int = Field(32, ge=1, le=512, description="Slices of one work item, one transaction")
    interactive_slices: int = Field(8, ge=0, description="Jobs with at most this many slices use the interactive lane")
    lease_s: float = Field(60.0, gt=0, description="A claimed work item is given back when not renewed for this time")
    max_attempts: int = Field(4, ge=1, le=20, description="Claims of one work item before it is given up")
    retry_delay_s: float = Field(2.0, ge=0)
    resend_after_s: float = Field(15.0, gt=0, description="A pending item whose message is older is sent again")
    housekeeping_period_s: float = Field(2.0, gt=0)
    starvation_after_s: float = Field(600.0, gt=0, description="A waiting item older than this goes before urgent ones")
    visibility_timeout_s: int = Field(1800, ge=10, description="Same value for every process on one broker")
    soft_shutdown_s: float = Field(20.0, ge=0)
    worker_ready_age_s: float = Field(20.0, gt=0, description="A worker not seen for this long is not ready")

    series_rules: str = Field(
        "all", description="Which series of a study are classified, such as `t1_contrast,axial,largest; all` (dicom.md)"
    )

    # Privacy.
    deidentify: bool = Field(
        False, description="De-identify every file before it is kept (docs/privacy.md); the original is removed"
    )
    deidentify_burned_in: Literal["refuse", "accept"] = Field(
        "refuse", description="While de-identifying: images in whose pixels a name may be written"
    )
    pseudonym_key: SecretStr = Field(
        SecretStr(""), description="Secret of the pseudonyms, the same for all workers; empty: one kept in var_dir"
    )
    retention_days: int = Field(
        0, ge=0, le=36_500, description="Studies are deleted for good so many days after they were last sent; 0: never"
    )

    # Archives of the hospital: sending results, fetching studies.
    peer_secrets: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="JSON: name of a secret -> `user:password`, or a token; DICOMweb peers name one of them",
    )
    peer_ca_file: Path | None = Field(None, description="CA certificates (PEM) that peers are checked against")
    peer_certificate_file: Path | None = Field(None, description="Our certificate (PEM) for peers that ask for one")
    peer_key_file: Path | None = Field(None, description="Key (PEM) of our certificate")
    peer_timeout_s: float = Field(30.0, ge=1, le=600, description="How long a peer may be silent")
    off_peak_from_hour: int = Field(20, ge=0, le=23, description="Off-peak fetching begins at this hour, server's time")
    off_peak_to_hour: int = Field(6, ge=0, le=23, description="Off-peak fetching ends at this hour, server's time")

    # Training.
    training_dir: Path = Field(
        default_factory=_below("training"),
        description="Folder of unfinished runs' states and of caches; training machines of one installation share it",
    )
    weights_dir: Path = Field(
        default_factory=_below("weights"),
        description="Folder of ImageNet weights and artefacts that scenarios start from",
    )
    datasets_dir: Path = Field(
        default_factory=_below("datasets"), description="Folder whose sub-folders may be registered as data sets"
    )
    training_threads: int = Field(0, ge=0, description="CPU threads of one training worker; 0: all cores")
    training_max_attempts: int = Field(
        4, ge=2, le=20, description="Lost workers without one more epoch before a run is given up"
    )
    training_keep_days: float = Field(
        14.0, ge=0, description="State files of a sweep are removed so many days after it has ended"
    )
    feature_cache_bytes: int = Field(
        20 * 1024 * MIB, ge=1 * MIB, description="Most that the cached outputs of frozen network parts may take"
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "text"] = "json"

    @field_validator("dicom_tls_certificate", "dicom_tls_key", "dicom_tls_ca", "watch_dir", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        """An empty variable means that there is no such file, not the current folder."""
        return None if value == "" else value

    @field_validator("series_rules")
    @classmethod
    def _readable(cls, text: str) -> str:
        series_rules.parse(text)
        return text

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = []
        if self.environment == "production":
            if len(self.secret_key.get_secret_value()) < 32:
                problems.append("NEUROSIGHT_SECRET_KEY must hold at least 32 characters in production")
            if not self.secure_cookies:
                problems.append("NEUROSIGHT_SECURE_COOKIES must be true in production (serve over HTTPS)")
            if self.deidentify and len(self.pseudonym_key.get_secret_value()) < 32:
                problems.append(
                    "NEUROSIGHT_PSEUDONYM_KEY must hold at least 32 characters in production with NEUROSIGHT_DEIDENTIFY"
                )
        if self.visibility_timeout_s < 2 * self.lease_s:
            problems.append(
                f"NEUROSIGHT_VISIBILITY_TIMEOUT_S is {self.visibility_timeout_s}; it must be at least twice "
                f"NEUROSIGHT_LEASE_S ({self.lease_s:g})"
            )
        problems += self._listener_problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _listener_problems(self) -> list[str]:
        problems = []
        try:
            peers = parse_peers(self.dicom_allowed_peers)
        except ValueError as error:
            problems.append(f"NEUROSIGHT_DICOM_ALLOWED_PEERS: {error}")
        else:
            if self.dicom_port and not peers:
                problems.append("NEUROSIGHT_DICOM_ALLOWED_PEERS must name who may send, e.g. MR1@10.0.0.5")
        if not AE_TITLE.match(self.dicom_ae_title):
            problems.append(
                f"NEUROSIGHT_DICOM_AE_TITLE: received {self.dicom_ae_title[:40]!r}; expected 1 to 16 printable "
                "characters"
            )
        if self.dicom_port and not self.dicom_user:
            problems.append("NEUROSIGHT_DICOM_USER must name the account that owns what the listener receives")
        if bool(self.dicom_tls_certificate) != bool(self.dicom_tls_key):
            problems.append("NEUROSIGHT_DICOM_TLS_CERTIFICATE and NEUROSIGHT_DICOM_TLS_KEY go together: set both")
        if self.dicom_tls_ca and not self.dicom_tls_certificate:
            problems.append("NEUROSIGHT_DICOM_TLS_CA needs NEUROSIGHT_DICOM_TLS_CERTIFICATE and _KEY")
        if self.watch_dir and not self.watch_user:
            problems.append("NEUROSIGHT_WATCH_USER must name the account that owns what is put into the folder")
        return problems

    @property
    def resolved_database_url(self) -> str:
        """SQLAlchemy URL of the database: `database_url`, or the SQLite file under `var_dir`."""
        return self.database_url or f"sqlite:///{self.var_dir / 'neurosight.db'}"

    @property
    def resolved_blob_url(self) -> str:
        """fsspec URL of the blob store: `blob_url`, or the folder under `var_dir`."""
        return self.blob_url or f"file://{self.var_dir / 'blobs'}"


def load_settings(**overrides: object) -> Settings:
    """Reads, validates and returns the settings.

    Args:
        **overrides: Field values that win over the environment (tests and command-line flags).

    Raises:
        SettingsError: With every wrong value in one message.
    """
    var_dir = Path(str(overrides.get("var_dir") or _environment_var_dir()))
    try:
        return Settings(_env_file=var_dir / "neurosight.env", **overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = []
        for item in error.errors(include_url=False, include_input=False):
            name = "NEUROSIGHT_" + "_".join(str(part) for part in item["loc"]).upper() if item["loc"] else "settings"
            lines.append(f"{name}: {item['msg']}")
        raise SettingsError("The settings are not usable:\n  " + "\n  ".join(lines)) from None


def _environment_var_dir() -> str:
    return os.environ.get("NEUROSIGHT_VAR_DIR", "") or str(ROOT / "var")
