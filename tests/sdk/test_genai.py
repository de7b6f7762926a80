"""The official `google-genai` package, unchanged, against the gateway in front of every provider dialect."""

import base64
import json

import pytest
from conftest import ARGUMENTS, KEY, NARROW_KEY, PNG, SCHEMA, SIGNING, THOUGHT, UNICODE, URL
from dialects import SIGNATURE
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

ROOT = URL.removesuffix("/v1")
WEATHER = {"name": "get_weather", "description": "The weather at a place.", "parameters_json_schema": SCHEMA}
TIDE = {"name": "get_tide", "parameters_json_schema": {"type": "object", "properties": {}}}
TOOLS = [types.Tool(function_declarations=[WEATHER, TIDE])]
THINKING = types.ThinkingConfig(include_thoughts=True, thinking_budget=2000)


def connect(key=KEY, **options):
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=ROOT, timeout=20_000, **options))


@pytest.fixture(scope="module")
def client():
    with connect() as client:
        yield client


class Answer:
    """What an answer says, whole or put together of a stream's pieces."""

    def __init__(self, pieces):
        self.parts = [part for piece in pieces for part in (piece.candidates[0].content.parts or [])]
        self.text = "".join(part.text for part in self.parts if part.text and not part.thought)
        self.thought = "".join(part.text for part in self.parts if part.text and part.thought)
        self.calls = [part.function_call for part in self.parts if part.function_call]
        self.content = types.Content(role="model", parts=self.parts)
        self.finish = pieces[-1].candidates[0].finish_reason
        self.usage = pieces[-1].usage_metadata


def whole(client, model, contents, **config):
    config = types.GenerateContentConfig(**config)
    return Answer([client.models.generate_content(model=model, contents=contents, config=config)])


def streamed(client, model, contents, **config):
    config = types.GenerateContentConfig(**config)
    return Answer(list(client.models.generate_content_stream(model=model, contents=contents, config=config)))


@pytest.fixture(params=[whole, streamed], ids=["whole", "streamed"])
def ask(request, client):
    return lambda *given, **config: request.param(client, *given, **config)


def said(text):
    return types.Content(role="user", parts=[types.Part(text=text)])


def result(call, text):
    answer = types.FunctionResponse(id=call.id, name=call.name, response={"result": text})
    return types.Part(function_response=answer)


def results(*parts):
    return types.Content(role="user", parts=list(parts))


def test_text(ask, scripted, seen):
    answer = ask(scripted, UNICODE, system_instruction="Be terse.")
    assert answer.text == f"Turn 1: (Be terse.) {UNICODE}"
    assert answer.finish == types.FinishReason.STOP
    usage = answer.usage
    assert (usage.prompt_token_count, usage.candidates_token_count, usage.total_token_count) == (7, 11, 18)
    assert seen()[0]["ask"]["system"] == "Be terse."


def test_pieces_of_text(client, scripted):
    stream = client.models.generate_content_stream(model=scripted, contents="one two three four")
    pieces = [piece.text for piece in stream if piece.text]
    assert len(pieces) > 2
    assert "".join(pieces) == "Turn 1: one two three four"


def test_a_chat_of_turns(client, scripted):
    chat = client.chats.create(model=scripted)
    assert chat.send_message("one").text == "Turn 1: one"
    assert "".join(piece.text or "" for piece in chat.send_message_stream("two")) == "Turn 2: two"


def test_tools_and_a_second_turn(ask, scripted, seen):
    first = ask(scripted, "How is the weather?", tools=TOOLS)
    [call] = first.calls
    assert (call.name, call.args) == ("get_weather", ARGUMENTS)
    contents = [said("How is the weather?"), first.content, results(result(call, "fair"))]
    second = ask(scripted, contents, tools=TOOLS)
    assert second.text == "The tools said: fair"
    assert [list(one["ask"]["tools"]) for one in seen()] == [["get_weather", "get_tide"]] * 2


def test_parallel_calls(ask, scripted):
    first = ask(scripted, "both", tools=TOOLS)
    assert [(call.name, call.args) for call in first.calls] == [("get_weather", ARGUMENTS), ("get_tide", {})]
    told = [result(call, text) for call, text in zip(first.calls, ("fair", "ebb"))]
    assert ask(scripted, [said("both"), first.content, results(*told)], tools=TOOLS).text == "The tools said: fair, ebb"


