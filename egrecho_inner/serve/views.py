"""How jobs look from outside: rows of the store as the JSON of /v1 and of the specification's status."""

from typing import Any

from egrecho_inner.serve.auth import Token
from egrecho_inner.serve.jobs import JobFolder
from egrecho_inner.serve.store import Job, Store

REPORTED = ("verdict", "adopted", "delta", "interval", "metric", "normalizer", "clips", "base_scores", "tuned_scores",
            "tried", "guard", "curve", "folds", "notes", "seconds")  # fmt: skip


def job_view(job: Job, store: Store) -> dict[str, Any]:
    """Show a job to its owner."""
    report = job.result.get("report", {})
    return {
        "id": job.id,
        "name": job.options.get("name", ""),
        "owner": job.owner,
        "state": job.state,
        "phase": job.phase,
        "ahead": store.ahead(job) if job.state == "queued" else 0,
        "cancelling": job.cancel and job.running,
        "options": job.options,
        "engine": job.engine,
        "attempt": job.attempt,
        "created": job.created,
        "started": job.started,
        "ended": job.ended,
        "seconds": job.seconds,
        "error": job.error or None,
        "cost": job.result.get("cost"),
        "artifact": job.result.get("artifact"),
        "report": {name: report[name] for name in REPORTED if name in report} or None,
        "data_sha256": job.data_sha256,
    }


def status_view(token: Token, store: Store, base_url: str, folder_of: Any) -> dict[str, Any]:
    """Show what the server does, in the specification's five keys; of others' jobs only that they run."""
    jobs = store.active() or store.select("state = 'queued' ORDER BY number LIMIT 1")
    if not jobs:
        return {"status": "idle"}
    mine = [job for job in jobs if job.owner == token.name]
    job = (mine or jobs)[0]
    known = bool(mine) or token.may("admin")
    folder: JobFolder = folder_of(job)
    return {
        "progress": job.phase or "preparing training",
        "status": "busy",
        "tensorboard_url": f"{base_url}v1/jobs/{job.id}/tensorboard/" if known else "",
        "training_dir": str(folder.path) if token.may("admin") else "",
        "training_id": job.id if known else "",
    }
