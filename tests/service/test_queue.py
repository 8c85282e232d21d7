"""Tests the queue of photos without the service."""

import pytest

pytest.importorskip("uvicorn", reason="needs the extra `service`")

from running import encode, wait_for

from colorizer_tf.service import queue as queue_module


@pytest.fixture
def make_tasks(tmp_path):
    def make(shapes):
        tasks = []
        for number, shape in enumerate(shapes):
            path = tmp_path / f"{number}.png"
            path.write_bytes(encode(shape, number))
            tasks.append(queue_module.Task(path, tmp_path / f"{number}_.png", shape))
        return tasks

    return make


def test_small_photos_go_past_large_ones(slow_colorizer, make_tasks, monkeypatch):
    monkeypatch.setattr(queue_module, "MAX_LANE_PIXELS", 3000)
    queue = queue_module.PhotoQueue(slow_colorizer)
    tasks = make_tasks([(40, 50)] * 3 + [(20, 30)] * 2)
    queue.submit(tasks)
    # Only one large photo is in progress at a time.
    wait_for(lambda: all(task.future.running() for task in tasks[3:]))
    assert [task.future.running() for task in tasks[:3]] == [True, False, False]
    tasks[1].cancel()
    assert len(queue) == 4
    slow_colorizer.go.set()
    for task in (*tasks[:1], *tasks[2:]):
        assert task.future.result(30).is_file()
    queue.close()
    assert len(queue) == 0


def test_the_queue_is_bounded_in_pixels_and_can_be_closed(slow_colorizer, make_tasks):
    queue = queue_module.PhotoQueue(slow_colorizer, max_pixels=3000)
    first, second = make_tasks([(60, 70), (40, 50)])
    queue.submit([first])  # an empty queue takes a photo of any size
    with pytest.raises(queue_module.QueueFullError):
        queue.submit([second])
    slow_colorizer.go.set()
    queue.close()
    assert first.result.is_file()
    with pytest.raises(queue_module.QueueFullError):
        queue.submit([second])
