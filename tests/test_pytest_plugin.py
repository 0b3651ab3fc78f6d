"""The pytest fixture `mixpeek_mock`, in test runs of its own."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]
# As pytest finds it by itself: by its entry point. The other plugins that are installed here take seconds to load.
ALONE = ("--disable-plugin-autoload", "-p", "mixpeek_batches", "-p", "no:cacheprovider", "-W", "error")


def test_fixture(pytester: pytest.Pytester) -> None:
    """A test that names it gets a running mock, empty at the start of each test, whatever the one before did to it."""
    pytester.makepyfile(
        """
        import httpx
        import pytest
        from mixpeek_batches import Client, TaskStatus
        from mixpeek_batches.mock import MockServer

        def test_cancel(mixpeek_mock):
            assert isinstance(mixpeek_mock, MockServer)
            mixpeek_mock.add_batch("bkt", "btch", status="IN_PROGRESS")
            with Client(api_key=mixpeek_mock.api_key, base_url=mixpeek_mock.url) as client:
                assert client.cancel_batch("bkt", "btch").status is TaskStatus.CANCELED

        @pytest.mark.parametrize("number", range(3))
        def test_empty(mixpeek_mock, number):
            mock = mixpeek_mock
            assert (mock.batches, mock.requests, mock.faults, mock.on_request) == ([], [], [], None)
            mock.on_request = print
            headers = {"Authorization": "Bearer sk_mine", "X-Namespace": "mine"}
            assert httpx.post(mock.url + "/v1/buckets/a/batches/b/cancel", headers=headers).status_code == 401
            mock.add_batch("a", "b", namespace="mine")
            mock.add_key("sk_mine", namespaces=["mine"])
            mock.fail_next("reset")

        @pytest.mark.parametrize("number", range(2))
        def test_stopped_to_see_what_code_does_without_an_api(mixpeek_mock, number):
            url = mixpeek_mock.url
            assert httpx.post(url).status_code == 404
            mixpeek_mock.stop()
            with pytest.raises(httpx.ConnectError):
                httpx.post(url)
        """
    )
    pytester.runpytest_subprocess(*ALONE).assert_outcomes(passed=6)


def test_run_without_the_fixture_imports_no_server(pytester: pytest.Pytester) -> None:
    """A run that does not use the fixture imports neither the mock nor what it needs; `--fixtures` tells what it is."""
    pytester.makepyfile(
        """
        import sys

        def test_nothing_is_loaded(request):
            assert request.config.pluginmanager.has_plugin("mixpeek_batches")
            assert not {"mixpeek_batches.mock", "starlette", "uvicorn"} & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess(*ALONE).assert_outcomes(passed=1)
    done = pytester.runpytest_subprocess("--fixtures", *ALONE)
    done.stdout.fnmatch_lines(["mixpeek_mock -- *", "    A mock of the Mixpeek API on a port of this machine*"])
