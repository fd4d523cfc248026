"""The answers of the load programs, as they print them, become figures; their errors become failures."""

import json

import pytest

from benchmarks.loads import Bytes, Requests, RoundTrips, parse_iperf3, parse_sockperf, parse_wrk
from benchmarks.programs import Failed

WRK = """\
Running 1s test @ http://127.0.0.1:17313/
  1 threads and 50 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     0.95ms  650.13us   5.76ms   70.74%
    Req/Sec    19.78k     2.54k   21.84k    80.00%
  Latency Distribution
     50%  803.00us
     75%    1.35ms
     90%    1.68ms
     99%    2.99ms
  19643 requests in 1.00s, 2.77MB read
Requests/sec:  19602.99
Transfer/sec:      2.77MB
"""
SOCKPERF = """\
sockperf: \x1b[2;35m== version #3.7-no.git == \x1b[0m
sockperf: [Valid Duration] RunTime=0.550 sec; SentMessages=9040; ReceivedMessages=9040
sockperf: # dropped messages = 0; # duplicated messages = 0; # out-of-order messages = 0
sockperf: \x1b[2;35mTotal 9040 observations\x1b[0m; each percentile contains 90.40 observations
sockperf: ---> <MAX> observation = 1975.956
sockperf: ---> percentile 99.999 = 1975.956
sockperf: ---> percentile 99.000 =   67.279
sockperf: ---> percentile 50.000 =   27.681
"""


def test_wrk():
    assert parse_wrk(WRK) == Requests(count=19643, rate=19602.99, p50=803.0, p99=2990.0)


def test_wrk_that_took_seconds():
    """It puts a blank behind such a value."""
    assert parse_wrk(WRK.replace("99%    2.99ms", "99%    1.03s ")).p99 == 1.03e6


@pytest.mark.parametrize(
    "line",
    ["  Socket errors: connect 0, read 3, write 0, timeout 0", "  Non-2xx or 3xx responses: 12"],
)
def test_wrk_errors(line):
    with pytest.raises(Failed, match=line.strip()):
        parse_wrk(WRK.replace("Requests/sec", f"{line}\nRequests/sec"))


def test_wrk_without_an_answer():
    with pytest.raises(Failed, match="not one request"):
        parse_wrk(WRK.replace("19643 requests", "0 requests"))


def test_iperf3():
    told = {"end": {"sum_received": {"bytes": 4000, "bits_per_second": 16000.0}}}
    assert parse_iperf3(json.dumps(told)) == Bytes(count=4000, rate=2000.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"end": {}, "error": "unable to connect to server: Connection refused"}', "Connection refused"),
        ('{"end": {"sum_received": {"bytes": 0, "bits_per_second": 0}}}', "not one byte"),
        ("Segmentation fault", "no JSON"),
    ],
)
def test_iperf3_errors(text, told):
    with pytest.raises(Failed, match=told):
        parse_iperf3(text)


def test_sockperf():
    assert parse_sockperf(SOCKPERF) == RoundTrips(count=9040, p50=27.681, p99=67.279)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sockperf: ERROR: Can`t connect socket (errno=111 Connection refused)", "errno=111"),
        (SOCKPERF.replace("dropped messages = 0", "dropped messages = 7"), "dropped"),
        ("sockperf: Test ended", "nothing like"),
    ],
)
def test_sockperf_errors(text, told):
    with pytest.raises(Failed, match=told):
        parse_sockperf(text)
