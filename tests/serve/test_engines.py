"""Engines run the same worker on the same folder: submitit's local executor, and Modal's calls on this disk."""

import importlib.util
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from servers import FAKE, recordings, running, settings_for

from egrecho_inner.config import parse
from egrecho_inner.errors import ConfigError, MachineError
from egrecho_inner.on_demand import on_demand
from egrecho_inner.serve.engines.base import EngineError
from egrecho_inner.serve.engines.local import LocalEngine
from egrecho_inner.serve.engines.modal import ModalEngine
from egrecho_inner.serve.engines.slurm import SlurmEngine, SlurmOptions
from egrecho_inner.serve.jobs import JobFolder
from egrecho_inner.serve.worker import BUSY, locked, work

needs_submitit = pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="extra cloud")
needs_modal = pytest.mark.skipif(importlib.util.find_spec("modal") is None, reason="extra cloud")


def job_folder(path: Path, epochs: int = 2, **more: Any) -> JobFolder:
    folder = JobFolder(path)
    folder.data.mkdir(parents=True)
    for name, content in recordings().items():
        (folder.data / name).write_bytes(content)
    words = ["--folder={job}/data", "--out={job}/run", f"--tune.epochs={epochs}", "--tune.seed=1"]
    folder.write("job.json", {"arguments": [str(FAKE), *words], "attempt": 1, **more})
    return folder


def wait(engine: Any, handle: str, folder: JobFolder, seconds: float = 60) -> None:
    for _ in range(int(seconds / 0.1)):
        if not engine.runs(handle, folder) and (folder.result.is_file() or folder.begun()):
            return
        time.sleep(0.1)
    raise AssertionError(folder.log.read_text() if folder.log.is_file() else "no log")


class Volume:
    """Modal's volume, on this disk."""

    def __init__(self, root: Path):
        self.root = root

    def batch_upload(self, force: bool = False) -> Any:
        volume = self

        class Batch:
            def __enter__(self) -> "Batch":
                return self

            def __exit__(self, *_: Any) -> None:
                pass

            def put_file(self, source: str, target: str) -> None:
                out = volume.root / target.lstrip("/")
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_bytes(Path(source).read_bytes())

            def put_directory(self, source: str, target: str) -> None:
                for path in Path(source).rglob("*"):
                    self.put_file(str(path), f"{target}/{path.relative_to(source)}")

        return Batch()

    def iterdir(self, path: str, recursive: bool = True) -> Iterator[Any]:
        for found in sorted((self.root / path.lstrip("/")).rglob("*")):
            kind = SimpleNamespace(name="FILE" if found.is_file() else "DIRECTORY")
            yield SimpleNamespace(path=str(found.relative_to(self.root)), type=kind)

    def listdir(self, path: str) -> list[Any]:
        return [SimpleNamespace(path=found.name) for found in self.root.iterdir()]

    def read_file(self, path: str) -> Iterator[bytes]:
        yield (self.root / path.lstrip("/")).read_bytes()

    def remove_file(self, path: str, recursive: bool = False) -> None:
        import shutil

        shutil.rmtree(self.root / path.lstrip("/"))

    def commit(self) -> None:
        pass


class Modal:
    """The calls that are made of Modal's package; the function runs in a thread."""

    class exception:
        class Error(Exception):
            pass

        class TimeoutError(Error):
            pass

        class NotFoundError(Error):
            pass

    def __init__(self, root: Path):
        volume, calls, modal = Volume(root), {}, self
        self.Volume = SimpleNamespace(from_name=lambda name, create_if_missing=False: volume)
        self.volume, self.calls, self.cancelled = volume, calls, []

        class Call:
            def __init__(self, id: str):
                self.object_id, self.code = f"fc-{id}", None
                self.thread = threading.Thread(target=self.go, args=(id,))
                self.thread.start()

            def go(self, id: str) -> None:
                from egrecho_inner.serve.engines.modal_app import work

                self.code = work(root / id, volume)

            def get(self, timeout: float) -> int:
                self.thread.join(max(timeout, 0.01))
                if self.thread.is_alive():
                    raise modal.exception.TimeoutError
                if self.code:
                    raise modal.exception.Error("the function failed")
                return 0

            def cancel(self, terminate_containers: bool = False) -> None:
                modal.cancelled.append(self.object_id)

        def spawn(id: str) -> Call:
            call = Call(id)
            calls[call.object_id] = call
            return call

        self.Function = SimpleNamespace(from_name=lambda app, name: SimpleNamespace(spawn=spawn))
        self.FunctionCall = SimpleNamespace(from_id=lambda id: calls[id])


