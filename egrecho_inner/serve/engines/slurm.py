"""The engine of a Slurm cluster, by submitit; the same code runs a job on this machine where there is no Slurm.

The work folder must lie on a file system that the cluster's machines see. submitit's own result is a pickle, which is
never opened: how a job ended is in its folder. Needs `pip install 'egrecho[cloud]'`.
"""

import sys
from dataclasses import dataclass
from typing import Any, Literal

from egrecho_inner.config_types import NonNegativeInt, Options, PositiveInt
from egrecho_inner.errors import extra_missing
from egrecho_inner.serve.engines.base import EngineError
from egrecho_inner.serve.engines.local import stop_worker
from egrecho_inner.serve.jobs import JobFolder

WAITING = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESIZING", "SUSPENDED", "CONFIGURING", "UNKNOWN")
RUNNING = ("RUNNING", "COMPLETING", "STOPPED", "SIGNALING", "STAGE_OUT")


@dataclass(frozen=True)
class SlurmOptions(Options, group="slurm"):
    """What a job asks of the cluster."""

    partition: str | None = None
    """Of the cluster; null takes its default."""
    gpus: NonNegativeInt = 1
    """On one machine."""
    cpus: PositiveInt = 8
    memory_gb: PositiveInt = 32
    minutes: PositiveInt = 720
    """Of wall time; the training saves and continues in a new job when it is over."""
    account: str | None = None
    """That pays."""
    cluster: Literal["slurm", "local"] = "slurm"
    """local runs jobs on this machine through the same calls."""


class SlurmEngine:
    """Run workers as Slurm jobs.

    Args:
        options: What each asks for.

    Raises:
        MachineError: submitit is not installed.
    """

    def __init__(self, options: SlurmOptions):
        try:
            import submitit
        except ImportError as error:
            raise extra_missing("submitit", "cloud") from error
        self.submitit, self.options = submitit, options
        self.jobs: dict[str, Any] = {}

    def submit(self, folder: JobFolder) -> str:
        """Queue the worker; return Slurm's job id."""
        options = self.options
        asked = {"timeout_min": options.minutes, "cpus_per_task": options.cpus, "mem_gb": options.memory_gb}
        asked["gpus_per_node"] = options.gpus
        slurm = {"slurm_partition": options.partition, "slurm_account": options.account, "slurm_job_name": "egrecho"}
        command = [sys.executable, "-m", "egrecho_inner.serve.worker", str(folder.path)]
        try:
            executor = self.submitit.AutoExecutor(folder=folder.path / "submitit", cluster=options.cluster)
            executor.update_parameters(**asked, **{name: value for name, value in slurm.items() if value is not None})
            job = executor.submit(self.submitit.helpers.CommandFunction(command, verbose=False))
        except Exception as error:  # submitit passes on what sbatch, the file system or a parameter raised
            raise EngineError(f"Slurm did not take the job: {str(error)[:300]}") from error
        self.jobs[job.job_id] = job
        return job.job_id

    def job(self, handle: str, folder: JobFolder) -> Any:
        """Return submitit's view of a job, also of one that another process submitted."""
        if handle not in self.jobs:
            kind = self.submitit.SlurmJob if self.options.cluster == "slurm" else self.submitit.LocalJob
            self.jobs[handle] = kind(folder.path / "submitit", handle)
        return self.jobs[handle]

    def runs(self, handle: str, folder: JobFolder) -> bool:
        """Tell whether Slurm still has the job waiting or running."""
        if folder.held():
            return True
        if not handle:
            return False
        return self.job(handle, folder).state.split(" ")[0].rstrip("+") in (*WAITING, *RUNNING)

    def cancel(self, handle: str, folder: JobFolder) -> None:
        """Cancel the job; Slurm sends SIGTERM first, and the training saves."""
        if self.options.cluster == "local":
            stop_worker(folder)  # submitit's local executor ends itself only
        if handle:
            self.job(handle, folder).cancel(check=False)

    def forget(self, handle: str, folder: JobFolder) -> None:
        """Keep nothing elsewhere: submitit's files are in the job's folder."""
        self.jobs.pop(handle, None)
