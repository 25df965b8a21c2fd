"""Where jobs run: this machine, a Slurm cluster, Modal. Each engine runs the same worker on the same job folder."""

from egrecho_inner.serve.engines.base import Engine
from egrecho_inner.serve.engines.local import LocalEngine
from egrecho_inner.serve.engines.modal import ModalEngine
from egrecho_inner.serve.engines.slurm import SlurmEngine, SlurmOptions


def make_engines(slurm: SlurmOptions | None = None, modal: bool = False) -> dict[str, Engine]:
    """Make the engines that are asked for; this machine is always one."""
    engines: dict[str, Engine] = {"local": LocalEngine()}
    if slurm is not None:
        engines["slurm"] = SlurmEngine(slurm)
    if modal:
        engines["modal"] = ModalEngine()
    return engines