@needs_submitit
def test_submitit_runs_a_job_to_its_end(tmp_path: Path) -> None:
    engine = SlurmEngine(SlurmOptions(cluster="local", minutes=5, gpus=0))
    folder = job_folder(tmp_path / "job")
    handle = engine.submit(folder)
    wait(engine, handle, folder)
    assert folder.read("result.json")["state"] == "succeeded"
    assert folder.artifact.is_file()
    engine.forget(handle, folder)


@needs_submitit
def test_a_cancelled_job_of_submitit_can_go_on(tmp_path: Path) -> None:
    engine = SlurmEngine(SlurmOptions(cluster="local", minutes=5, gpus=0))
    folder = job_folder(tmp_path / "job", epochs=40)
    handle = engine.submit(folder)
    for _ in range(300):
        if folder.phase() == "running training":
            break
        time.sleep(0.1)
    engine.cancel(handle, folder)
    wait(engine, handle, folder)
    assert not folder.result.is_file()
    handle = engine.submit(folder)
    wait(engine, handle, folder)
    assert folder.read("result.json")["state"] == "succeeded"
    steps = (folder.run / "train/encoder/metrics.jsonl").read_text().splitlines()
    assert len(steps) <= 41


@needs_submitit
def test_a_server_runs_jobs_on_the_cluster(tmp_path: Path) -> None:
    import contextlib

    from servers import Running

    settings = settings_for(tmp_path / "work", engines=("slurm",), prices={"slurm": 3600.0, "local": 0.0})
    with contextlib.ExitStack() as stack:
        server: Running = stack.enter_context(
            running(settings, {"local": LocalEngine(), "slurm": SlurmEngine(SlurmOptions(cluster="local", gpus=0))})
        )
        job = server.wait(server.post(engine="slurm").json()["id"], seconds=90)
        assert (job["state"], job["engine"]) == ("succeeded", "slurm")
        assert job["cost"]["cost"] == pytest.approx(job["cost"]["seconds"], rel=0.01)
        local = server.wait(server.post().json()["id"])
        assert local["cost"]["cost"] == 0
        assert server.post(engine="modal").status_code == 422


@needs_modal
def test_modal_uploads_runs_fetches_and_deletes(tmp_path: Path) -> None:
    modal = Modal(tmp_path / "volume")
    engine, folder = ModalEngine(modal), job_folder(tmp_path / "job")
    handle = engine.submit(folder)
    assert engine.runs(handle, folder)
    assert engine.list() == ["job"]
    wait(engine, handle, folder)
    assert folder.read("result.json")["state"] == "succeeded"
    assert (folder.run / "final" / "model.safetensors").is_file()
    assert folder.artifact.read_bytes() == (tmp_path / "volume/job/artifact.tar.gz").read_bytes()
    assert "running training" in folder.events.read_text()
    assert not engine.runs(handle, folder)
    engine.forget(handle, folder)
    assert engine.list() == []
    engine.forget(handle, folder)  # once more is no error


@needs_modal
def test_modals_faults_are_errors_of_the_engine(tmp_path: Path) -> None:
    modal = Modal(tmp_path / "volume")
    engine, folder = ModalEngine(modal), job_folder(tmp_path / "job")
    modal.Function = SimpleNamespace(from_name=lambda *_: (_ for _ in ()).throw(modal.exception.Error("no account")))
    with pytest.raises(EngineError, match="no account"):
        engine.submit(folder)
    folder.write("job.json", {"arguments": [f"--model={tmp_path}"]})
    with pytest.raises(EngineError, match="hub id"):
        engine.submit(folder)
    modal.calls["fc-x"] = SimpleNamespace(get=lambda timeout: (_ for _ in ()).throw(modal.exception.Error("expired")),
                                          cancel=lambda **_: modal.cancelled.append("fc-x"))  # fmt: skip
    modal.volume.root.mkdir(exist_ok=True)
    assert not engine.runs("fc-x", folder)  # failed there: nothing to fetch, and the dispatcher starts it again
    engine.cancel("fc-x", folder)
    assert modal.cancelled == ["fc-x"]


