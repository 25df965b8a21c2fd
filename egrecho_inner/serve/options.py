"""Settings of the server: where it works, whom it lets in, how much one job may take."""

from dataclasses import dataclass, field
from pathlib import Path

from egrecho_inner.config_types import Options, PositiveFloat, PositiveInt

OPENAI = ("tiny", "base", "small", "medium", "large", "large-v2", "large-v3", "large-v3-turbo")
HUB_MODELS = {f"openai/whisper-{size}": f"openai/whisper-{size}" for size in OPENAI}
HUB_MODELS |= {f"openai/whisper-{size}.en": f"openai/whisper-{size}.en" for size in OPENAI[:4]}
POLICIES = ("encoder", "encoder-top", "full", "lora", "sweep")


@dataclass(frozen=True)
class Limits(Options, group="limits"):
    """How much one upload, one job, one client may take."""

    upload_mb: PositiveFloat = 1000.0
    """Bytes of one request, in millions."""
    unpacked_mb: PositiveFloat = 2000.0
    """Bytes of an archive's content."""
    ratio: PositiveFloat = 100.0
    """Content over archive, once more than 10 MB are unpacked; zeros pack a thousandfold, speech not twofold."""
    files: PositiveInt = 4000
    """Members of an archive."""
    file_mb: PositiveFloat = 60.0
    """Bytes of one recording; 30 s of stereo at 192 kHz and 32 bit are 46 MB."""
    audio_hours: PositiveFloat = 5.0
    """Of one data set."""
    epochs: PositiveInt = 50
    """That may be asked for."""
    job_hours: PositiveFloat = 12.0
    """Wall time of one job."""
    memory_gb: PositiveFloat | None = None
    """Address space of a job; null for no limit, as CUDA maps more than it uses."""
    queue: PositiveInt = 200
    """Jobs waiting, of all clients."""
    jobs_per_owner: PositiveInt = 50
    """Jobs waiting or running, of one client."""
    datasets_per_owner: PositiveInt = 50
    """Data sets that one client put together and has not deleted."""
    disk_floor_gb: PositiveFloat = 2.0
    """Free disk under which nothing new is accepted."""
    idle_seconds: PositiveFloat = 30.0
    """A client that sends nothing for so long while uploading is let go."""
    attempts: PositiveInt = 5
    """Starts of a job whose worker is killed again and again."""


@dataclass(frozen=True)
class Settings:
    """All settings of the server."""

    work: Path
    """Folder of jobs, data sets and the store."""
    host: str = "127.0.0.1"
    port: int = 5553
    open: bool = False
    """Let anyone in who reaches the port."""
    tokens: Path | None = None
    """JSON file of tokens; `auth.Token` is an entry."""
    hosts: tuple[str, ...] = ()
    """Names under which the server is reached besides addresses and localhost; `*.example.org` for all below."""
    models: dict[str, str] = field(default_factory=lambda: dict(HUB_MODELS))
    """What clients may ask for, by the name they use: a folder or a hub id."""
    slots: int = 1
    """Jobs at a time."""
    limits: Limits = field(default_factory=Limits)
    compat_busy: bool = False
    """Answer 429 while a job runs, as the specification's server did, instead of queueing."""
    tensorboard: bool = True
    """Start a TensorBoard beside every job, on this machine only, reached through the server."""
    engines: tuple[str, ...] = ()
    """Names of engines besides local: slurm, modal."""
    prices: dict[str, float] = field(default_factory=dict)
    """Price of an hour on each engine, for the ledger of costs."""
    program: tuple[str, ...] = ("-m", "egrecho_inner.personal")
    """What Python runs for a job."""

    @property
    def jobs(self) -> Path:
        """Folder of the jobs."""
        return self.work / "jobs"

    @property
    def datasets(self) -> Path:
        """Folder of uploaded data sets."""
        return self.work / "datasets"

    @property
    def local_only(self) -> bool:
        """Whether only this machine reaches the server."""
        return self.host in ("127.0.0.1", "::1", "localhost")
