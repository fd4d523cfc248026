"""What tracing needs is looked for at the start, and its absence is one line."""

from tcp_proxy.config.log_model import Tracing
from tcp_proxy.control.tracing import requirements
from tcp_proxy.control.tracing.requirements import tracing_faults


def test_what_is_missing_has_its_line(tmp_path, monkeypatch):
    assert tracing_faults(None) == []
    assert tracing_faults(Tracing("http://a/v1/traces")) == []
    lacking = str(tmp_path / "ca.pem")
    assert tracing_faults(Tracing("https://a/v1/traces", ca=lacking)) == [f"$.tracing.ca: {lacking} cannot be read"]
    for name in ("json.no_such_part", "no_such_package", "no_such_package.part"):
        monkeypatch.setattr(requirements, "NEEDED", name)
        (fault,) = tracing_faults(Tracing("http://a/v1/traces"))
        assert fault == "$.tracing: it needs opentelemetry-exporter-otlp-proto-http: pip install 'tcp_proxy[otel]' brings it"
