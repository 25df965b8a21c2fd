"""The table of jobs: what one thread claims no other has, and a change whose state is gone changes nothing."""

import threading
from pathlib import Path

import pytest

from egrecho_inner.serve.store import QueueFull, Store


def test_a_job_is_claimed_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    made = {store.add("a", {}).id for _ in range(40)}
    claimed: list[str] = []

    def take() -> None:
        while (job := store.claim()) is not None:
            claimed.append(job.id)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(made)


def test_owners_take_turns(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    for _ in range(5):
        store.add("greedy", {})
    store.add("modest", {})
    assert [store.claim().owner for _ in range(3)] == ["greedy", "modest", "greedy"]


def test_a_change_needs_the_state_it_expects(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    job = store.add("a", {"x": 1})
    assert store.update(job.id, ["queued"], state="cancelled")
    assert not store.update(job.id, ["queued"], state="training")
    assert store.get(job.id).state == "cancelled"
    assert store.get(job.id).options == {"x": 1}


def test_another_process_sees_what_was_committed(tmp_path: Path) -> None:
    first, second = Store(tmp_path / "s.sqlite"), Store(tmp_path / "s.sqlite")
    job = first.add("a", {})
    assert second.claim().id == job.id
    assert first.claim() is None


def test_queues_are_bounded(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    store.add("a", {}, per_owner=1)
    with pytest.raises(QueueFull, match="owner"):
        store.add("a", {}, per_owner=1)
    with pytest.raises(QueueFull, match="queue"):
        store.add("b", {}, queue=1)


def test_a_forgotten_job_leaves_an_empty_row(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    job = store.add("a", {"name": "canary phrase"}, data_sha256="abc")
    store.claim()
    assert not store.forget(job.id)
    store.update(job.id, ["preparing"], state="succeeded", result={"x": "canary phrase"})
    assert store.forget(job.id)
    assert store.get(job.id).options == store.get(job.id).result == {}
    assert store.newest() == []
    store.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"canary phrase" not in (tmp_path / "s.sqlite").read_bytes()
