"""The official `anthropic` package, unchanged, against the gateway in front of every provider dialect."""

import json

import anthropic
import pytest
from conftest import ARGUMENTS, KEY, NARROW_KEY, PNG, SCHEMA, SIGNING, THOUGHT, UNICODE, URL, user
from dialects import SIGNATURE
from pydantic import BaseModel

ROOT = URL.removesuffix("/v1")
WEATHER = {"name": "get_weather", "description": "The weather at a place.", "input_schema": SCHEMA}
TIDE = {"name": "get_tide", "input_schema": {"type": "object", "properties": {}}}
THINKING = {"type": "enabled", "budget_tokens": 2000}


@pytest.fixture(scope="module")
def claude():
    with anthropic.Anthropic(base_url=ROOT, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


def create(claude, model, *messages, **options):
    return claude.messages.create(**{"model": model, "max_tokens": 4000, "messages": list(messages)} | options)


def streamed(claude, model, *messages, **options):
    with claude.messages.stream(**{"model": model, "max_tokens": 4000, "messages": list(messages)} | options) as stream:
        list(stream)
        return stream.get_final_message()


@pytest.fixture(params=[create, streamed], ids=["whole", "streamed"])
def ask(request, claude):
    """Gets a message, whole or put together from a stream: both must be alike."""
    return lambda *given, **options: request.param(claude, *given, **options)


def said(message):
    return "".join(block.text for block in message.content if block.type == "text")


def result(call, text):
    return user([{"type": "tool_result", "tool_use_id": call.id, "content": text}])


def test_text(ask, scripted, seen):
    message = ask(scripted, user(UNICODE), system="Be terse.")
    assert [block.text for block in message.content] == [f"Turn 1: (Be terse.) {UNICODE}"]
    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "end_turn")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (7, 11)
    assert message.id
    assert seen()[0]["ask"]["system"] == "Be terse."


def test_pieces_of_text(claude, scripted):
    with claude.messages.stream(model=scripted, max_tokens=99, messages=[user("one two three four")]) as stream:
        assert len(pieces := list(stream.text_stream)) > 2
    assert "".join(pieces) == "Turn 1: one two three four"


def test_tools_and_a_second_turn(ask, scripted, seen):
    first = ask(scripted, user("How is the weather?"), tools=[WEATHER, TIDE])
    [call] = [block for block in first.content if block.type == "tool_use"]
    assert (call.name, call.input, first.stop_reason) == ("get_weather", ARGUMENTS, "tool_use")
    messages = [user("How is the weather?"), {"role": "assistant", "content": first.content}, result(call, "fair")]
    second = ask(scripted, *messages, tools=[WEATHER, TIDE])
    assert said(second) == "The tools said: fair"
    assert second.stop_reason == "end_turn"
    assert [list(one["ask"]["tools"]) for one in seen()] == [["get_weather", "get_tide"]] * 2


def test_parallel_calls(ask, scripted):
    first = ask(scripted, user("both"), tools=[WEATHER, TIDE])
    calls = [block for block in first.content if block.type == "tool_use"]
    assert [(call.name, call.input) for call in calls] == [("get_weather", ARGUMENTS), ("get_tide", {})]
    assert calls[0].id != calls[1].id
    results = [result(call, said)["content"][0] for call, said in zip(calls, ("fair", "ebb"))]
    messages = [user("both"), {"role": "assistant", "content": first.content}, user(results)]
    second = ask(scripted, *messages, tools=[WEATHER, TIDE])
    assert said(second) == "The tools said: fair, ebb"


