"""The official `openai` package, unchanged, in front of every provider dialect: Chat Completions."""

import json

import openai
import pytest
from conftest import ARGUMENTS, PNG, SCHEMA, SIGNING, THOUGHT, UNICODE, system, user
from dialects import SIGNATURE
from pydantic import BaseModel

WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA, "strict": True}}
TIDE = {"type": "function", "function": {"name": "get_tide", "parameters": {"type": "object", "properties": {}}}}


def create(client, model, *messages, **options):
    return client.chat.completions.create(model=model, messages=list(messages), **options)


def streamed(client, model, *messages, **options):
    options = {"stream_options": {"include_usage": True}} | options
    with client.chat.completions.stream(model=model, messages=list(messages), **options) as stream:
        list(stream)
        return stream.get_final_completion()


@pytest.fixture(params=[create, streamed], ids=["whole", "streamed"])
def ask(request, client):
    return lambda *given, **options: request.param(client, *given, **options)


def test_text(ask, scripted):
    completion = ask(scripted, system("Be terse."), user(UNICODE))
    assert completion.choices[0].message.content == f"Turn 1: (Be terse.) {UNICODE}"
    assert completion.choices[0].finish_reason == "stop"
    usage = completion.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, 11, 18)


def test_parallel_calls_and_a_second_turn(ask, scripted, seen):
    first = ask(scripted, user("both"), tools=[WEATHER, TIDE])
    message = first.choices[0].message
    told = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]
    assert told == [("get_weather", ARGUMENTS), ("get_tide", {})]
    assert first.choices[0].finish_reason == "tool_calls"
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": text}
        for call, text in zip(message.tool_calls, ("fair", "ebb"))
    ]
    second = ask(scripted, user("both"), message, *results, tools=[WEATHER, TIDE])
    assert second.choices[0].message.content == "The tools said: fair, ebb"
    assert [list(one["ask"]["tools"]) for one in seen()] == [["get_weather", "get_tide"]] * 2


def test_images(ask, scripted, seen):
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    completion = ask(scripted, user([image, {"type": "text", "text": "What is it?"}]))
    assert completion.choices[0].message.content == "I see image/png"
    assert seen()[0]["ask"]["images"] == [["image/png", PNG]]


class Weather(BaseModel):
    city: str
    days: int


def test_structured_output(client, scripted):
    completion = client.chat.completions.parse(model=scripted, messages=[user("hi")], response_format=Weather)
    assert completion.choices[0].message.parsed == Weather(city="text", days=1)
    completion = streamed(client, scripted, user("hi"), response_format=Weather)
    assert completion.choices[0].message.parsed == Weather(city="text", days=1)


def test_thinking_and_a_second_turn(client, provider, scripted, seen):
    options = {"tools": [WEATHER], "reasoning_effort": "medium"}
    message = create(client, scripted, user("How is it?"), **options).choices[0].message
    assert message.reasoning_content == THOUGHT
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "fair"}
    second = create(client, scripted, user("How is it?"), message, result, **options)
    assert second.choices[0].message.content == "The tools said: fair"
    *_, last = seen()
    assert last["ask"]["signatures"] == ([SIGNATURE] if provider in SIGNING else [])


@pytest.mark.parametrize(
    ("behaviour", "kind", "status"),
    [
        ("fail-400", openai.BadRequestError, 400),
        ("fail-404", openai.NotFoundError, 404),
        ("fail-429", openai.RateLimitError, 429),
        ("fail-401", openai.InternalServerError, 502),
    ],
)
def test_typed_errors(ask, provider, behaviour, kind, status):
    with pytest.raises(kind) as raised:
        ask(f"up-{provider}-{behaviour}", user("hi"))
    assert raised.value.status_code == status
    assert raised.value.request_id


def test_an_error_within_a_stream(client, provider):
    text = ""
    with pytest.raises(openai.APIError, match="overloaded"):
        for chunk in create(client, f"up-{provider}-broken", user("one two three four five six"), stream=True):
            text += chunk.choices[0].delta.content or ""
    assert text and "Turn 1: one two three four five six".startswith(text)
