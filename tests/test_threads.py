"""Threads that share a network: each finds what one thread alone finds."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import bpx
from bpx import layers
from bpx.backends import _threads

READERS = 8


@pytest.mark.parametrize("rows", [1, 7, 300])
def test_eight_predict_while_a_ninth_trains_a_copy(backend, put, host, rng, rows):
    middle = [layers.Dense(40, "relu"), layers.Dropout(0.2), layers.Dense(30, "tanh")]
    chain = [layers.Input(20), layers.Rescale(0.5, 0.1), *middle, layers.Dense(5, "softmax")]
    net = bpx.Network(chain, backend=backend, seed=0)
    x, y = rng.normal(size=(300, 20)), rng.integers(5, size=300)
    given = [put(x[k : k + rows]) for k in range(0, READERS * min(rows, 30), min(rows, 30))]
    expected = [host(net.feedforward(each)).tobytes() for each in given]
    before = host(net.parameters).copy()
    trained = net.copy()
    wrong: list[object] = []
    begin, done = threading.Barrier(READERS + 1), threading.Event()

    def predict(k):
        begin.wait()
        rounds = 0
        try:
            while rounds < 5 or not done.is_set():
                if host(net.feedforward(given[k])).tobytes() != expected[k]:
                    wrong.append(k)
                rounds += 1
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=predict, args=(k,)) for k in range(READERS)]
    for thread in threads:
        thread.start()
    begin.wait()
    try:
        trained.fit(x, y, epochs=3, batch_size=20, optimizer=bpx.Adam(0.01))
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert np.array_equal(host(net.parameters), before)
    alone = bpx.Network(chain, backend=backend, seed=0).copy()
    alone.fit(x, y, epochs=3, batch_size=20, optimizer=bpx.Adam(0.01))
    assert np.array_equal(host(trained.parameters), host(alone.parameters))


def test_work_that_is_spread():
    """Each part with BLAS on its own thread, and all have ended when it returns or raises."""
    pytest.importorskip("threadpoolctl", reason="without it BLAS has no limit")
    before, seen, ended = _threads.count(), {}, []

    def work(k):
        libraries = {library.num_threads for library in _threads._libraries()}
        seen[k] = threading.get_ident(), libraries, _threads.count(), np.geterr()["over"]
        ended.append(k)
        if k == 1:
            raise ValueError("of a part")

    with np.errstate(over="ignore"), pytest.raises(ValueError, match="of a part"):
        _threads.spread(work, 3)
    assert sorted(ended) == [0, 1, 2]
    assert seen[0][0] == threading.get_ident() not in (seen[1][0], seen[2][0])
    assert all(told[1:] == ({1}, before, "ignore") for told in seen.values())
    assert _threads.count() == before

    with _threads.limited(1):  # and a run's own limit is back after it
        _threads.spread(lambda k: None, 2)
        assert {library.num_threads for library in _threads._libraries()} == {1}
    assert _threads.count() == before
