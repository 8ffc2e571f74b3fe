from libs.slurm.tally import WINDOW_S, Tally


def test_nothing_was_asked() -> None:
    """Without an answer there is no latency, not a latency of zero."""
    tally = Tally()
    tally.said_an_error("too early")
    seen = tally.seen(10.0)
    assert (seen.requests, seen.failures, seen.latency_s_p50, seen.latency_s_p95, seen.latency_s_max) == (
        0, {}, None, None, None,
    )  # fmt: skip


def test_one_answer() -> None:
    """A single answer is every quantile."""
    tally = Tally()
    tally.answered(10.0, 0.5)
    seen = tally.seen(10.0)
    assert (seen.latency_s_p50, seen.latency_s_p95, seen.latency_s_max) == (0.5, 0.5, 0.5)


def test_failures_by_kind_within_the_window() -> None:
    """Lost answers, bad codes and errors said in good HTTP are counted apart; what is older than the window is not."""
    tally = Tally()
    tally.answered(0.0, 9.0, "HTTP 500")
    for number in range(20):
        tally.answered(WINDOW_S, 0.1 * (number + 1))
    tally.said_an_error("an error in HTTP 200")
    tally.answered(WINDOW_S, 0.1, "HTTP 503")
    tally.failed(WINDOW_S, "answer lost")
    seen = tally.seen(WINDOW_S + 1)
    assert seen.requests == 22
    assert seen.failures == {"an error in HTTP 200": 1, "HTTP 503": 1, "answer lost": 1}
    assert seen.latency_s_max == 2.0
    assert seen.latency_s_p50 is not None and 0.9 < seen.latency_s_p50 < 1.1
    assert seen.latency_s_p95 is not None and 1.8 < seen.latency_s_p95 <= 2.0
