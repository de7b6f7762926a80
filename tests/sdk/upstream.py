"""The scripted upstream: a provider in seven dialects that notes what it is asked.

What it answers follows from the request: it calls a tool that is offered and then tells its result, fills a schema,
tells which images it sees, thinks when it is asked to, and refuses thoughts that do not come back as they were. The end
of the model's name chooses a failure: `fail-STATUS`, `flaky` (429 every first time), `broken` (an error in mid-stream).
`GET /seen` gives what it was asked since the last time.
"""

import dataclasses
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from dialects import DIALECTS, SIGNATURE, Call, Text, Thought, pieces, texts

MESSAGES = {
    400: ("invalid_request_error", "temperature: must be a number that the upstream likes"),
    401: ("invalid_request_error", "invalid API key provided"),
    404: ("invalid_request_error", "the model does not exist, says the upstream"),
    429: ("rate_limit_error", "too many requests, says the upstream"),
    503: ("server_error", "the upstream is overloaded"),
}
lock = threading.Lock()
seen = []
flaky = {}


def fill(schema, root=None):
    """The least value that a JSON Schema (or OpenAPI's way of it) allows."""
    root = root or schema
    if ref := schema.get("$ref"):
        found = root
        for name in ref.removeprefix("#/").split("/"):
            found = found[name]
        return fill(found, root)
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return fill(schema[union][0], root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = (kind[0] if isinstance(kind, list) else kind).lower()
    if kind == "object":
        return {name: fill(one, root) for name, one in schema.get("properties", {}).items()}
    if kind == "array":
        return [fill(schema["items"], root)]
    return {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "null": None}[kind]


def plain(result):
    """What a tool said, without the object that some dialects want around it."""
    try:
        *_, told = json.loads(result).values()
        return str(told)
    except (ValueError, AttributeError):
        return result


def answer(ask):
    """The blocks of the answer."""
    blocks = [Thought("Let me think about the harbour.", SIGNATURE)] if ask.thinks else []
    if ask.results:
        return blocks + [Text("The tools said: " + ", ".join(map(plain, ask.results)))]
    if ask.tools and ask.forced != "none":
        names = [ask.forced] if ask.forced in ask.tools else list(ask.tools)
        if "both" not in "".join(ask.said[-1:]):
            names = names[:1]
        return blocks + [Call(f"call_{n}", name, fill(ask.tools[name] or {})) for n, name in enumerate(names)]
    if ask.schema:
        return blocks + [Text(json.dumps(fill(ask.schema)))]
    if ask.images:
        return blocks + [Text("I see " + ", ".join(kind for kind, _ in ask.images))]
    orders = f"({ask.system}) " if ask.system else ""
    return blocks + [Text(f"Turn {len(ask.said)}: {orders}{ask.said[-1]}")]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        with lock:
            told = [*seen]
            seen.clear()
        self.say(200, told)

    def do_POST(self):
        path = unquote(urlsplit(self.path).path)
        provider = path.split("/")[1]
        dialect = DIALECTS[provider]()
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        try:
            if told := dialect.count(path):
                with lock:
                    seen.append({"provider": provider, "path": path, "body": body})
                return self.say(200, told)
            ask = dialect.read(path, body)
        except Exception as error:  # Whatever is wrong with a request, the test shall see it.
            return self.fail(dialect, 400, f"not a request of this dialect: {error!r}: {json.dumps(body)}")
        with lock:
            seen.append({"provider": provider, "path": path, "body": body, "ask": dataclasses.asdict(ask)})
        if any(signature != SIGNATURE for signature in ask.signatures):
            return self.fail(dialect, 400, "a signature is not the upstream's")
        if found := re.search(r"fail-(\d+)$", ask.model):
            return self.fail(dialect, int(found[1]))
        if ask.model.endswith("flaky"):
            with lock:
                flaky[provider] = not flaky.get(provider)
            if flaky[provider]:
                return self.fail(dialect, 429)
        blocks = answer(ask)
        if not ask.stream:
            return self.say(200, dialect.whole(ask, blocks), dialect.headers(200))
        events = list(dialect.events(ask, blocks))
        if ask.model.endswith("broken"):
            # After half of the text.
            events = events[: len(events) - len(pieces(texts(blocks))) // 2 - 3]
            events.append(dialect.broken("the upstream is overloaded"))
        self.stream(dialect, events)

    def fail(self, dialect, status, message=None):
        kind, usual = MESSAGES[status]
        headers = dialect.headers(status) | ({"retry-after": "1"} if status == 429 else {})
        self.say(status, dialect.error(status, kind, message or usual), headers)

    def say(self, status, body, headers={}):
        body = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": len(body), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, dialect, events):
        self.send_response(200)
        self.send_header("content-type", dialect.content_type)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
        self.wfile.write(b"0\r\n\r\n")


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.daemon_threads = True
    server.serve_forever()
