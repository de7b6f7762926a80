"""The official `openai` package, unchanged, in front of every provider dialect: Responses."""

import json

import openai
import pytest
from conftest import ARGUMENTS, KEY, PNG, SCHEMA, SIGNING, THOUGHT, UNICODE, URL, user
from dialects import SIGNATURE
from pydantic import BaseModel

WEATHER = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": True}
TIDE = {"type": "function", "name": "get_tide", "parameters": {"type": "object", "properties": {}}, "strict": False}
THINKING = {"reasoning": {"effort": "medium", "summary": "auto"}, "include": ["reasoning.encrypted_content"]}


def create(client, model, given, **options):
    return client.responses.create(model=model, input=given, **options)


def streamed(client, model, given, **options):
    with client.responses.stream(model=model, input=given, **options) as stream:
        numbers = [event.sequence_number for event in stream]
        assert numbers == list(range(len(numbers)))
        return stream.get_final_response()


@pytest.fixture(params=[create, streamed], ids=["whole", "streamed"])
def ask(request, client):
    """Gets a response, whole or put together from a stream: both must be alike."""
    return lambda *given, **options: request.param(client, *given, **options)


def calls(response):
    return [item for item in response.output if item.type == "function_call"]


def result(call, text):
    return {"type": "function_call_output", "call_id": call.call_id, "output": text}


def test_text(ask, scripted, seen):
    response = ask(scripted, UNICODE, instructions="Be terse.")
    assert response.output_text == f"Turn 1: (Be terse.) {UNICODE}"
    assert (response.object, response.status, response.error) == ("response", "completed", None)
    usage = response.usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (7, 11, 18)
    assert seen()[0]["ask"]["system"] == "Be terse."


def test_pieces_of_text(client, scripted):
    stream = create(client, scripted, "one two three four", stream=True)
    pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
    assert len(pieces) > 2
    assert "".join(pieces) == "Turn 1: one two three four"


def test_conversations_are_kept(ask, client, provider, scripted):
    first = ask(scripted, "one", instructions="Be terse.")
    second = ask(scripted, "two", previous_response_id=first.id)
    assert second.output_text == "Turn 2: two"
    # What passes through says what its provider knows: to it, all was said in one call.
    assert second.previous_response_id == (None if provider == "responses" else first.id)
    assert client.responses.retrieve(first.id).output_text == first.output_text
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.APIStatusError) as raised:
        ask(scripted, "three", previous_response_id=first.id)
    assert raised.value.status_code in (400, 404)