def test_images(ask, scripted, seen):
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    message = ask(scripted, user([{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]))
    assert message.content[0].text == "I see image/png"
    assert seen()[0]["ask"]["images"] == [["image/png", PNG]]


def test_structured_output(ask, scripted):
    form = {"format": {"type": "json_schema", "schema": SCHEMA}}
    message = ask(scripted, user("hi"), output_config=form)
    assert json.loads(message.content[0].text) == ARGUMENTS
    assert message.stop_reason == "end_turn"


class Weather(BaseModel):
    city: str
    days: int


def test_parsed_output(claude, scripted):
    message = claude.messages.parse(model=scripted, max_tokens=99, messages=[user("hi")], output_format=Weather)
    assert message.parsed_output == Weather(city="text", days=1)


def test_thinking_and_a_second_turn(ask, provider, scripted, seen):
    first = ask(scripted, user("How is it?"), tools=[WEATHER], thinking=THINKING)
    assert first.content[0].type == "thinking"
    assert first.content[0].thinking == THOUGHT
    call = first.content[-1]
    assert call.type == "tool_use"
    messages = [user("How is it?"), {"role": "assistant", "content": first.content}, result(call, "fair")]
    second = ask(scripted, *messages, tools=[WEATHER], thinking=THINKING)
    assert said(second) == "The tools said: fair"
    *_, last = seen()
    assert last["ask"]["signatures"] == ([SIGNATURE] if provider in SIGNING else [])


@pytest.mark.parametrize(
    ("behaviour", "kind", "word"),
    [
        ("fail-400", anthropic.BadRequestError, "invalid_request_error"),
        ("fail-404", anthropic.NotFoundError, "not_found_error"),
        ("fail-429", anthropic.RateLimitError, "rate_limit_error"),
        ("fail-401", anthropic.InternalServerError, "api_error"),
    ],
)
def test_typed_errors(ask, provider, behaviour, kind, word):
    with pytest.raises(kind) as raised:
        ask(f"up-{provider}-{behaviour}", user("hi"))
    assert raised.value.body["error"]["type"] == word
    if behaviour == "fail-429":
        assert raised.value.response.headers["retry-after"] == "1"


def test_request_ids(claude):
    assert create(claude, "up-chat-plain", user("hi"))._request_id
    with pytest.raises(anthropic.BadRequestError) as raised:
        create(claude, "up-chat-fail-400", user("hi"))
    assert raised.value.request_id


def test_its_own_retry(claude, provider):
    message = create(claude.with_options(max_retries=1), f"up-{provider}-flaky", user("hi"))
    assert message.content[0].text == "Turn 1: hi"


def test_an_error_within_a_stream(claude, provider):
    text = ""
    with pytest.raises(anthropic.APIStatusError) as raised:
        with claude.messages.stream(
            model=f"up-{provider}-broken", max_tokens=99, messages=[user("one two three four five six")]
        ) as stream:
            for piece in stream.text_stream:
                text += piece
    assert text and "Turn 1: one two three four five six".startswith(text)
    assert "overloaded" in str(raised.value)
    assert raised.value.body["error"]["type"] in ("overloaded_error", "api_error")


def test_counting(claude, scripted):
    assert claude.messages.count_tokens(model=scripted, messages=[user("one two three")]).input_tokens > 0


def test_models_and_keys(claude):
    ids = [model.id for model in claude.models.list(limit=1000)]
    assert "up-bedrock-plain" in ids
    assert claude.models.retrieve("up-cohere-plain").id == "up-cohere-plain"
    with anthropic.Anthropic(base_url=ROOT, api_key=NARROW_KEY, max_retries=0) as narrow:
        assert [model.id for model in narrow.models.list()] == ["openai-sandbox"]
        with pytest.raises(anthropic.PermissionDeniedError):
            create(narrow, "up-chat-plain", user("hi"))
    with anthropic.Anthropic(base_url=ROOT, api_key="pk-nobody", max_retries=0) as nobody:
        with pytest.raises(anthropic.AuthenticationError) as raised:
            create(nobody, "up-chat-plain", user("hi"))
    assert raised.value.body["error"]["type"] == "authentication_error"


def test_a_malformed_request(claude):
    with pytest.raises(anthropic.BadRequestError) as raised:
        create(claude, "up-chat-plain", {"role": "user", "content": [{"type": "text", "text": 7}]})
    assert "messages" in raised.value.body["error"]["message"]
    with pytest.raises(anthropic.NotFoundError):
        create(claude, "no-such-model", user("hi"))


@pytest.mark.anyio
async def test_async(scripted):
    async with anthropic.AsyncAnthropic(base_url=ROOT, api_key=KEY, max_retries=0) as claude:
        async with claude.messages.stream(model=scripted, max_tokens=99, messages=[user("hi")]) as stream:
            assert await stream.get_final_text() == "Turn 1: hi"
