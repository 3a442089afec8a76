"""The checkpoint log: attempts and manifests as names that are locks."""

from __future__ import annotations

from pathlib import Path

import pytest
from tidegate.engine.errors import CorruptError, JobInvalidError, StoreMissingError, StoreUnavailableError
from tidegate.engine.ports.log import CheckpointLog
from tidegate.engine.ports.store import CheckpointStore
from tidegate.state.log import StoreLog, open_log
from tidegate.state.manifests import to_json
from tidegate.state.stores import open_store

from support.manifests import full_manifest, manifest
from support.stores import ForwardingStore


class LosesAnswers(ForwardingStore):
    """A store whose creates happen, or not, without an answer."""

    def __init__(self, inner: CheckpointStore) -> None:
        super().__init__(inner)
        self.losing = 0
        self.lands = True

    def create(self, name: str, data: bytes) -> None:
        """Lose the next answers."""
        if self.losing:
            self.losing -= 1
            if self.lands:
                self.inner.create(name, data)
            raise StoreUnavailableError("no answer")
        self.inner.create(name, data)


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return str(tmp_path)


def test_a_job_that_never_ran_has_nothing(storage: str) -> None:
    log = open_log(storage, "job")
    assert (list(log.attempts()), list(log.epochs()), log.newest()) == ([], [], None)


def test_names_are_those_of_the_layout(storage: str) -> None:
    log: CheckpointLog = open_log(storage, "job")
    assert log.claim(7, {"host": "a"})
    assert log.decide(manifest(812))
    assert list(log.store.list("")) == ["attempts/000007.json", "checkpoints/000000000812.json"]


def test_an_attempt_number_is_taken_once_even_with_the_same_words(storage: str) -> None:
    one, other = open_log(storage, "job"), open_log(storage, "job")
    assert one.claim(1, {"host": "a"})
    assert not other.claim(1, {"host": "a"})
    assert other.claim(2, {"host": "a"})
    assert list(one.attempts()) == [1, 2]
    assert one.read_attempt(2) == {"host": "a"}


def test_a_claim_whose_answer_was_lost_is_resolved_by_claiming_again(storage: str) -> None:
    store = LosesAnswers(open_store(storage, "job"))
    log = StoreLog(store, "job")
    store.losing = 1
    with pytest.raises(StoreUnavailableError):
        log.claim(1, {})
    assert log.claim(1, {})


def test_an_epoch_is_decided_once(storage: str) -> None:
    one, other = open_log(storage, "job"), open_log(storage, "job")
    assert one.decide(manifest(1, writer="one"))
    assert not other.decide(manifest(1, writer="other"))
    assert one.read(1).writer == "one"


@pytest.mark.parametrize("lands", [True, False])
def test_a_decision_whose_answer_was_lost_is_resolved_by_deciding_again(storage: str, *, lands: bool) -> None:
    store = LosesAnswers(open_store(storage, "job"))
    store.losing, store.lands = 1, lands
    log = StoreLog(store, "job")
    with pytest.raises(StoreUnavailableError):
        log.decide(manifest(1))
    assert log.decide(manifest(1))


def test_a_lost_answer_and_a_faster_rival_is_a_lost_decision(storage: str) -> None:
    store = LosesAnswers(open_store(storage, "job"))
    store.losing, store.lands = 1, False
    log = StoreLog(store, "job")
    with pytest.raises(StoreUnavailableError):
        log.decide(manifest(1, writer="one"))
    assert open_log(storage, "job").decide(manifest(1, writer="other"))
    assert not log.decide(manifest(1, writer="one"))


def test_epochs_are_numbers_in_order_not_names_in_order(storage: str) -> None:
    log = open_log(storage, "job")
    for epoch in (9, 10, 2, 10**12, 0):
        assert log.decide(manifest(epoch))
    assert list(log.epochs()) == [0, 2, 9, 10, 10**12]
    newest = log.newest()
    assert newest is not None
    assert newest.epoch == 10**12


@pytest.mark.parametrize(
    "name", ["1.json", "0000000000001.json", "00000000000a.json", "000000000001.txt", "x/000000000001.json"]
)
def test_names_that_are_not_ours_are_passed_over(storage: str, name: str) -> None:
    log = open_log(storage, "job")
    log.decide(manifest(0))
    log.store.create(f"checkpoints/{name}", b"x")
    assert list(log.epochs()) == [0]


def test_a_missing_manifest_says_so(storage: str) -> None:
    with pytest.raises(StoreMissingError, match=r"checkpoints/000000000003\.json"):
        open_log(storage, "job").read(3)


def test_a_manifest_under_the_name_of_another_epoch_is_refused(storage: str) -> None:
    log = open_log(storage, "job")
    log.store.create("checkpoints/000000000004.json", to_json(manifest(3)))
    with pytest.raises(CorruptError, match="epoch 3; expected job 'job', epoch 4"):
        log.newest()


def test_a_manifest_of_another_job_is_refused(storage: str) -> None:
    log = open_log(storage, "job")
    log.store.create("checkpoints/000000000812.json", to_json(full_manifest()))
    assert log.read(812).job == "job"
    other = open_log(storage, "other")
    other.store.create("checkpoints/000000000812.json", to_json(full_manifest()))
    with pytest.raises(CorruptError, match="manifest of job 'job'"):
        other.read(812)


def test_damage_is_said_with_the_path(storage: str) -> None:
    log = open_log(storage, "job")
    log.store.create("checkpoints/000000000001.json", to_json(manifest(1))[:-5])
    with pytest.raises(CorruptError, match=f"{storage}/job/checkpoints/000000000001.json is damaged"):
        log.newest()


def test_a_manifest_that_retires_while_it_is_looked_up_leads_to_a_new_listing(storage: str) -> None:
    class Vanishing(ForwardingStore):
        def read(self, name: str) -> bytes:
            if name.endswith("1.json"):
                self.inner.delete([name])
            return super().read(name)

    log = StoreLog(Vanishing(open_store(storage, "job")), "job")
    log.decide(manifest(0))
    log.decide(manifest(1))
    newest = log.newest()
    assert newest is not None
    assert newest.epoch == 0


def test_a_manifest_that_could_not_be_read_back_is_not_decided(storage: str) -> None:
    log = open_log(storage, "job")
    with pytest.raises(JobInvalidError):
        log.decide(manifest(1, parallelism=0))
    assert list(log.epochs()) == []
