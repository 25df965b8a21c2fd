"""What runs on Modal: one function that runs the worker on a job folder of a volume. Deployed once:

    modal deploy -m egrecho_inner.serve.engines.modal_app

The image holds this project; the GPU is an L4 unless EGRECHO_MODAL_GPU names others ("L40S", or "L4,A10G" to take what
is free) when it is deployed. A job that is interrupted is started again by Modal and continues from its checkpoint.
"""

import os
import subprocess
import sys
from pathlib import Path

import modal

APP, VOLUME, FUNCTION = "egrecho-personal", "egrecho-personal", "train"
PLACE = Path("/data")
HOURS = 4
PACKAGES = ("ffmpeg", "libsndfile1", "git")

gpus = os.environ.get("EGRECHO_MODAL_GPU", "L4").split(",")
app = modal.App(APP)
volume = modal.Volume.from_name(VOLUME, create_if_missing=True)
source = Path(__file__).resolve().parents[3]
image = modal.Image.debian_slim(python_version="3.12").apt_install(*PACKAGES)
if (source / "requirements.txt").is_file():
    image = image.pip_install_from_requirements(str(source / "requirements.txt"))
image = image.add_local_python_source("egrecho_inner")


@app.function(image=image, gpu=gpus, volumes={str(PLACE): volume}, timeout=3600 * HOURS, retries=2, cpu=4.0)
def train(id: str) -> int:
    """Run the worker on one job of the volume; return its exit code."""
    return work(PLACE / id, volume)


def work(folder: Path, kept: object) -> int:
    """Run the worker and keep what it wrote.

    Args:
        folder: The job's, on the volume.
        kept: The volume.
    """
    done = subprocess.run([sys.executable, "-m", "egrecho_inner.serve.worker", str(folder)])
    kept.commit()
    return done.returncode