def test_what_is_not_to_be_kept(ask, client, scripted):
    response = ask(scripted, "one", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_what_was_said(client, scripted):
    response = create(client, scripted, [user([{"type": "input_text", "text": "one"}])])
    items = client.responses.input_items.list(response.id).data
    assert [item.content[0].text for item in items] == ["one"]


def test_what_was_said_as_text(client):
    response = create(client, "up-chat-plain", "one")
    assert client.responses.input_items.list(response.id).data[0].content[0].text == "one"


def test_tools_and_a_second_turn(ask, scripted, seen):
    first = ask(scripted, "How is the weather?", tools=[WEATHER, TIDE])
    [call] = calls(first)
    assert (call.name, json.loads(call.arguments)) == ("get_weather", ARGUMENTS)
    given = [user("How is the weather?"), *first.output, result(call, "fair")]
    assert ask(scripted, given, tools=[WEATHER, TIDE]).output_text == "The tools said: fair"
    assert [list(one["ask"]["tools"]) for one in seen()] == [["get_weather", "get_tide"]] * 2


def test_parallel_calls_and_a_kept_turn(ask, scripted):
    first = ask(scripted, "both", tools=[WEATHER, TIDE])
    told = [(call.name, json.loads(call.arguments)) for call in calls(first)]
    assert told == [("get_weather", ARGUMENTS), ("get_tide", {})]
    results = [result(call, text) for call, text in zip(calls(first), ("fair", "ebb"))]
    second = ask(scripted, results, tools=[WEATHER, TIDE], previous_response_id=first.id)
    assert second.output_text == "The tools said: fair, ebb"


def test_images(ask, scripted, seen):
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
    response = ask(scripted, [user([image, {"type": "input_text", "text": "What is it?"}])])
    assert response.output_text == "I see image/png"
    assert seen()[0]["ask"]["images"] == [["image/png", PNG]]


class Weather(BaseModel):
    city: str
    days: int


def test_structured_output(client, scripted):
    response = client.responses.parse(model=scripted, input="hi", text_format=Weather)
    assert response.output_parsed == Weather(city="text", days=1)
    with client.responses.stream(model=scripted, input="hi", text_format=Weather) as stream:
        list(stream)
        assert stream.get_final_response().output_parsed == Weather(city="text", days=1)


@pytest.mark.parametrize("kept", [False, True], ids=["replayed", "kept"])
def test_thinking_and_a_second_turn(ask, provider, scripted, seen, kept):
    first = ask(scripted, "How is it?", tools=[WEATHER], **THINKING)
    reasoning = first.output[0]
    assert reasoning.type == "reasoning"
    shown = [part.text for part in [*reasoning.summary, *(reasoning.content or [])]]
    assert shown == [THOUGHT]
    [call] = calls(first)
    if kept:
        given = {"given": [result(call, "fair")], "previous_response_id": first.id}
    else:
        given = {"given": [user("How is it?"), *first.output, result(call, "fair")]}
    second = ask(scripted, given.pop("given"), tools=[WEATHER], **THINKING, **given)
    assert second.output_text == "The tools said: fair"
    *_, last = seen()
    assert last["ask"]["signatures"] == ([SIGNATURE] if provider in SIGNING else [])


ERRORS = [
    ("fail-400", openai.BadRequestError, 400),
    ("fail-404", openai.NotFoundError, 404),
    ("fail-429", openai.RateLimitError, 429),
    ("fail-503", openai.InternalServerError, 503),
    ("fail-401", openai.InternalServerError, 502),
]


@pytest.mark.parametrize(("behaviour", "kind", "status"), ERRORS)
def test_typed_errors(ask, provider, behaviour, kind, status):
    with pytest.raises(kind) as raised:
        ask(f"up-{provider}-{behaviour}", "hi")
    assert raised.value.status_code == status
    assert raised.value.request_id
    if status == 429:
        assert raised.value.response.headers["retry-after"] == "1"


def test_its_own_retry(client, provider):
    assert create(client.with_options(max_retries=1), f"up-{provider}-flaky", "hi").output_text == "Turn 1: hi"


def test_an_error_within_a_stream(client, provider):
    """It is told as the API tells it: a response that failed, or an `error` event, which the SDK raises."""
    text, failed = "", None
    try:
        for event in create(client, f"up-{provider}-broken", "one two three four five six", stream=True):
            if event.type == "response.output_text.delta":
                text += event.delta
            elif event.type == "response.failed":
                failed = event.response.error.message
            assert event.type != "response.completed"
    except openai.APIError as raised:
        failed = raised.message
    assert text and "Turn 1: one two three four five six".startswith(text)
    assert "overloaded" in failed


def test_a_malformed_request(client):
    with pytest.raises(openai.BadRequestError) as raised:
        create(client, "up-chat-plain", [{"role": "user", "content": [{"type": "input_text", "text": 7}]}])
    assert raised.value.param.startswith("input")
    with pytest.raises(openai.NotFoundError):
        create(client, "no-such-model", "hi")
    with pytest.raises(openai.AuthenticationError):
        create(client.with_options(api_key="pk-nobody"), "up-chat-plain", "hi")


@pytest.mark.anyio
async def test_async(scripted):
    async with openai.AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0) as client:
        async with client.responses.stream(model=scripted, input="hi") as stream:
            assert (await stream.get_final_response()).output_text == "Turn 1: hi"
