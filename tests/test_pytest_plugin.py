"""The pytest fixture `mixpeek_mock`, in test runs of its own."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]


def _passes(pytester: pytest.Pytester, source: str, passed: int) -> None:
    pytester.makepyfile(source)
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error").assert_outcomes(passed=passed)


def test_the_fixture_needs_no_configuration(pytester: pytest.Pytester) -> None:
    """A test that names the fixture gets a running mock, which the package's client cancels a batch on."""
    _passes(
        pytester,
        """
        from mixpeek_batches import Client, TaskStatus
        from mixpeek_batches.mock import MockServer

        def test_cancel(mixpeek_mock):
            assert isinstance(mixpeek_mock, MockServer)
            mixpeek_mock.add_batch("bkt", "btch", status="IN_PROGRESS")
            with Client(api_key=mixpeek_mock.api_key, base_url=mixpeek_mock.url) as client:
                assert client.cancel_batch("bkt", "btch").status is TaskStatus.CANCELED
        """,
        1,
    )


def test_the_fixture_is_listed(pytester: pytest.Pytester) -> None:
    """`pytest --fixtures` tells what the fixture is."""
    done = pytester.runpytest_subprocess("--fixtures", "-p", "no:cacheprovider")
    done.stdout.fnmatch_lines(["mixpeek_mock -- *", "    A mock of the Mixpeek API on a port of this machine*"])


def test_the_mock_is_empty_at_the_start_of_each_test(pytester: pytest.Pytester) -> None:
    """Nothing that one test puts into the mock is there in the next, not even a plan that was not used."""
    _passes(
        pytester,
        """
        import httpx
        import pytest

        @pytest.mark.parametrize("number", range(3))
        def test_empty(mixpeek_mock, number):
            mock = mixpeek_mock
            assert (mock.batches, mock.requests, mock.faults) == ([], [], [])
            headers = {"Authorization": "Bearer sk_mine", "X-Namespace": "mine"}
            assert httpx.post(mock.url + "/v1/buckets/a/batches/b/cancel", headers=headers).status_code == 401
            mock.add_batch("a", "b", namespace="mine")
            mock.add_key("sk_mine", namespaces=["mine"])
            mock.fail_next("reset")
        """,
        3,
    )


def test_a_mock_that_a_test_stopped(pytester: pytest.Pytester) -> None:
    """A test that stops the mock, to see what its code does without an API, does not break the next one."""
    _passes(
        pytester,
        """
        import httpx
        import pytest

        @pytest.mark.parametrize("number", range(2))
        def test_down(mixpeek_mock, number):
            url = mixpeek_mock.url
            assert httpx.post(url).status_code == 404
            mixpeek_mock.stop()
            with pytest.raises(httpx.ConnectError):
                httpx.post(url)
        """,
        2,
    )


def test_a_run_without_the_fixture_loads_no_server(pytester: pytest.Pytester) -> None:
    """A run that does not use the fixture imports neither the mock nor what it needs."""
    pytester.makepyfile(
        """
        import sys

        def test_nothing_is_loaded(request):
            assert request.config.pluginmanager.has_plugin("mixpeek_batches")
            assert not {"mixpeek_batches.mock", "starlette", "uvicorn"} & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error").assert_outcomes(passed=1)
