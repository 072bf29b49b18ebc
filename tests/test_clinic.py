"""The clinic: each patient is ill as its card says, reproducible, and trained by the book's own loop."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from lossutils import clinic, curves
from lossutils._clinic_subjects import make
from lossutils.worlds import known_world

PATIENTS = clinic.patients()


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_patients_are_listed_by_name_and_cannot_be_changed():
    assert all(name == patient.name for name, patient in PATIENTS.items())
    assert next(iter(PATIENTS)) == "healthy"
    assert {patient.kind for patient in PATIENTS.values()} >= set(curves.KINDS) - {"unknown"}
    assert all(patient.story for patient in PATIENTS.values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        PATIENTS["spike"].garbage = 0
    clinic.patients().clear()
    assert clinic.patients()


@pytest.mark.parametrize("name", PATIENTS)
def test_a_patient_is_diagnosed_with_what_was_done_to_it(name):
    patient = PATIENTS[name]
    history = clinic.run(name, seed=21)
    diagnosis = curves.diagnose(patient.as_run(history))
    assert patient.kind in diagnosis.kinds
    assert len(history.losses) == patient.steps
    assert history.validation_steps[0] == 0
    assert history.validation_steps[-1] == patient.steps


@pytest.mark.parametrize("subject", ["topics", "source", "pieces"])
@pytest.mark.parametrize("name", ["unshifted", "overfitting"])
def test_on_real_text_the_length_of_a_pass_tells_a_leak_from_overfitting(name, subject):
    patient = dataclasses.replace(PATIENTS[name], subject=subject, steps=200, length=24)
    run = patient.as_run(clinic.run(patient, seed=22))
    assert (
        run.validation.min() < run.validation[[0, -1]].min() - 0.05
    )  # better first, then worse, with either
    assert curves.diagnose(run).kinds == (patient.kind,)
    blind = curves.diagnose(dataclasses.replace(run, pass_steps=None))
    assert "leak or overfitting" in blind.cannot_tell


def test_the_same_seed_gives_the_same_history_and_another_one_another():
    first, again, other = (clinic.run("spike", seed=seed, steps=30) for seed in (3, 3, 4))
    assert first == again
    assert first.losses != other.losses


def test_the_global_random_state_is_neither_read_nor_changed():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = clinic.run("healthy", steps=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert clinic.run("healthy", steps=5) == first


def test_settings_can_be_changed_and_patients_made():
    history = clinic.run("healthy", steps=12, batch_size=4, length=8, subject="topics", model="window")
    assert history.tokens[-1] == 12 * 4 * 8
    assert history.losses[0] == pytest.approx(math.log(256), abs=0.1)
    mine = dataclasses.replace(PATIENTS["healthy"], steps=5, name="mine")
    assert mine.as_run(clinic.run(mine)).name == "mine"


def test_what_is_known_of_a_patient_is_right():
    patient = PATIENTS["healthy"]
    assert patient.vocab_size == known_world().vocab_size
    assert patient.floor == pytest.approx(known_world().floor(32).mean())
    assert dataclasses.replace(patient, subject="topics").floor is None
    assert patient.pass_steps == 8192 / 16
    assert PATIENTS["overfitting"].pass_steps == 24 / 16
    assert PATIENTS["mean of means"].pass_steps == 8192 / (2 * 8)
    assert PATIENTS["plateau"].pass_steps == math.inf
    for subject, size in (("topics", 256), ("source", 256), ("pieces", 512)):
        other = dataclasses.replace(patient, subject=subject)
        assert (other.floor, other.vocab_size) == (None, size)
        seen = torch.tensor(batch(make(other, 0), 0))
        assert int(seen.min()) >= 0 and int(seen.max()) < size
    assert (PATIENTS["plateau"].floor, PATIENTS["plateau"].vocab_size) == (0.0, 2)


def test_a_text_and_its_validation_text_share_no_window():
    for name in ("world", "topics", "pieces"):
        subject = make(dataclasses.replace(PATIENTS["healthy"], subject=name), 0)
        seen = {tuple(row) for step in range(40) for row in batch(subject, step)}
        held_out = []
        subject.evaluate(spy(subject.model, held_out))
        assert held_out[0].shape == (64, 32)
        assert not seen & {tuple(row) for row in held_out[0].tolist()}


def batch(subject, step, seed=0):
    return subject.batches(step, torch.Generator().manual_seed(1000 * seed + step)).tolist()


def spy(model, seen):
    def forward(ids):
        seen.append(ids)
        return model(ids)

    return forward


def test_the_garbage_comes_for_ten_steps_in_the_middle():
    subject = make(PATIENTS["spike"], 0)
    world = known_world()

    def possible(step):
        return np.isfinite(world.nll(np.array(batch(subject, step)))).all()

    def try_possible(step):
        try:
            return possible(step)
        except ValueError:  # the world refuses a text that it cannot say
            return False

    assert [step for step in (0, 149, 150, 159, 160, 299) if not try_possible(step)] == [150, 159]


def test_an_unshifted_model_has_read_what_it_is_asked_for():
    subject = make(PATIENTS["unshifted"], 0)
    ids = torch.tensor(batch(subject, 0))
    read = []
    model = subject.model
    original = model.next_token_logits
    model.next_token_logits = lambda x: read.append(x) or original(x)
    subject.batch_loss(model, ids)
    assert torch.equal(read[0], ids)
    subject.evaluate(model)
    assert (read[1][:, 0] == model.start_id).all()  # the validation loss is honest


def test_mean_of_means_is_what_its_name_says_and_the_careful_way_is_there():
    careless = PATIENTS["mean of means"]
    careful = dataclasses.replace(careless, mean_of_means=False)
    a, b = make(careless, 0), make(careful, 0)
    lengths = set()
    for step in range(60):
        ids = torch.tensor(batch(a, step))
        lengths.add(ids.shape[1])
        mean, (total, n) = a.batch_loss(a.model, ids), b.batch_loss(b.model, ids)
        assert n == ids.numel()
        assert mean.item() == pytest.approx(total.item() / n, rel=1e-6)
    assert min(lengths) < 6 and max(lengths) > 28


def test_a_loss_that_stops_being_a_number_ends_the_history_with_it():
    history = clinic.run("plateau", learning_rate=1e30, optimizer="sgd", clip=None, steps=20, warm_up=0)
    assert math.isnan(history.losses[-1])
    assert np.isfinite(history.losses[:-1]).all()
    assert history.stopped
    assert len(history.steps) == len(history.losses) < 20
    run = PATIENTS["plateau"].as_run(history)
    assert curves.diagnose(run).kinds[0] == "divergence"


def test_what_is_no_patient_is_refused():
    with pytest.raises(ValueError, match="patient must be one of 'healthy'"):
        clinic.run("influenza")
    with pytest.raises(TypeError, match="'colour' is no attribute"):
        clinic.run("healthy", colour="red")
    with pytest.raises(ValueError, match="subject"):
        clinic.run("healthy", subject="poems")
    with pytest.raises(ValueError, match="steps"):
        clinic.run("healthy", steps=0)
