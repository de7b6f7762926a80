"""The seven provider dialects of the scripted upstream, written down a second time, apart from the gateway's own code.

Each dialect reads a request into an `Ask`, and writes an answer (a list of blocks) whole or as a stream. An upstream
that shared the gateway's reading of a dialect would agree with its mistakes.
"""

import base64
import binascii
import json
import re
import struct
import uuid
from dataclasses import dataclass, field

CREATED = 1_790_000_000
USAGE = {"input": 7, "output": 11}


@dataclass
class Ask:
    """What a request says, whatever its dialect."""

    model: str = ""
    stream: bool = False
    system: str = ""
    said: list = field(default_factory=list)
    # [media type, base64] or ["url", address]
    images: list = field(default_factory=list)
    tools: dict = field(default_factory=dict)
    # The name of a tool, "any", "none", or nothing.
    forced: str | None = None
    results: list = field(default_factory=list)
    schema: dict | None = None
    thinks: bool = False
    # What came back of earlier thoughts: signatures, or the encryption that stands for one.
    signatures: list = field(default_factory=list)


@dataclass
class Thought:
    text: str
    signature: str


@dataclass
class Text:
    text: str


@dataclass
class Call:
    id: str
    name: str
    arguments: dict

    @property
    def json(self):
        return json.dumps(self.arguments, ensure_ascii=False)


def pieces(text):
    return re.findall(r"\S+\s*", text)


