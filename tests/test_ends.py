"""However bulk work ends, nothing of it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from bulk import our_threads, wait_until
from peer import HANG, Peer, response

from mixpeek_batches import CancelResult, Client, ConfigurationError

_SCRIPT = """
import itertools, sys
from mixpeek_batches import Client
client = Client(api_key="sk_test", base_url=sys.argv[1])
results = client.cancel_batches(("bkt_1", str(number)) for number in itertools.count())
"""


@pytest.mark.parametrize(
    "body", ["next(results)", "for _ in results: raise ZeroDivisionError", "for _ in results: raise KeyboardInterrupt"]
)
def test_a_script_that_leaves_its_results_behind_exits(body: str) -> None:
    with Peer(response()) as peer:
        subprocess.run(
            [sys.executable, "-c", _SCRIPT + body, peer.url], check=False, timeout=5, stderr=subprocess.DEVNULL
        )


@pytest.mark.parametrize("answer", [response(), [HANG]])
def test_ctrl_c_ends_the_process(answer: bytes) -> None:
    with Peer(answer) as peer:
        process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT + "for _ in results: pass", peer.url], stderr=subprocess.DEVNULL
        )
        wait_until(lambda: len(peer.requests) > 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(3) == -signal.SIGINT


@pytest.mark.parametrize("answer", [response(), [HANG]])
def test_close_in_another_thread_ends_the_work(answer: bytes) -> None:
    with Peer(answer) as peer, Client(api_key="sk_test", base_url=peer.url) as client:
        threading.Timer(0.2, client.close).start()
        with pytest.raises(ConfigurationError, match="closed"):
            for _ in client.cancel_batches(("bkt_1", str(number)) for number in range(10**6)):
                pass
        wait_until(lambda: not our_threads() and not peer.open, 2)
        sent = len(peer.requests)
        time.sleep(0.2)
        assert len(peer.requests) == sent


def test_one_pair_takes_one_thread_and_one_connection() -> None:
    with Peer(response()) as peer, Client(api_key="sk_test", base_url=peer.url) as client:
        results = client.cancel_batches([("bkt_1", "btch_1")], concurrency=1000)
        assert next(results).canceled
        assert (len(our_threads()), peer.connections) == (1, 1)
        results.close()


def test_a_result_can_be_hashed() -> None:
    assert hash(CancelResult(bucket_identifier="bkt_1", batch_id="btch_1"))


def test_a_forked_child_opens_its_own_connection() -> None:
    with Peer(response()) as peer, Client(api_key="sk_test", base_url=peer.url) as client:
        client.cancel_batch("bkt_1", "parent")
        child = os.fork()
        if not child:
            client.cancel_batch("bkt_1", "child")
            client.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        client.cancel_batch("bkt_1", "parent")
        assert peer.connections == 2