def test_functions_called_by_the_sdk(client, scripted):
    def get_tide() -> str:
        """The tide."""
        return "ebb"

    answer = client.models.generate_content(
        model=scripted, contents="Go on.", config=types.GenerateContentConfig(tools=[get_tide])
    )
    assert answer.text == "The tools said: ebb"


def test_images(ask, scripted, seen):
    image = types.Part.from_bytes(data=base64.b64decode(PNG), mime_type="image/png")
    assert ask(scripted, [image, "What is it?"]).text == "I see image/png"
    assert seen()[0]["ask"]["images"] == [["image/png", PNG]]


class Weather(BaseModel):
    city: str
    days: int


def test_structured_output(ask, scripted):
    answer = ask(scripted, "hi", response_mime_type="application/json", response_json_schema=SCHEMA)
    assert json.loads(answer.text) == ARGUMENTS


def test_parsed_output(client, scripted):
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Weather)
    answer = client.models.generate_content(model=scripted, contents="hi", config=config)
    assert answer.parsed == Weather(city="text", days=1)


def test_thinking_and_a_second_turn(ask, provider, scripted, seen):
    first = ask(scripted, "How is it?", tools=TOOLS, thinking_config=THINKING)
    assert first.thought == THOUGHT
    [call] = first.calls
    if provider in SIGNING:
        assert any(part.thought_signature for part in first.parts)
    contents = [said("How is it?"), first.content, results(result(call, "fair"))]
    assert ask(scripted, contents, tools=TOOLS, thinking_config=THINKING).text == "The tools said: fair"
    *_, last = seen()
    assert last["ask"]["signatures"] == ([SIGNATURE] if provider in SIGNING else [])


@pytest.mark.parametrize(
    ("behaviour", "kind", "code", "status"),
    [
        ("fail-400", errors.ClientError, 400, "INVALID_ARGUMENT"),
        ("fail-404", errors.ClientError, 404, "NOT_FOUND"),
        ("fail-429", errors.ClientError, 429, "RESOURCE_EXHAUSTED"),
        ("fail-503", errors.ServerError, 503, "UNAVAILABLE"),
        ("fail-401", errors.ServerError, 502, None),
    ],
)
def test_typed_errors(ask, provider, behaviour, kind, code, status):
    with pytest.raises(kind) as raised:
        ask(f"up-{provider}-{behaviour}", "hi")
    assert raised.value.code == code
    assert raised.value.message
    assert status is None or raised.value.status == status


def test_its_own_retry(provider):
    with connect(retry_options=types.HttpRetryOptions(attempts=2, initial_delay=1.1, jitter=0)) as client:
        assert whole(client, f"up-{provider}-flaky", "hi").text == "Turn 1: hi"


def test_an_error_within_a_stream(client, provider):
    text = ""
    with pytest.raises(errors.APIError) as raised:
        for piece in client.models.generate_content_stream(
            model=f"up-{provider}-broken", contents="one two three four five six"
        ):
            text += piece.text or ""
    assert text and "Turn 1: one two three four five six".startswith(text)
    assert raised.value.code >= 500
    assert "overloaded" in raised.value.message


def test_counting(client, scripted):
    assert client.models.count_tokens(model=scripted, contents="one two three").total_tokens > 0


def test_models_and_keys(client):
    assert "models/up-bedrock-plain" in [model.name for model in client.models.list()]
    assert client.models.get(model="up-cohere-plain").name == "models/up-cohere-plain"
    with connect(NARROW_KEY) as narrow:
        assert [model.name for model in narrow.models.list()] == ["models/openai-sandbox"]
        with pytest.raises(errors.ClientError) as raised:
            whole(narrow, "up-chat-plain", "hi")
        assert (raised.value.code, raised.value.status) == (403, "PERMISSION_DENIED")
    with connect("pk-nobody") as nobody, pytest.raises(errors.ClientError) as raised:
        whole(nobody, "up-chat-plain", "hi")
    assert raised.value.code in (400, 401)
    with pytest.raises(errors.ClientError) as raised:
        whole(client, "no-such-model", "hi")
    assert (raised.value.code, raised.value.status) == (404, "NOT_FOUND")


@pytest.mark.anyio
async def test_async(scripted):
    async with connect().aio as client:
        stream = await client.models.generate_content_stream(model=scripted, contents="hi")
        assert "".join([piece.text or "" async for piece in stream]) == "Turn 1: hi"
