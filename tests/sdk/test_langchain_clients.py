"""LangChain's clients for OpenAI (Chat and Responses), Anthropic and Google, unchanged, in front of every dialect."""

from typing import Literal

import pytest
from conftest import ARGUMENTS, KEY, PNG, SIGNING, UNICODE, URL
from dialects import SIGNATURE
from langchain_anthropic import ChatAnthropic
from langchain_core.exceptions import ModelInvalidRequestError, ModelNotFoundError, ModelRateLimitError
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

ROOT = URL.removesuffix("/v1")
COMMON = {"max_retries": 0, "timeout": 20}


def chat(model, **options):
    return ChatOpenAI(model=model, base_url=URL, api_key=KEY, stream_usage=True, **COMMON, **options)


def responses(model, **options):
    return chat(model, use_responses_api=True, output_version="responses/v1", **options)


def anthropic(model, **options):
    return ChatAnthropic(model=model, base_url=ROOT, api_key=KEY, max_tokens=4000, **COMMON, **options)


def google(model, **options):
    return ChatGoogleGenerativeAI(model=model, base_url=ROOT, api_key=KEY, **COMMON, **options)


THINKING = {
    responses: {"reasoning": {"effort": "medium", "summary": "auto"}, "include": ["reasoning.encrypted_content"]},
    anthropic: {"thinking": {"type": "enabled", "budget_tokens": 2000}},
    google: {"include_thoughts": True, "thinking_budget": 2000},
}


@pytest.fixture(params=[chat, responses, anthropic, google], ids=lambda one: one.__name__)
def connect(request):
    return request.param


@tool
def get_weather(city: Literal["Lübeck", "Genoa"], days: int) -> str:
    """The weather at a place."""
    return "fair"


class Weather(BaseModel):
    """The weather at a place."""

    city: Literal["Lübeck", "Genoa"]
    days: int


def invoke(llm, messages):
    return llm.invoke(messages)


def stream(llm, messages):
    first, *rest = llm.stream(messages)
    for piece in rest:
        first += piece
    return first


@pytest.fixture(params=[invoke, stream], ids=["whole", "streamed"])
def ask(request):
    return request.param


def test_text(connect, ask, scripted):
    answer = ask(connect(scripted), [SystemMessage("Be terse."), HumanMessage(UNICODE)])
    assert answer.text == f"Turn 1: (Be terse.) {UNICODE}"
    usage = answer.usage_metadata
    assert (usage["input_tokens"], usage["output_tokens"]) == (7, 11)


def test_tools_thoughts_and_a_second_turn(connect, ask, provider, scripted, seen):
    llm = connect(scripted, **THINKING.get(connect, {})).bind_tools([get_weather])
    question = HumanMessage("How is it?")
    first = ask(llm, [question])
    [call] = first.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", ARGUMENTS)
    assert ask(llm, [question, first, get_weather.invoke(call)]).text == "The tools said: fair"
    *_, last = seen()
    carried = connect in THINKING and provider in SIGNING
    assert last["ask"]["signatures"] == ([SIGNATURE] if carried else [])


def test_images(connect, scripted, seen):
    image = {"type": "image", "base64": PNG, "mime_type": "image/png"}
    answer = connect(scripted).invoke([HumanMessage([{"type": "text", "text": "What is it?"}, image])])
    assert answer.text == "I see image/png"
    assert seen()[0]["ask"]["images"] == [["image/png", PNG]]


def test_structured_output(connect, scripted):
    llm = connect(scripted).with_structured_output(Weather, method="json_schema")
    assert llm.invoke("hi") == Weather(**ARGUMENTS)


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [("fail-400", ModelInvalidRequestError), ("fail-404", ModelNotFoundError), ("fail-429", ModelRateLimitError)],
)
def test_typed_errors(connect, provider, behaviour, kind):
    with pytest.raises(kind):
        connect(f"up-{provider}-{behaviour}").invoke("hi")


def test_an_error_within_a_stream(connect, provider):
    text = ""
    with pytest.raises(Exception, match="overloaded"):
        for piece in connect(f"up-{provider}-broken").stream("one two three four five six"):
            text += piece.text
    assert text and "Turn 1: one two three four five six".startswith(text)