def halves(text):
    return [text[: len(text) // 2], text[len(text) // 2 :]]


def parts(content):
    """The parts of a message's content, which may be text alone."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content or []


def is_called(blocks):
    return any(isinstance(block, Call) for block in blocks)


def texts(blocks):
    return "".join(block.text for block in blocks if isinstance(block, Text))


def thoughts(blocks):
    return "".join(block.text for block in blocks if isinstance(block, Thought))


def data_url(url):
    found = re.fullmatch(r"data:([^;]+);base64,(.*)", url)
    return list(found.groups()) if found else ["url", url]


def sse(event, name=None):
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode()


class Dialect:
    content_type = "text/event-stream"
    # Where thoughts are signed, they must come back as they were.
    signs = True

    def count(self, path):
        """The answer to a call that counts tokens; nothing where this is none."""

    def headers(self, status):
        return {"x-request-id": "req_1"}


class Chat(Dialect):
    """OpenAI Chat Completions; thoughts as DeepSeek shows them."""

    signs = False

    def read(self, path, body):
        ask = Ask(model=body["model"], stream=body.get("stream", False))
        for message in body["messages"]:
            text = "".join(part.get("text", "") for part in parts(message.get("content")))
            if message["role"] in ("system", "developer"):
                ask.system += text
            elif message["role"] == "tool":
                ask.results.append(text)
            elif message["role"] == "user":
                ask.said.append(text)
                ask.results.clear()
                urls = [part["image_url"]["url"] for part in parts(message["content"]) if part["type"] == "image_url"]
                ask.images += map(data_url, urls)
        self.tools(ask, body)
        if (form := body.get("response_format") or {}).get("type") == "json_schema":
            ask.schema = form["json_schema"]["schema"]
        ask.thinks = body.get("reasoning_effort", "none") != "none"
        self.counts = (body.get("stream_options") or {}).get("include_usage")
        return ask

    def tools(self, ask, body):
        ask.tools = {tool["function"]["name"]: tool["function"].get("parameters") for tool in body.get("tools") or []}
        choice = body.get("tool_choice")
        if isinstance(choice, dict):
            ask.forced = choice["function"]["name"]
        elif choice in ("required", "REQUIRED"):
            ask.forced = "any"
        elif choice in ("none", "NONE"):
            ask.forced = "none"

    def whole(self, ask, blocks):
        message = {"role": "assistant", "content": texts(blocks) or None, "refusal": None}
        if thoughts(blocks):
            message["reasoning_content"] = thoughts(blocks)
        if is_called(blocks):
            message["tool_calls"] = [self.call(block) for block in blocks if isinstance(block, Call)]
        choice = {"index": 0, "message": message, "finish_reason": self.finish(blocks), "logprobs": None}
        return {**self.frame(ask, "chat.completion"), "choices": [choice], "usage": self.usage()}

    def frame(self, ask, kind):
        return {"id": "chatcmpl-1", "object": kind, "created": CREATED, "model": ask.model}

    def call(self, call):
        return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.json}}

    def finish(self, blocks):
        return "tool_calls" if is_called(blocks) else "stop"

    def usage(self):
        total = USAGE["input"] + USAGE["output"]
        return {"prompt_tokens": USAGE["input"], "completion_tokens": USAGE["output"], "total_tokens": total}

    def events(self, ask, blocks):
        def chunk(delta, finish=None):
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            return sse({**self.frame(ask, "chat.completion.chunk"), "choices": [choice]})

        yield chunk({"role": "assistant", "content": ""})
        index = 0
        for block in blocks:
            if isinstance(block, Call):
                call = self.call(block)
                call["function"]["arguments"] = ""
                yield chunk({"tool_calls": [{"index": index, **call}]})
                for piece in halves(block.json):
                    yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
                index += 1
            else:
                name = "reasoning_content" if isinstance(block, Thought) else "content"
                for piece in pieces(block.text):
                    yield chunk({name: piece})
        yield chunk({}, self.finish(blocks))
        if self.counts:
            yield sse({**self.frame(ask, "chat.completion.chunk"), "choices": [], "usage": self.usage()})
        yield sse("[DONE]")

    def error(self, status, kind, message):
        code = {404: "model_not_found", 429: "rate_limit_exceeded", 401: "invalid_api_key"}.get(status)
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    def broken(self, message):
        return sse(self.error(503, "server_error", message))


class Messages(Dialect):
    """Anthropic Messages."""

    def headers(self, status):
        return {"request-id": "req_1"}

    def read(self, path, body):
        ask = Ask(model=body["model"], stream=body.get("stream", False))
        ask.system = "".join(part["text"] for part in parts(body.get("system")))
        for message in body["messages"]:
            content = parts(message["content"])
            text = "".join(part["text"] for part in content if part["type"] == "text")
            results = [part for part in content if part["type"] == "tool_result"]
            ask.results = ["".join(part.get("text", "") for part in parts(one.get("content"))) for one in results]
            if message["role"] == "user" and text:
                ask.said.append(text)
            for part in content:
                if part["type"] == "image":
                    source = part["source"]
                    ask.images.append(
                        ["url", source["url"]] if source["type"] == "url" else [source["media_type"], source["data"]]
                    )
                elif part["type"] == "thinking":
                    ask.signatures.append(part["signature"])
        ask.tools = {tool["name"]: tool["input_schema"] for tool in body.get("tools") or []}
        choice = body.get("tool_choice") or {}
        ask.forced = choice.get("name") or (choice.get("type") if choice.get("type") in ("any", "none") else None)
        form = (body.get("output_config") or {}).get("format") or {}
        ask.schema = form.get("schema")
        ask.thinks = (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")
        return ask

    def count(self, path):
        return {"input_tokens": USAGE["input"]} if path.endswith("/count_tokens") else None

    def block(self, block):
        if isinstance(block, Thought):
            return {"type": "thinking", "thinking": block.text, "signature": block.signature}
        if isinstance(block, Call):
            return {"type": "tool_use", "id": block.id, "name": block.name, "input": block.arguments}
        return {"type": "text", "text": block.text}

    def frame(self, ask, blocks):
        content = [self.block(block) for block in blocks]
        frame = {"id": "msg_1", "type": "message", "role": "assistant", "model": ask.model, "content": content}
        return frame | {"stop_reason": None, "stop_sequence": None, "usage": self.usage()}

    def usage(self):
        return {"input_tokens": USAGE["input"], "output_tokens": USAGE["output"]}

    def stop(self, blocks):
        return {"stop_reason": "tool_use" if is_called(blocks) else "end_turn", "stop_sequence": None}

    def whole(self, ask, blocks):
        return self.frame(ask, blocks) | self.stop(blocks)

    def events(self, ask, blocks):
        def event(kind, **more):
            return sse({"type": kind, **more}, kind)

        yield event("message_start", message=self.frame(ask, []))
        for index, block in enumerate(blocks):
            if isinstance(block, Thought):
                empty = {"thinking": "", "signature": ""}
                deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block.text)]
                deltas.append({"type": "signature_delta", "signature": block.signature})
            elif isinstance(block, Call):
                halved = halves(block.json) if block.arguments else [""]
                empty = {"input": {}}
                deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in halved]
            else:
                empty, deltas = {"text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces(block.text)]
            yield event("content_block_start", index=index, content_block=self.block(block) | empty)
            for delta in deltas:
                yield event("content_block_delta", index=index, delta=delta)
            yield event("content_block_stop", index=index)
        yield event("message_delta", delta=self.stop(blocks), usage=self.usage())
        yield event("message_stop")

    def error(self, status, kind, message):
        kind = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(status, kind)
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}

    def broken(self, message):
        return sse(self.error(529, "overloaded_error", message), "error")


def camel(json):
    """Names as protobuf's JSON takes them, in either spelling; what is the caller's own stays."""
    if isinstance(json, list):
        return [camel(one) for one in json]
    if not isinstance(json, dict):
        return json
    own = ("args", "response", "properties", "parametersJsonSchema", "responseJsonSchema")
    named = [(re.sub("_(.)", lambda found: found[1].upper(), name), value) for name, value in json.items()]
    return {name: value if name in own else camel(value) for name, value in named}


def plain64(data):
    """Google takes both alphabets of base64, and its SDKs write the one that is safe in URLs."""
    return data.replace("-", "+").replace("_", "/")


class Gemini(Dialect):
    """Gemini generateContent."""

    def read(self, path, body):
        model, _, method = path.rpartition("/")[2].partition(":")
        ask = Ask(model=model, stream=method.startswith("stream"))
        body = camel(body)
        ask.system = "".join(part.get("text", "") for part in body.get("systemInstruction", {}).get("parts", []))
        for content in body["contents"]:
            found = [part["text"] for part in content["parts"] if "text" in part and not part.get("thought")]
            answers = [part["functionResponse"]["response"] for part in content["parts"] if "functionResponse" in part]
            ask.results = [json.dumps(answer) for answer in answers]
            if content.get("role", "user") == "user" and found:
                ask.said.append("".join(found))
            for part in content["parts"]:
                if "inlineData" in part:
                    ask.images.append([part["inlineData"]["mimeType"], plain64(part["inlineData"]["data"])])
                elif "fileData" in part:
                    ask.images.append(["url", part["fileData"]["fileUri"]])
                if "thoughtSignature" in part:
                    ask.signatures.append(plain64(part["thoughtSignature"]))
        for tool in body.get("tools") or []:
            for function in tool.get("functionDeclarations", []):
                ask.tools[function["name"]] = function.get("parametersJsonSchema", function.get("parameters"))
        choice = body.get("toolConfig", {}).get("functionCallingConfig", {})
        if choice.get("mode") == "ANY":
            ask.forced = (choice.get("allowedFunctionNames") or ["any"])[0]
        elif choice.get("mode") == "NONE":
            ask.forced = "none"
        config = body.get("generationConfig", {})
        ask.schema = config.get("responseJsonSchema", config.get("responseSchema"))
        thinking = config.get("thinkingConfig", {})
        ask.thinks = bool(thinking.get("includeThoughts"))
        return ask

    def count(self, path):
        return {"totalTokens": USAGE["input"]} if path.endswith(":countTokens") else None

    def frame(self, ask, parts, finish=None):
        candidate = {"content": {"role": "model", "parts": parts}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        total = USAGE["input"] + USAGE["output"]
        usage = {
            "promptTokenCount": USAGE["input"],
            "candidatesTokenCount": USAGE["output"],
            "totalTokenCount": total,
        }
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": ask.model, "responseId": "r1"}

    def parts(self, blocks):
        """Its signature stands not on the thought but on what follows."""
        parts, signature = [], None
        for block in blocks:
            if isinstance(block, Thought):
                parts.append({"text": block.text, "thought": True})
                signature = block.signature
                continue
            if isinstance(block, Call):
                part = {"functionCall": {"id": block.id, "name": block.name, "args": block.arguments}}
            else:
                part = {"text": block.text}
            if signature:
                part["thoughtSignature"], signature = signature, None
            parts.append(part)
        return parts

    def whole(self, ask, blocks):
        return self.frame(ask, self.parts(blocks), "STOP")

    def events(self, ask, blocks):
        last = {"text": ""}
        for part in self.parts(blocks):
            if "text" in part:
                # A signature of text comes by itself, at the end.
                last |= {name: part.pop(name) for name in ["thoughtSignature"] if name in part}
            for piece in pieces(part["text"]) if "text" in part else [None]:
                yield sse(self.frame(ask, [part if piece is None else part | {"text": piece}]))
        yield sse(self.frame(ask, [last], "STOP"))

    def error(self, status, kind, message):
        code = {
            400: "INVALID_ARGUMENT",
            401: "UNAUTHENTICATED",
            404: "NOT_FOUND",
            429: "RESOURCE_EXHAUSTED",
            503: "UNAVAILABLE",
        }[status]
        return {"error": {"code": status, "message": message, "status": code}}

    def broken(self, message):
        return sse(self.error(503, "", message))


class Responses(Dialect):
    """OpenAI Responses."""

    def read(self, path, body):
        ask = Ask(model=body["model"], stream=body.get("stream", False))
        ask.system = body.get("instructions") or ""
        for item in parts_of_input(body["input"]):
            kind = item.get("type", "message")
            if kind == "message":
                content = [{"type": "input_text", **one} if "type" not in one else one for one in parts(item["content"])]
                text = "".join(part.get("text", "") for part in content)
                if item["role"] in ("system", "developer"):
                    ask.system += text
                elif item["role"] == "user":
                    ask.said.append(text)
                    ask.results.clear()
                    ask.images += [data_url(part["image_url"]) for part in content if part["type"] == "input_image"]
            elif kind == "function_call_output":
                ask.results.append("".join(part.get("text", "") for part in parts(item["output"])))
            elif kind == "reasoning":
                ask.signatures += [item["encrypted_content"]] if item.get("encrypted_content") else []
        ask.tools = {tool["name"]: tool["parameters"] for tool in body.get("tools") or []}
        choice = body.get("tool_choice")
        ask.forced = choice["name"] if isinstance(choice, dict) else {"required": "any", "none": "none"}.get(choice)
        form = (body.get("text") or {}).get("format") or {}
        ask.schema = form.get("schema")
        ask.thinks = (body.get("reasoning") or {}).get("effort", "none") != "none"
        self.id = f"resp_{uuid.uuid4().hex}"
        self.sealed = "reasoning.encrypted_content" in (body.get("include") or [])
        return ask

    def count(self, path):
        if path.endswith("/input_tokens"):
            return {"object": "response.input_tokens", "input_tokens": USAGE["input"]}

    def item(self, index, block, status="completed"):
        if isinstance(block, Thought):
            item = {"id": f"rs_{index}", "type": "reasoning", "summary": [{"type": "summary_text", "text": block.text}]}
            return item | ({"encrypted_content": block.signature} if self.sealed else {})
        if isinstance(block, Call):
            item = {"id": f"fc_{index}", "type": "function_call", "status": status, "call_id": block.id}
            return item | {"name": block.name, "arguments": block.json}
        part = {"type": "output_text", "text": block.text, "annotations": [], "logprobs": []}
        item = {"id": f"msg_{index}", "type": "message", "status": status, "role": "assistant"}
        return item | {"content": [part]}

    def whole(self, ask, blocks, status="completed"):
        usage = {
            "input_tokens": USAGE["input"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": USAGE["output"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": USAGE["input"] + USAGE["output"],
        }
        return {
            "id": self.id,
            "object": "response",
            "created_at": CREATED,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "model": ask.model,
            "output": [self.item(index, block) for index, block in enumerate(blocks)],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": usage if status == "completed" else None,
        }

    def events(self, ask, blocks):
        self.number = -1

        def event(kind, **more):
            self.number += 1
            return sse({"type": kind, "sequence_number": self.number, **more}, kind)

        yield event("response.created", response=self.whole(ask, [], "in_progress"))
        for index, block in enumerate(blocks):
            item = self.item(index, block)
            at = {"item_id": item["id"], "output_index": index}
            if isinstance(block, Thought):
                empty = {"summary": []}
                at |= {"summary_index": 0}
                name, part = "response.reasoning_summary_", {"type": "summary_text"}
            elif isinstance(block, Call):
                empty = {"arguments": "", "status": "in_progress"}
            else:
                empty = {"content": [], "status": "in_progress"}
                at |= {"content_index": 0}
                name, part = "response.output_", {"type": "output_text", "annotations": [], "logprobs": []}
            yield event("response.output_item.added", output_index=index, item=item | empty)
            if isinstance(block, Call):
                for piece in halves(block.json):
                    yield event("response.function_call_arguments.delta", **at, delta=piece)
                yield event("response.function_call_arguments.done", **at, arguments=block.json, name=block.name)
            else:
                opened = "response.content_" if isinstance(block, Text) else name
                yield event(f"{opened}part.added", **at, part=part | {"text": ""})
                for piece in pieces(block.text):
                    yield event(f"{name}text.delta", **at, delta=piece)
                yield event(f"{name}text.done", **at, text=block.text)
                yield event(f"{opened}part.done", **at, part=part | {"text": block.text})
            yield event("response.output_item.done", output_index=index, item=item)
        yield event("response.completed", response=self.whole(ask, blocks))

    def error(self, status, kind, message):
        return Chat().error(status, kind, message)

    def broken(self, message):
        failed = self.whole(Ask(), [], "failed") | {"error": {"code": "server_error", "message": message}}
        event = {"type": "response.failed", "sequence_number": self.number + 1, "response": failed}
        return sse(event, "response.failed")


def parts_of_input(given):
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


class Bedrock(Dialect):
    """Converse and ConverseStream, with a Claude behind."""

    content_type = "application/vnd.amazon.eventstream"

    def read(self, path, body):
        model, method = path.split("/")[-2:]
        ask = Ask(model=model, stream=method == "converse-stream")
        ask.system = "".join(part.get("text", "") for part in body.get("system") or [])
        for message in body["messages"]:
            content = message["content"]
            text = "".join(part.get("text", "") for part in content)
            results = [part["toolResult"] for part in content if "toolResult" in part]
            ask.results = [
                "".join(json.dumps(part["json"]) if "json" in part else part["text"] for part in one["content"])
                for one in results
            ]
            if message["role"] == "user" and text:
                ask.said.append(text)
            for part in content:
                if "image" in part:
                    image = part["image"]
                    ask.images.append([f"image/{image['format']}", image["source"]["bytes"]])
                if "reasoningText" in (thought := part.get("reasoningContent", {})):
                    ask.signatures.append(thought["reasoningText"]["signature"])
        config = body.get("toolConfig") or {}
        specs = [tool["toolSpec"] for tool in config.get("tools", []) if "toolSpec" in tool]
        ask.tools = {spec["name"]: spec["inputSchema"]["json"] for spec in specs}
        choice = config.get("toolChoice") or {}
        ask.forced = choice["tool"]["name"] if "tool" in choice else "any" if "any" in choice else None
        form = (body.get("outputConfig") or {}).get("textFormat") or {}
        if form.get("type") == "json_schema":
            ask.schema = json.loads(form["structure"]["jsonSchema"]["schema"])
        more = body.get("additionalModelRequestFields") or {}
        ask.thinks = (more.get("thinking") or {}).get("type") in ("enabled", "adaptive")
        return ask

    def count(self, path):
        return {"inputTokens": USAGE["input"]} if path.endswith("/count-tokens") else None

    def headers(self, status):
        names = {400: "Validation", 401: "UnrecognizedClient", 404: "ResourceNotFound", 429: "Throttling"}
        return {"x-amzn-errortype": f"{names[status]}Exception"} if status in names else {}

    def usage(self):
        total = USAGE["input"] + USAGE["output"]
        return {"inputTokens": USAGE["input"], "outputTokens": USAGE["output"], "totalTokens": total}

    def stop(self, blocks):
        return {"stopReason": "tool_use" if is_called(blocks) else "end_turn"}

    def block(self, block):
        if isinstance(block, Thought):
            return {"reasoningContent": {"reasoningText": {"text": block.text, "signature": block.signature}}}
        if isinstance(block, Call):
            return {"toolUse": {"toolUseId": block.id, "name": block.name, "input": block.arguments}}
        return {"text": block.text}

    def whole(self, ask, blocks):
        message = {"role": "assistant", "content": [self.block(block) for block in blocks]}
        usage = {"usage": self.usage(), "metrics": {"latencyMs": 1}}
        return {"output": {"message": message}} | self.stop(blocks) | usage

    def frame(self, headers, payload):
        """Prelude (lengths and their CRC), headers as typed strings, payload, CRC of all."""
        written = b"".join(
            bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
            for name, value in headers.items()
        )
        payload = json.dumps(payload).encode()
        prelude = struct.pack(">II", 16 + len(written) + len(payload), len(written))
        message = prelude + struct.pack(">I", binascii.crc32(prelude)) + written + payload
        return message + struct.pack(">I", binascii.crc32(message))

    def event(self, kind, **payload):
        headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
        return self.frame(headers, payload | {"p": "abcdef"})

    def events(self, ask, blocks):
        yield self.event("messageStart", role="assistant")
        for index, block in enumerate(blocks):
            if isinstance(block, Thought):
                deltas = [{"reasoningContent": {"text": piece}} for piece in pieces(block.text)]
                deltas.append({"reasoningContent": {"signature": block.signature}})
            elif isinstance(block, Call):
                start = {"toolUse": {"toolUseId": block.id, "name": block.name}}
                yield self.event("contentBlockStart", contentBlockIndex=index, start=start)
                deltas = [{"toolUse": {"input": piece}} for piece in halves(block.json)]
            else:
                deltas = [{"text": piece} for piece in pieces(block.text)]
            for delta in deltas:
                yield self.event("contentBlockDelta", contentBlockIndex=index, delta=delta)
            yield self.event("contentBlockStop", contentBlockIndex=index)
        yield self.event("messageStop", **self.stop(blocks))
        yield self.event("metadata", usage=self.usage(), metrics={"latencyMs": 1})

    def error(self, status, kind, message):
        return {"message": message}

    def broken(self, message):
        headers = {":exception-type": "serviceUnavailableException", ":content-type": "application/json"}
        return self.frame(headers | {":message-type": "exception"}, {"message": message})


class Cohere(Chat):
    """Cohere v2 chat."""

    def read(self, path, body):
        ask = super().read(path, body)
        form = body.get("response_format") or {}
        ask.schema = form.get("json_schema") or form.get("schema")
        ask.thinks = (body.get("thinking") or {}).get("type") == "enabled"
        for message in body["messages"]:
            if message["role"] == "tool":
                documents = [part["document"]["data"] for part in parts(message["content"]) if "document" in part]
                ask.results += [one if isinstance(one, str) else json.dumps(one) for one in documents]
        ask.results = [one for one in ask.results if one]
        return ask

    def usage(self):
        counts = {"input_tokens": USAGE["input"], "output_tokens": USAGE["output"]}
        return {"billed_units": counts, "tokens": counts}

    def finish(self, blocks):
        return "TOOL_CALL" if is_called(blocks) else "COMPLETE"

    def part(self, block):
        if isinstance(block, Thought):
            return {"type": "thinking", "thinking": block.text}
        return {"type": "text", "text": block.text}

    def whole(self, ask, blocks):
        message = {"role": "assistant"}
        if content := [self.part(block) for block in blocks if not isinstance(block, Call)]:
            message["content"] = content
        if is_called(blocks):
            message["tool_calls"] = [self.call(block) for block in blocks if isinstance(block, Call)]
        return {"id": "c1", "finish_reason": self.finish(blocks), "message": message, "usage": self.usage()}

    def events(self, ask, blocks):
        def event(kind, **more):
            return sse({"type": kind, **more}, kind)

        def message(**more):
            return {"delta": {"message": more}}

        empty = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        yield event("message-start", id="c1", **message(**empty))
        for index, block in enumerate(blocks):
            if isinstance(block, Call):
                call = self.call(block)
                call["function"] = {"name": block.name, "arguments": ""}
                yield event("tool-call-start", index=index, **message(tool_calls=call))
                for piece in halves(block.json):
                    change = {"function": {"arguments": piece}}
                    yield event("tool-call-delta", index=index, **message(tool_calls=change))
                yield event("tool-call-end", index=index)
            else:
                kind = "thinking" if isinstance(block, Thought) else "text"
                yield event("content-start", index=index, **message(content={"type": kind, kind: ""}))
                for piece in pieces(block.text):
                    yield event("content-delta", index=index, **message(content={kind: piece}))
                yield event("content-end", index=index)
        yield event("message-end", delta={"finish_reason": self.finish(blocks), "usage": self.usage()})

    def error(self, status, kind, message):
        return {"id": "e1", "message": message}

    def broken(self, message):
        return sse({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": message}}, "message-end")


class Ollama(Dialect):
    """Ollama's own chat: a line of JSON is an event."""

    content_type = "application/x-ndjson"
    signs = False

    def read(self, path, body):
        ask = Ask(model=body["model"], stream=body.get("stream", True))
        for message in body["messages"]:
            if message["role"] == "system":
                ask.system += message["content"]
            elif message["role"] == "tool":
                ask.results.append(message["content"])
            elif message["role"] == "user":
                ask.said.append(message["content"])
                ask.results.clear()
                # It says no type; a PNG's base64 tells.
                kinds = {"iVBO": "image/png", "/9j/": "image/jpeg"}
                ask.images += [[kinds.get(image[:4]), image] for image in message.get("images") or []]
        functions = [tool["function"] for tool in body.get("tools") or []]
        ask.tools = {function["name"]: function.get("parameters") for function in functions}
        ask.schema = body["format"] if isinstance(body.get("format"), dict) else None
        ask.thinks = bool(body.get("think"))
        return ask

    def line(self, ask, message, **more):
        head = {"model": ask.model, "created_at": "2026-11-21T12:00:00.123456Z"}
        return head | {"message": {"role": "assistant", "content": ""} | message, "done": False} | more

    def message(self, block):
        if isinstance(block, Call):
            return {"tool_calls": [{"id": block.id, "function": {"name": block.name, "arguments": block.arguments}}]}
        return {"thinking": block.text} if isinstance(block, Thought) else {"content": block.text}

    def end(self):
        counts = {"prompt_eval_count": USAGE["input"], "eval_count": USAGE["output"]}
        return {"done": True, "done_reason": "stop", "total_duration": 1, **counts}

    def whole(self, ask, blocks):
        message = {}
        for block in blocks:
            calls = message.get("tool_calls", [])
            message |= self.message(block)
            if isinstance(block, Call):
                message["tool_calls"] = calls + message["tool_calls"]
        return self.line(ask, message, **self.end())

    def events(self, ask, blocks):
        def line(*given, **more):
            return json.dumps(self.line(ask, *given, **more)).encode() + b"\n"

        for block in blocks:
            whole = self.message(block)
            [(name, told)] = whole.items()
            for piece in [told] if isinstance(block, Call) else pieces(told):
                yield line({name: piece})
        yield line({}, **self.end())

    def error(self, status, kind, message):
        return {"error": message}

    def broken(self, message):
        return json.dumps({"error": message}).encode() + b"\n"


DIALECTS = {
    "chat": Chat,
    "messages": Messages,
    "gemini": Gemini,
    "responses": Responses,
    "bedrock": Bedrock,
    "cohere": Cohere,
    "ollama": Ollama,
}
# What signs a thought: base64, as all of them take it.
SIGNATURE = base64.b64encode(b"signed by the upstream \xff\x00\x7f" * 3).decode()
