"""A collector of traces: takes OTLP over HTTP and decodes it with the format's own package.

with Collector() as collector:       `collector.endpoint` is its URL; `collector.spans` what it was sent, oldest first
                                     `collector.status = 503` refuses from then on; `collector.stalls = True` never answers
with Collector(issued.write(folder)):    the same over TLS, with this certificate
"""

import http.server
import ssl
import threading

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1 import trace_pb2 as proto

from kit.waiting import wait_until


class Span:
    """What a test wants to know of one."""

    def __init__(self, span, resource, headers):
        self.name = span.name
        self.trace, self.id, self.parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.kind = proto.Span.SpanKind.Name(span.kind)
        self.attributes = values(span.attributes)
        self.events = {event.name: event.time_unix_nano / 1e9 for event in span.events}
        self.status = proto.Status.StatusCode.Name(span.status.code)
        self.message = span.status.message
        self.begun, self.ended = span.start_time_unix_nano / 1e9, span.end_time_unix_nano / 1e9
        self.resource = values(resource.attributes)
        self.headers = headers

    def __repr__(self):
        return f"<Span {self.name} {self.trace}-{self.id} of {self.parent or 'nobody'}>"


def values(attributes):
    return {one.key: value(one.value) for one in attributes}


def value(given):
    kind = given.WhichOneof("value")
    if kind == "array_value":
        return [value(one) for one in given.array_value.values]
    return getattr(given, kind)


class Server(http.server.ThreadingHTTPServer):
    """A handshake that fails is its client's matter: it says nothing of it."""

    daemon_threads = True

    def handle_error(self, *_):
        pass


class Collector:
    def __init__(self, certificate=None):
        self.spans = []
        self.status = 200
        self.stalls = False
        self.requests = 0
        self.go = threading.Event()  # for those that it does not answer
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests += 1
                if collector.stalls:
                    collector.go.wait(60)
                if collector.status == 200:
                    collector.take(self.path, {name.lower(): text for name, text in self.headers.items()}, body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(collector.status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate["chain"], certificate["key"])
            # By the thread of the connection, not by the one that accepts.
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self.endpoint = f"{'https' if certificate else 'http'}://{self.address}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.go.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, path, headers, body):
        assert path == "/v1/traces"
        message = ExportTraceServiceRequest.FromString(body)
        self.spans += [
            Span(span, of.resource, headers)
            for of in message.resource_spans
            for scope in of.scope_spans
            for span in scope.spans
        ]

    def wait(self, many, seconds=20.0):
        wait_until(lambda: len(self.spans) >= many, lambda: f"{many} spans, not {self.spans}", seconds)
        return self.spans