@needs_modal
def test_a_volume_cannot_write_outside_the_job(tmp_path: Path) -> None:
    modal = Modal(tmp_path / "volume")
    engine, folder = ModalEngine(modal), job_folder(tmp_path / "job")
    evil = SimpleNamespace(path="job/run/final/../../../../evil", type=SimpleNamespace(name="FILE"))
    modal.volume.iterdir = lambda *_, **__: [evil]
    with pytest.raises(EngineError, match="leads out"):
        engine.fetch(folder)


@needs_modal
def test_the_function_that_is_deployed_runs_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from egrecho_inner.serve.engines import modal_app

    folder = job_folder(tmp_path / "abc")
    monkeypatch.setattr(modal_app, "PLACE", tmp_path)
    monkeypatch.setattr(modal_app, "volume", Volume(tmp_path))
    assert modal_app.train.local("abc") == 0
    assert folder.read("result.json")["state"] == "succeeded"


def test_one_worker_at_a_time(tmp_path: Path) -> None:
    folder = job_folder(tmp_path / "job")
    with locked(folder) as mine:
        assert mine
        assert folder.held()
        assert work(folder) == BUSY
    assert not folder.held()


def test_time_is_limited(tmp_path: Path) -> None:
    folder = job_folder(tmp_path / "job", epochs=300, hours=0.5 / 3600)
    assert work(folder) == 0
    result = folder.read("result.json")
    assert (result["state"], result["error"]["code"]) == ("failed", "time_limit")


def on(*words: str) -> None:
    on_demand(**parse(on_demand, [*words, "--engine", "local"]))


def test_on_demand_runs_downloads_and_deletes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import egrecho_inner.on_demand as module

    recorded = tmp_path / "recorded"
    recorded.mkdir()
    for name, content in recordings().items():
        (recorded / name).write_bytes(content)
    prepared = module.prepare

    def fake(*arguments: Any) -> JobFolder:
        folder = prepared(*arguments)
        words = folder.read("job.json")["arguments"][2:]
        folder.write("job.json", {"arguments": [str(FAKE), *words, "--tune.epochs=1", "--tune.seed=1"], "attempt": 1})
        return folder

    monkeypatch.setattr(module, "prepare", fake)
    monkeypatch.setattr(module, "PAUSE", 0.1)
    on("run", str(recorded), str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--price", "3.6")
    assert (tmp_path / "out" / "model" / "model.safetensors").is_file()
    assert (tmp_path / "out" / "final_eval_result.txt").is_file()
    assert "better" in capsys.readouterr().out
    assert list((tmp_path / "work").iterdir()) == []  # deleted here and there
    on("run", str(recorded), str(tmp_path / "out2"), "--work", str(tmp_path / "work"), "--keep", "true")
    (kept,) = (tmp_path / "work").iterdir()
    on("list", "--work", str(tmp_path / "work"))
    assert f"{kept.name}  succeeded" in capsys.readouterr().out
    on("download", kept.name, str(tmp_path / "out3"), "--work", str(tmp_path / "work"), "--keep", "true")
    assert (tmp_path / "out3" / "report.json").is_file()
    on("delete", kept.name, "--work", str(tmp_path / "work"))
    assert list((tmp_path / "work").iterdir()) == []
    with pytest.raises(ConfigError, match="there is no run"):
        on("delete", "../..", "--work", str(tmp_path / "work"))


def test_a_failed_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import egrecho_inner.on_demand as module

    folder = job_folder(tmp_path / ("a" * 32))
    folder.write("job.json", {"arguments": [str(FAKE), "--folder={job}/data", "--out={job}/run", "--tune.epochs=1",
                                            "--tune.seed=13"], "attempt": 1})  # fmt: skip
    monkeypatch.setattr(module, "PAUSE", 0.1)
    folder.write("handle.json", {"handle": LocalEngine().submit(folder)})
    with pytest.raises(MachineError, match="wrong on purpose"):
        on("download", "a" * 32, str(tmp_path / "out"), "--work", str(tmp_path))
