"""Tests gathering photos and opening a run folder."""

import shutil

import pytest

import colorizer_tf as ct


@pytest.fixture
def photos(write_photos, tmp_path):
    write_photos(tmp_path / "photos", 40)
    return tmp_path / "photos"


def test_extra_photos_go_to_the_training_side(photos, write_photos, tmp_path):
    extra = tmp_path / "extra"
    shutil.copytree(photos, extra)
    for number, path in enumerate(sorted(extra.iterdir())[:20]):
        path.rename(extra / f"other_{number}.png")
    alone = ct.gather_photos(photos)

    both = ct.gather_photos(photos, str(extra))

    names = {path.name for path in both.train}
    held_out = {path.name for path in both.validation + both.test}
    assert held_out == {path.name for path in alone.validation + alone.test}
    assert held_out
    assert not names & held_out
    added = set(both.train) - set(alone.train)
    assert any(path.name.startswith("other_") for path in added)
    assert all(path.parent == extra for path in added)


def test_a_limit_keeps_that_many_from_all_over(photos):
    every = ct.gather_photos(photos).train
    some = ct.gather_photos(photos, limit=5).train
    assert len(some) <= 5
    assert set(some) <= set(every)
    assert every.index(some[-1]) > len(every) // 2


def test_a_run_folder_keeps_its_settings(tmp_path):
    folder, finished = ct.start_run(tmp_path / "run", {"batch_size": 4})
    assert (folder, finished) == (tmp_path / "run", 0)
    assert (folder / "settings.json").is_file()
