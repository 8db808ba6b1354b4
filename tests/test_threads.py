"""Threads that share a network: each finds what one thread alone finds."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import linecache
import os
import signal
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import bpx
from bpx import layers
from bpx.backends import _threads
from bpx.backends._numpy import NumpyBackend
from bpx.chain import IDLE, KEPT, Chain

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
    epochs = 1 if "strict" in backend.name else 3  # there each operation is a function in Python
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
        trained.fit(x, y, epochs=epochs, batch_size=20, optimizer=bpx.Adam(0.01))
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert np.array_equal(host(net.parameters), before)
    alone = bpx.Network(chain, backend=backend, seed=0).copy()
    alone.fit(x, y, epochs=epochs, batch_size=20, optimizer=bpx.Adam(0.01))
    assert np.array_equal(host(trained.parameters), host(alone.parameters))


def test_small_predictions_leave_their_buffers_to_the_next(rng):
    """Which is in one thread at a time; a large one, and one that fails, leaves none."""
    image = [layers.Input((1, 9, 9)), layers.Conv2D(3, 3, "tanh"), layers.BatchNorm()]
    net = bpx.Network([*image, layers.Flatten(), layers.Dense(4, "softmax")], seed=0)
    x = rng.normal(size=(600, 1, 9, 9))
    whole = net(x)
    assert net.chain._idle == []
    ones = [net(x[k : k + 1]) for k in range(8)]
    (kept,) = net.chain._idle
    assert np.allclose(np.concatenate(ones), whole[:8], rtol=0, atol=1e-6)
    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(lambda k: net(x[k % 8 : k % 8 + 1]), range(400)))
    assert all(np.array_equal(a, ones[k % 8]) for k, a in enumerate(found))
    assert kept in net.chain._idle
    assert len(net.chain._idle) <= READERS
    before = len(net.chain._idle)
    with pytest.raises(ValueError, match="x has NaN"):
        net(x[:1] * np.nan)
    assert len(net.chain._idle) == before - 1
    net.parameters = np.zeros_like(net.parameters)
    assert np.array_equal(net(x[:1]), [[0.25] * 4])  # the buffers hold no weights
    wide = [layers.Input(50_000), layers.Dense(2), layers.LayerNorm(), layers.Dense(2)]
    wide = bpx.Network(wide, seed=0)
    wide(np.zeros((6, 50_000), np.uint8))
    assert wide.chain._idle == []
    several = [layers.Conv2D(16, 5, padding="same") for _ in range(10)]
    deep = [layers.Input((16, 20, 20)), *several, layers.Flatten(), layers.Dense(2)]
    deep = bpx.Network(deep, seed=0)  # whose layers have few outputs each
    deep(np.zeros((1, 16, 20, 20)))
    assert deep.chain._idle == [] or deep.chain._idle[0].elements <= KEPT


def test_no_more_buffers_are_kept_than_a_few(rng):
    net = [layers.Input((1, 4, 4)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(2)]
    net = bpx.Network(net, seed=0)
    begin, x = threading.Barrier(20), rng.normal(size=(1, 1, 4, 4))
    lent = net.chain._lent

    def together():
        begin.wait(10)  # until all of them have one
        return lent()

    net.chain._lent = together
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: net(x), range(20)))
    assert 0 < len(net.chain._idle) <= IDLE


def test_an_own_activation_may_keep_what_it_is_lent(rng):
    kept = []

    def recorded(xp, z):
        kept.append(z)
        return z * 1.0

    own = bpx.CustomActivation(recorded, lambda xp, z, a: xp.ones_like(z))
    image = [layers.Input((1, 6, 6)), layers.Conv2D(2, 3, own), layers.Flatten(), layers.Dense(2)]
    net = bpx.Network(image, seed=0)
    x = rng.normal(size=(2, 1, 6, 6))
    net(x[:1])
    before = kept[-1].copy()
    net(x[1:])
    assert np.array_equal(kept[0], before)


def test_a_memory_map_leaves_no_buffers_with_another_library(backend, tmp_path):
    """On a device another stream might write to them too soon."""
    np.save(tmp_path / "x.npy", np.ones((1, 5)))
    chain = [layers.Input(5), layers.Dense(3), layers.LayerNorm(), layers.Dense(2)]
    net = bpx.Network(chain, backend=backend, seed=0)
    net(np.load(tmp_path / "x.npy", mmap_mode="r"))
    assert net.chain._idle == [] or net.backend.xp is np


def test_work_that_is_spread(monkeypatch):
    """Each part with BLAS on its own thread, and all have ended when it returns or raises."""
    pytest.importorskip("threadpoolctl", reason="without it BLAS has no limit")
    monkeypatch.setattr(_threads, "MOST", _threads._workers + 2)
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
    # What is spread within a part, as by a cost that asks a second network, stays on its thread.
    for k in range(3):
        assert seen[k][1:] == ({1}, 1, "ignore")
    assert _threads.count() == before

    with _threads.limited(1):  # and a run's own limit is back after it
        _threads.spread(lambda k: None, 2)
        assert {library.num_threads for library in _threads._libraries()} == {1}
    assert _threads.count() == before


def test_who_has_ended_early_watches_before_it_sleeps(monkeypatch):
    """And waits for the other part, whether it has seen its end or not."""
    monkeypatch.setattr(_threads, "MOST", _threads._workers + 2)
    for patient, parts in ((True, 2), (False, 2), (True, 3), (False, 3)):
        seen, ended, go_on = [], [], threading.Event()

        def work(k, ended=ended, go_on=go_on):
            if k > 0:
                go_on.wait(60)
                ended.append(k)

        def watch(address, seen=seen, go_on=go_on, patient=patient):
            number = ctypes.c_int64.from_address(address)
            seen.append(number.value)
            if patient:
                go_on.set()
                while number.value == 0:
                    time.sleep(0.001)
            seen.append(number.value)
            go_on.set()

        _threads.spread(work, parts, watch)
        assert sorted(ended) == [*range(1, parts)]
        assert seen[:2] == [0, int(patient)]
        assert patient or len(seen) == 2  # it sleeps rather than look for the next one's end


def test_compiled_code_watches_a_number(monkeypatch):
    pytest.importorskip("numba", reason="Numba is not installed: pip install numba")
    from bpx.backends import _fast, _machine_code

    number = np.zeros(1, np.int64)
    watch = _machine_code.load("_numba_threads", "watch").call
    watch(number.ctypes.data)  # comes to an end by itself
    number[0] = 1
    watch(number.ctypes.data)
    given = []
    monkeypatch.setattr(_threads, "spread", lambda work, parts, watch: given.append(watch))
    _fast.FastBackend().side_by_side(lambda k, part: None, [[slice(1)], [slice(1, 2)]])
    NumpyBackend().side_by_side(lambda k, part: None, [[slice(1)], [slice(1, 2)]])
    assert given == [watch, None]


def test_a_limit_counts_in_whatever_thread_it_is_set():
    """Also in another than the first that set one; and it may end in another than it began in."""
    pytest.importorskip("threadpoolctl", reason="without it BLAS has no limit")

    def threads():
        return {library.num_threads for library in _threads._libraries()}

    before, seen = threads(), []
    with _threads.limited(1):
        pass
    begun, go_on = threading.Event(), threading.Event()

    def run():
        with _threads.limited(1):
            seen.append(threads())
            begun.set()
            go_on.wait(60)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(60)
    with _threads.limited(1):
        go_on.set()
        thread.join()
        seen.append(threads())
    assert seen == [{1}, {1}]
    assert threads() == before


def test_parts_for_which_no_thread_is_free(monkeypatch):
    """They follow on the calling one; whoever has spread work gives its threads back."""
    monkeypatch.setattr(_threads, "MOST", _threads._workers)
    threads = [threading.get_ident()] * 6

    def note(k):
        threads[k] = threading.get_ident()

    _threads.spread(note, 6)
    free = len(_threads._idle)
    assert len(set(threads)) == 1 + min(5, free)
    with monkeypatch.context() as patch:
        patch.setattr(_threads, "_idle", [])
        _threads.spread(note, 6)
    assert set(threads) == {threading.get_ident()}
    assert len(_threads._idle) == free


def test_a_system_without_another_thread(monkeypatch):
    """The calling one does all of it."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_threads, "MOST", _threads._workers + 1)
    monkeypatch.setattr(_threads, "_idle", [])
    monkeypatch.setattr(threading.Thread, "start", refuse)
    threads = []
    _threads.spread(lambda k: threads.append(threading.get_ident()), 3)
    assert threads == [threading.get_ident()] * 3
    assert _threads._idle == []


