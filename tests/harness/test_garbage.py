"""Garbage collection is paused while a command starts, and goes on after that, whatever happens."""

import gc

import pytest

from ambi_eval.harness.garbage import paused, paused_until_started, started


@pytest.fixture(autouse=True)
def collecting():
    assert gc.isenabled()
    gc.unfreeze()
    yield
    assert gc.isenabled()
    gc.unfreeze()


def test_nothing_is_collected_inside_the_pause_and_everything_after_it():
    with paused():
        assert not gc.isenabled()
        with paused():
            pass
        assert not gc.isenabled()


def test_a_command_that_has_started_collects_again_and_leaves_out_what_was_there():
    with paused_until_started():
        assert not gc.isenabled()
        started()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 10_000


def test_a_second_command_of_a_process_frees_what_the_first_one_left():
    with paused_until_started():
        started()
    with paused_until_started():
        assert gc.get_freeze_count() == 0


def test_a_command_that_ends_before_it_has_started_leaves_the_collection_on():
    with pytest.raises(ValueError, match="early"), paused_until_started():
        raise ValueError("early")


def test_a_program_that_collects_nothing_by_its_own_choice_is_left_alone():
    gc.disable()
    try:
        with paused(), paused_until_started():
            started()
        started()
        assert not gc.isenabled()
    finally:
        gc.enable()