def test_an_error_of_a_part_holds_no_arrays():
    """They are gone with it, and do not wait for the collector."""

    def failing():
        x = np.zeros(3)

        def work(k):
            if k:
                raise ValueError(f"of {x[k]}")

        with pytest.raises(ValueError, match=r"of 0\.0"):
            _threads.spread(work, 2)
        return weakref.ref(x)

    gc.disable()
    try:
        assert failing()() is None
    finally:
        gc.enable()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
def test_ctrl_c_waits_for_the_parts():
    """They write into arrays that the caller then has again."""
    ended = []

    def work(k):
        if k:
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            ended.append(k)

    with pytest.raises(KeyboardInterrupt):
        _threads.spread(work, 2)
    assert ended == [1]
    _threads.spread(ended.append, 2)  # and the thread is there again
    assert sorted(ended) == [0, 1, 1]


def test_ctrl_c_at_each_line():
    """Wherever it comes, all workers are there again and BLAS has its threads."""
    pytest.importorskip("threadpoolctl", reason="without it BLAS has no limit")

    def spread_in_a_run():
        with _threads.limited(1):
            _threads.spread(lambda k: None, 2)

    def interrupted(line):
        """Whether there were that many lines. In a thread, so that one that hangs is found."""
        seen = []

        def trace(frame, event, argument):
            if frame.f_code.co_filename != _threads.__file__:
                return None
            # Signals are looked for where a function is called or a loop goes round.
            text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).split()
            if event == "line" and text[0] not in ("with", "try:"):
                seen.append(text)
                if len(seen) == line:
                    raise KeyboardInterrupt
            return trace

        def run():
            sys.settrace(trace)
            with contextlib.suppress(KeyboardInterrupt):
                spread_in_a_run()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive(), f"it hangs after Ctrl-C at {seen[line - 1]}"
        return len(seen) >= line

    spread_in_a_run()
    before, workers, line = _threads.count(), len(_threads._idle), 1
    while interrupted(line):
        assert _threads.count() == before, f"at line {line} of those that were run"
        assert workers <= len(_threads._idle) <= _threads._workers
        line += 1
    assert line > 50
    assert spread_in_time()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_has_threads_of_its_own():
    _threads.spread(lambda k: None, 2)
    child = os.fork()
    if not child:
        os._exit(0 if spread_in_time() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_of_a_process_that_trains():
    """It has neither the lock, which another thread held, nor the limit of its run."""
    pytest.importorskip("threadpoolctl", reason="without it BLAS has no limit")
    before, held, go_on = _threads.of_blas(), threading.Event(), threading.Event()

    def train():
        with _threads.limited(1), _threads._lock:
            held.set()
            go_on.wait(60)

    thread = threading.Thread(target=train)
    thread.start()
    assert held.wait(60)
    try:
        child = os.fork()
        if not child:
            signal.alarm(20)  # or it would wait for ever, and the test for it
            os._exit(0 if spread_in_time() and _threads.of_blas() == before else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        go_on.set()
        thread.join()


def spread_in_time():
    done = []
    thread = threading.Thread(target=lambda: _threads.spread(done.append, 2), daemon=True)
    thread.start()
    thread.join(30)
    return sorted(done) == [0, 1]


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_cores_share_the_slices_of_a_pass(monkeypatch, rng, task):
    """Each row and each sum come out as on one core, and what one of them raises is raised."""
    middle, n = [layers.Rescale(0.5), layers.Dense(64, "tanh"), layers.Dropout(0.5)], 5000
    activation = "softmax" if task == "classification" else "identity"
    chain = [layers.Input(20), *middle, layers.Dense(3, activation)]
    cost = "cross-entropy" if task == "classification" else "quadratic"
    net = bpx.Network(chain, cost=cost, backend=NumpyBackend(), seed=0)
    x, weight = rng.normal(size=(n, 20)), rng.uniform(size=n)
    y = rng.integers(3, size=n) if task == "classification" else rng.normal(size=(n, 3))
    seen = set()

    def noted(self, x, ws, forward=Chain.forward):
        seen.add((threading.get_ident(), len(x)))
        return forward(self, x, ws)

    found = []
    for cores in (1, 3):
        monkeypatch.setattr(_threads, "count", lambda cores=cores: cores)
        found.append((net.feedforward(x), net.evaluate(x, y, sample_weight=weight)))
        monkeypatch.setattr(Chain, "forward", noted)
    assert len({thread for thread, _ in seen}) > 1
    assert {rows for _, rows in seen} == {1024, 5000 - 4 * 1024}
    (expected, sums), (outputs, spread) = found
    assert np.array_equal(outputs, expected)  # or they would depend on what other threads do
    assert spread == sums

    def broken(self, x, ws):
        raise MemoryError("no room")

    monkeypatch.setattr(Chain, "forward", broken)
    with pytest.raises(MemoryError, match="no room"):
        net.predict(x)


def test_ctrl_c_at_the_end_of_a_run_is_not_lost(monkeypatch):
    ended, calls = _threads._ended, []

    def interrupted(run):
        calls.append(run)
        if len(calls) == 1:
            raise KeyboardInterrupt
        ended(run)

    monkeypatch.setattr(_threads, "_ended", interrupted)
    with pytest.raises(KeyboardInterrupt), _threads.limited(1):
        pass
    assert len(calls) == 2
