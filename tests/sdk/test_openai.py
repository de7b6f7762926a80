"""The official `openai` package, unchanged, against the gateway: each test at each of three provider dialects."""

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Literal, Optional

import anyio
import openai
import pytest
from conftest import (
    DIALECTS,
    IMAGE_TOKENS,
    JPEG,
    KEY,
    NARROW_KEY,
    PNG,
    TRANSCODED,
    UNICODE,
    URL,
    cost,
    echo,
    system,
    thought,
    tokens,
    user,
)
from pydantic import BaseModel

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["Lübeck", "Genoa"]},
                "days": {"type": "integer", "minimum": 3},
                "units": {"type": ["string", "null"], "enum": ["metric", "imperial", None]},
            },
            "required": ["city", "days", "units"],
            "additionalProperties": False,
        },
    },
}
# What the sandbox calls it with: the first choice of each enumeration, the least number.
WEATHER_ARGUMENTS = {"city": "Lübeck", "days": 3, "units": "metric"}
# A tool without arguments.
TIDE = {"type": "function", "function": {"name": "get_tide", "parameters": {"type": "object", "properties": {}}}}
# Strict, as the SDK's own helpers make them.
STRICT = {"type": "function", "function": {**WEATHER["function"], "strict": True}}


def create(client, model, *messages, **options):
    return client.chat.completions.create(model=model, messages=list(messages), **options)


def raw(client, model, *messages, **options):
    """Headers and completion."""
    answer = client.chat.completions.with_raw_response.create(model=model, messages=list(messages), **options)
    return answer.headers, answer.parse()


def collect(stream):
    """A stream's text, finish reasons, usage and chunks."""
    text, finishes, usages, chunks = "", [], [], []
    for chunk in stream:
        chunks.append(chunk)
        assert chunk.object == "chat.completion.chunk"
        if chunk.usage:
            usages.append(chunk.usage)
        for choice in chunk.choices:
            text += choice.delta.content or ""
            if choice.finish_reason:
                finishes.append(choice.finish_reason)
    return text, finishes, usages, chunks


def assert_usage(usage, prompt, completion):
    assert (usage.prompt_tokens, usage.completion_tokens) == (prompt, completion)
    assert usage.total_tokens == prompt + completion


class TestChat:
    def test_text_system_and_usage(self, client, model):
        question = (system("Be terse."), user("Where is the harbour?"))
        completion = create(client, model, *question)
        text = "Ahoy from the sandbox! My orders: Be terse. You said: Where is the harbour?"
        assert completion.object == "chat.completion"
        assert completion.id
        assert abs(completion.created - time.time()) < 60
        [choice] = completion.choices
        assert choice.index == 0
        assert choice.message.role == "assistant"
        assert choice.message.content == text
        assert choice.message.tool_calls is None
        assert choice.message.refusal is None
        assert choice.finish_reason == "stop"
        assert_usage(completion.usage, tokens("Be terse. Where is the harbour?"), tokens(text))

    def test_unicode(self, client, model):
        completion = create(client, model, system("Sei höflich 🫖"), user(UNICODE))
        assert completion.choices[0].message.content == (
            f"Ahoy from the sandbox! My orders: Sei höflich 🫖 You said: {UNICODE}"
        )

    def test_developer_and_several_system_messages(self, client, model):
        developer = {"role": "developer", "content": [{"type": "text", "text": "Second."}]}
        completion = create(client, model, system("First."), developer, user("hi"))
        orders = completion.choices[0].message.content.removeprefix("Ahoy from the sandbox! My orders: ")
        assert orders.removesuffix(" You said: hi").split() == ["First.", "Second."]

    def test_turns_and_what_is_cached(self, client, dialect, model):
        first = create(client, model, system("Be terse."), user("one"))
        history = (system("Be terse."), user("one"), first.choices[0].message, user("two"))
        headers, second = raw(client, model, *history)
        text = "Ahoy from the sandbox! Turn 2. My orders: Be terse. You said: two"
        assert second.choices[0].message.content == text
        before = tokens("Be terse. one " + first.choices[0].message.content)
        assert_usage(second.usage, before + 1, tokens(text))
        # Anthropic caches only what is marked.
        cached = 0 if dialect == "anthropic" else before
        assert second.usage.prompt_tokens_details.cached_tokens == cached
        assert float(headers["x-portolan-cost-usd"]) == pytest.approx(cost(before + 1, tokens(text), cached))

    def test_parts_of_text(self, client, model):
        parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
        completion = create(client, model, {"role": "user", "content": parts})
        assert completion.choices[0].message.content.split()[-2:] == ["one", "two"]

    def test_max_tokens(self, client, model):
        for limit in ("max_tokens", "max_completion_tokens"):
            completion = create(client, model, user("hi"), **{limit: 3})
            assert completion.choices[0].message.content.strip() == "Ahoy from the"
            assert completion.choices[0].finish_reason == "length"
            assert_usage(completion.usage, 1, 3)

    def test_stop(self, client, model):
        for stop in ("two", ["absent", "two"]):
            completion = create(client, model, user("one two three"), stop=stop)
            assert completion.choices[0].message.content == echo("one ")
            assert completion.choices[0].finish_reason == "stop"
        text, finishes, *_ = collect(create(client, model, user("one two three"), stop="two", stream=True))
        assert (text, finishes) == (echo("one "), ["stop"])

    def test_seed_and_sampling_arrive_or_are_named_as_lost(self, client, dialect, model):
        options = {"seed": 7, "temperature": 0.5, "top_p": 0.5, "frequency_penalty": 0.5}
        headers, completion = raw(client, model, user("hi"), **options)
        assert completion.choices[0].message.content == echo("hi")
        losses = headers.get("x-portolan-loss", "")
        assert ("dropped:seed" in losses) == (dialect == "anthropic")
        assert "temperature" not in losses
        headers, completion = raw(client, model, user("hi"), logit_bias={"50256": -100})
        assert ("dropped:logit_bias" in headers.get("x-portolan-loss", "")) == (dialect != "openai")
        assert completion.choices[0].message.content == echo("hi")

    def test_a_temperature_beyond_the_providers_range(self, client, dialect, model):
        headers, completion = raw(client, model, user("hi"), temperature=1.7)
        assert completion.choices[0].message.content == echo("hi")
        assert ("altered:temperature" in headers.get("x-portolan-loss", "")) == (dialect == "anthropic")

    def test_several_answers(self, client, dialect, model):
        if dialect == "openai":
            completion = create(client, model, user("hi"), n=3)
            assert [choice.index for choice in completion.choices] == [0, 1, 2]
            assert [choice.message.content for choice in completion.choices] == [echo("hi")] * 3
            assert_usage(completion.usage, 1, 3 * tokens(echo("hi")))
            texts = ["", ""]
            for chunk in create(client, model, user("hi"), n=2, stream=True):
                for choice in chunk.choices:
                    texts[choice.index] += choice.delta.content or ""
            assert texts == [echo("hi")] * 2
        else:
            with pytest.raises(openai.BadRequestError) as raised:
                create(client, model, user("hi"), n=3)
            # Anthropic has no such thing; Gemini has, and its sandbox says what models without it say.
            if dialect == "anthropic":
                assert raised.value.param == "n"
                assert raised.value.code == "unsupported_parameter"
            else:
                assert "Multiple candidates" in raised.value.message
            assert create(client, model, user("hi"), n=1).choices[0].message.content == echo("hi")

    def test_a_prompt_of_a_megabyte(self, client, model):
        text = "wave " * 200_000 + "end"
        completion = create(client, model, user(text))
        assert completion.choices[0].message.content == echo(text[:4000] + "…")
        assert completion.usage.prompt_tokens == 200_001

    def test_a_prompt_beyond_the_limit(self, client, model):
        with pytest.raises(openai.APIStatusError) as raised:
            create(client, model, user("x" * (5 << 20)))
        assert raised.value.status_code == 413
        assert raised.value.code == "request_too_large"
        assert create(client, model, user("hi")).choices[0].message.content == echo("hi")


class TestStreams:
    def test_text(self, client, model):
        text, finishes, usages, chunks = collect(create(client, model, user(UNICODE), stream=True))
        assert text == echo(UNICODE)
        assert finishes == ["stop"]
        assert usages == [], "usage was not asked for"
        assert len({chunk.id for chunk in chunks}) == 1
        assert chunks[0].choices[0].delta.role == "assistant"
        assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) > 5, "piece by piece"
        assert all(chunk.choices for chunk in chunks)

    def test_usage(self, client, dialect, model):
        whole = create(client, model, system("Be terse."), user("hi there"))
        stream = create(
            client, model, system("Be terse."), user("hi there"), stream=True, stream_options={"include_usage": True}
        )
        text, finishes, usages, chunks = collect(stream)
        assert text == whole.choices[0].message.content
        assert finishes == ["stop"]
        assert chunks[-1].choices == []
        [usage] = usages
        assert usage == chunks[-1].usage
        assert_usage(usage, 4, tokens(text))
        assert usage.prompt_tokens_details.cached_tokens == 0
        if dialect != "openai":
            assert chunks[-1].model_extra["cost_usd"] == pytest.approx(cost(4, tokens(text)))

    def test_pieces_come_as_they_are_made(self, client, model):
        started, arrivals = time.monotonic(), []
        for chunk in create(client, f"{model}-long-200", user("hi"), stream=True):
            if chunk.choices[0].delta.content:
                arrivals.append(time.monotonic() - started)
        # The sandbox waits 3 ms between two pieces.
        assert len(arrivals) == 200
        assert arrivals[-1] - arrivals[0] > 0.4
        assert arrivals[20] < arrivals[-1] / 2

    def test_the_stream_helper(self, client, model):
        kinds, deltas = set(), ""
        with client.chat.completions.stream(
            model=model, messages=[user("hi there")], stream_options={"include_usage": True}
        ) as stream:
            for event in stream:
                kinds.add(event.type)
                if event.type == "content.delta":
                    deltas += event.delta
            completion = stream.get_final_completion()
        assert kinds >= {"chunk", "content.delta", "content.done"}
        assert deltas == completion.choices[0].message.content == echo("hi there")
        assert completion.choices[0].finish_reason == "stop"
        assert_usage(completion.usage, 2, tokens(deltas))

    def test_leaving_early(self, client, model):
        with create(client, f"{model}-long-200", user("hi"), stream=True) as stream:
            read = [next(stream) for _ in range(5)]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in read).startswith("wave1 ")
        assert create(client, model, user("hi")).choices[0].message.content == echo("hi")

    def test_raw_lines(self, client, model):
        with client.chat.completions.with_streaming_response.create(
            model=model, messages=[user("hi")], stream=True
        ) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = [line for line in answer.iter_lines() if line]
        # Comments are what keeps a line alive; no SDK shows them.
        assert all(line.startswith(("data: ", ":")) for line in lines)
        assert lines[-1] == "data: [DONE]"
        assert lines.count("data: [DONE]") == 1


class TestTools:
    def test_a_call_and_its_result(self, client, model):
        question = user("How is the weather?")
        first = create(client, model, question, tools=[WEATHER, TIDE])
        [choice] = first.choices
        assert choice.finish_reason == "tool_calls"
        assert not choice.message.content
        [call] = choice.message.tool_calls
        assert call.type == "function"
        assert call.id
        assert call.function.name == "get_weather"
        assert json.loads(call.function.arguments) == WEATHER_ARGUMENTS
        assert first.usage.completion_tokens > 0

        result = {"role": "tool", "tool_call_id": call.id, "content": "fair, 12 °C"}
        second = create(client, model, question, choice.message, result, tools=[WEATHER, TIDE])
        assert second.choices[0].message.content == "Back from the tools. get_weather said: fair, 12 °C"
        assert second.choices[0].finish_reason == "stop"
        assert second.choices[0].message.tool_calls is None

        # The conversation goes on after them.
        third = create(client, model, question, choice.message, result, second.choices[0].message, user("thanks"))
        assert third.choices[0].message.content.endswith("You said: thanks")

    def test_a_call_without_arguments(self, client, model):
        completion = create(client, model, user("hi"), tools=[TIDE])
        [call] = completion.choices[0].message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("get_tide", {})
        result = {"role": "tool", "tool_call_id": call.id, "content": json.dumps({"metres": [1.5, "ebb"]})}
        second = create(client, model, user("hi"), completion.choices[0].message, result, tools=[TIDE])
        told = second.choices[0].message.content.removeprefix("Back from the tools. get_tide said: ")
        assert json.loads(told) == {"metres": [1.5, "ebb"]}

    def test_streamed(self, client, model):
        arguments, ids, names, pieces = "", set(), [], 0
        finishes = []
        for chunk in create(client, model, user("hi"), tools=[WEATHER], stream=True):
            [choice] = chunk.choices
            assert not choice.delta.content
            finishes += [choice.finish_reason] if choice.finish_reason else []
            for call in choice.delta.tool_calls or []:
                assert call.index == 0
                ids |= {call.id} - {None}
                names += [call.function.name] if call.function.name else []
                arguments += call.function.arguments or ""
                pieces += 1
        assert names == ["get_weather"]
        assert json.loads(arguments) == WEATHER_ARGUMENTS
        assert finishes == ["tool_calls"]
        [id] = ids
        message = {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": id, "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
            ],
        }
        result = {"role": "tool", "tool_call_id": id, "content": "fair"}
        text, finishes, *_ = collect(
            create(client, model, user("hi"), message, result, tools=[WEATHER], stream=True)
        )
        assert (text, finishes) == ("Back from the tools. get_weather said: fair", ["stop"])

    def test_parallel(self, client, model):
        question = user("Both in parallel, please.")
        first = create(client, model, question, tools=[WEATHER, TIDE])
        assert first.choices[0].finish_reason == "tool_calls"
        weather, tide = first.choices[0].message.tool_calls
        assert (weather.function.name, tide.function.name) == ("get_weather", "get_tide")
        assert weather.id != tide.id
        assert json.loads(weather.function.arguments) == WEATHER_ARGUMENTS
        # The results may come in any order.
        results = [
            {"role": "tool", "tool_call_id": tide.id, "content": "ebb"},
            {"role": "tool", "tool_call_id": weather.id, "content": "fair"},
        ]
        second = create(client, model, question, first.choices[0].message, *results, tools=[WEATHER, TIDE])
        text = second.choices[0].message.content
        assert text.startswith("Back from the tools. ")
        assert "get_weather said: fair" in text
        assert "get_tide said: ebb" in text

    def test_parallel_calls_of_one_tool(self, client, model):
        choice = {"type": "function", "function": {"name": "get_weather"}}
        question = user("Both in parallel, please.")
        first = create(client, model, question, tools=[TIDE, WEATHER], tool_choice=choice)
        calls = first.choices[0].message.tool_calls
        assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Lübeck", "Genoa"]
        assert calls[0].id != calls[1].id
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": f"fair in {city}"}
            for call, city in zip(calls, ["Lübeck", "Genoa"])
        ]
        second = create(client, model, question, first.choices[0].message, *results, tools=[TIDE, WEATHER])
        assert second.choices[0].message.content == (
            "Back from the tools. get_weather said: fair in Lübeck get_weather said: fair in Genoa"
        )

    def test_parallel_streamed(self, client, model):
        with client.chat.completions.stream(
            model=model, messages=[user("in parallel")], tools=[WEATHER, TIDE]
        ) as stream:
            done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
            message = stream.get_final_completion().choices[0].message
        assert [(event.index, event.name) for event in done] == [(0, "get_weather"), (1, "get_tide")]
        calls = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]
        assert calls == [("get_weather", WEATHER_ARGUMENTS), ("get_tide", {})]
        assert len({call.id for call in message.tool_calls}) == 2

    def test_one_at_a_time(self, client, dialect, model):
        headers, completion = raw(
            client, model, user("in parallel"), tools=[WEATHER, TIDE], parallel_tool_calls=False
        )
        if dialect == "gemini":
            # It knows no such wish.
            assert "dropped:parallel_tool_calls" in headers["x-portolan-loss"]
        else:
            [call] = completion.choices[0].message.tool_calls
            assert call.function.name == "get_weather"

    def test_tool_choice(self, client, model):
        named = {"type": "function", "function": {"name": "get_tide"}}
        for choice, name in (("auto", "get_weather"), ("required", "get_weather"), (named, "get_tide")):
            completion = create(client, model, user("hi"), tools=[WEATHER, TIDE], tool_choice=choice)
            [call] = completion.choices[0].message.tool_calls
            assert call.function.name == name
        completion = create(client, model, user("hi"), tools=[WEATHER, TIDE], tool_choice="none")
        assert completion.choices[0].message.tool_calls is None
        assert completion.choices[0].message.content == echo("hi")

    def test_a_tool_made_of_a_model(self, client, model):
        class Unit(str, Enum):
            METRIC = "metric"
            IMPERIAL = "imperial"

        class Place(BaseModel):
            name: Literal["Lübeck"]
            country: Optional[str]

        class GetForecast(BaseModel):
            """The weather to come."""

            place: Place
            unit: Unit
            hours: list[int]

        tool = openai.pydantic_function_tool(GetForecast, name="get_forecast")
        completion = client.chat.completions.parse(model=model, messages=[user("hi")], tools=[tool])
        [call] = completion.choices[0].message.tool_calls
        parsed = call.function.parsed_arguments
        assert isinstance(parsed, GetForecast)
        assert (parsed.place.name, parsed.unit) == ("Lübeck", Unit.METRIC)
        assert parsed.hours == [1]

    def test_old_results_and_broken_pairs(self, client, model):
        """A result to no call is the caller's mistake at every provider."""
        orphan = {"role": "tool", "tool_call_id": "call_of_nobody", "content": "fair"}
        with pytest.raises(openai.BadRequestError) as raised:
            create(client, model, user("hi"), orphan, tools=[WEATHER])
        assert raised.value.status_code == 400
        assert raised.value.message


class TestVision:
    def see(self, client, model, *urls):
        parts = [{"type": "text", "text": "What is it?"}]
        parts += [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        return create(client, model, {"role": "user", "content": parts})

    def test_data(self, client, model):
        completion = self.see(client, model, f"data:image/png;base64,{PNG}")
        assert completion.choices[0].message.content == (
            "Ahoy from the sandbox! I see 1 image (image/png). You said: What is it?"
        )
        assert completion.usage.prompt_tokens == 3 + IMAGE_TOKENS

    def test_url(self, client, model):
        completion = self.see(client, model, "https://example.com/harbour.jpg?size=large&x=1")
        assert completion.choices[0].message.content == (
            "Ahoy from the sandbox! I see 1 image (by URL). You said: What is it?"
        )
        assert completion.usage.prompt_tokens == 3 + IMAGE_TOKENS

    def test_several_streamed(self, client, model):
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "high"}}
        photo = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{JPEG}"}}
        content = [image, {"type": "text", "text": "Compare."}, photo]
        text, *_ = collect(create(client, model, {"role": "user", "content": content}, stream=True))
        assert text == "Ahoy from the sandbox! I see 2 images (image/png, image/jpeg). You said: Compare."

    def test_what_is_no_image(self, client, model):
        with pytest.raises(openai.BadRequestError) as raised:
            self.see(client, model, "data:image/png;base64,%%%")
        assert raised.value.status_code == 400


class Kind(str, Enum):
    LIGHTHOUSE = "lighthouse"
    BEACON = "beacon"


class Light(BaseModel):
    name: Literal["Arkona"]
    kind: Kind
    height: float
    colours: list[str]


class Harbour(BaseModel):
    """A harbour and its lights."""

    city: Literal["Lübeck", "Genoa"]
    berths: int
    open: bool
    lights: list[Light]
    owner: Optional[str]


class TestStructuredOutput:
    def assert_harbour(self, harbour):
        assert isinstance(harbour, Harbour)
        assert (harbour.city, harbour.open) == ("Lübeck", True)
        [light] = harbour.lights
        assert (light.name, light.kind) == ("Arkona", Kind.LIGHTHOUSE)

    def test_parse(self, client, model):
        completion = client.chat.completions.parse(
            model=model, messages=[user("Describe it.")], response_format=Harbour
        )
        [choice] = completion.choices
        assert choice.finish_reason == "stop"
        self.assert_harbour(choice.message.parsed)
        assert choice.message.tool_calls is None, "however it was reached, it is an answer and no call"
        assert completion.usage.completion_tokens > 0

    def test_stream(self, client, model):
        with client.chat.completions.stream(
            model=model, messages=[user("Describe it.")], response_format=Harbour
        ) as stream:
            deltas = "".join(event.delta for event in stream if event.type == "content.delta")
            completion = stream.get_final_completion()
        self.assert_harbour(completion.choices[0].message.parsed)
        assert json.loads(deltas) == json.loads(completion.choices[0].message.content)

    def test_schema_by_hand(self, client, dialect, model):
        schema = {
            "type": "object",
            "properties": {
                "depth": {"type": "number", "minimum": 4},
                "berth": {"anyOf": [{"$ref": "#/$defs/berth"}, {"type": "null"}]},
            },
            "required": ["depth", "berth"],
            "additionalProperties": False,
            "$defs": {"berth": {"type": "string", "const": "north"}},
        }
        form = {"type": "json_schema", "json_schema": {"name": "sounding", "schema": schema, "strict": True}}
        headers, completion = raw(client, model, user("hi"), response_format=form)
        answer = json.loads(completion.choices[0].message.content)
        assert answer["berth"] == "north"
        if dialect == "anthropic":
            # Its schemas have no bounds of numbers: the answer need not keep them, and the caller is told.
            assert "altered:response_format.json_schema.schema" in headers["x-portolan-loss"]
        else:
            assert answer["depth"] == 4

    def test_any_object(self, client, dialect, model):
        headers, completion = raw(client, model, user("Answer in JSON."), response_format={"type": "json_object"})
        text = completion.choices[0].message.content
        assert completion.choices[0].finish_reason == "stop"
        if dialect == "anthropic":
            # It has no such mode: the model is asked in words, which the sandbox only repeats.
            assert headers["x-portolan-loss"] == "emulated:response_format"
            assert "My orders: Answer with one JSON object" in text
        else:
            assert json.loads(text)["you_said"] == "Answer in JSON."

    def test_cut_short(self, client, model):
        with pytest.raises(openai.LengthFinishReasonError) as raised:
            client.chat.completions.parse(
                model=model, messages=[user("hi")], response_format=Harbour, max_completion_tokens=1
            )
        assert raised.value.completion.usage.completion_tokens == 1


class TestReasoning:
    """The sandbox signs its thoughts as Anthropic and Gemini do, and refuses what it has not signed: an answer in the
    second turn proves that signatures came through both ways, byte for byte."""

    def forged(self, message):
        """The same message with a signature of nobody's."""
        forged = json.loads(json.dumps(message))
        signed = [detail for detail in forged["reasoning_details"] if "signature" in detail]
        assert signed
        for detail in signed:
            detail["signature"] = "AAAA" + detail["signature"][4:]
        return forged

    def test_thoughts_are_shown_and_counted(self, client, model):
        completion = create(client, model, user("Think about it."), reasoning_effort="medium")
        [choice] = completion.choices
        assert choice.message.content == echo("Think about it.")
        assert choice.message.model_extra["reasoning_content"] == thought("Think about it.")
        usage = completion.usage
        assert usage.completion_tokens_details.reasoning_tokens == tokens(thought("Think about it."))
        assert_usage(usage, 3, tokens(thought("Think about it.")) + tokens(choice.message.content))

    def test_no_thoughts_unless_asked(self, client, model):
        for options in ({}, {"reasoning_effort": "none"}):
            message = create(client, model, user("hi"), **options).choices[0].message
            assert not (message.model_extra or {}).get("reasoning_content"), options
            assert message.content == echo("hi")

    @pytest.mark.parametrize("effort", ["minimal", "low", "medium", "high"])
    def test_efforts(self, client, model, effort):
        message = create(client, model, user("hi"), reasoning_effort=effort).choices[0].message
        assert message.model_extra["reasoning_content"] == thought("hi")

    def test_second_turn(self, client, dialect, model):
        question = user("Think about it.")
        first = create(client, model, question, reasoning_effort="low").choices[0].message
        second = create(client, model, question, first, user("And again."), reasoning_effort="low").choices[0].message
        assert second.content == "Ahoy from the sandbox! Turn 2. You said: And again."
        assert second.model_extra["reasoning_content"].startswith("Turn 2 brought 2 tokens.")
        if dialect in TRANSCODED:
            with pytest.raises(openai.BadRequestError, match="(?i)signature"):
                forged = self.forged(first.model_dump(exclude_none=True))
                create(client, model, question, forged, user("And again."), reasoning_effort="low")

    def test_second_turn_with_a_tool(self, client, dialect, model):
        question = user("How is the weather?")
        options = {"tools": [WEATHER], "reasoning_effort": "low"}
        first = create(client, model, question, **options).choices[0].message
        assert first.model_extra["reasoning_content"] == thought(question["content"])
        [call] = first.tool_calls
        assert json.loads(call.function.arguments) == WEATHER_ARGUMENTS
        result = {"role": "tool", "tool_call_id": call.id, "content": "fair"}
        second = create(client, model, question, first, result, **options).choices[0].message
        assert second.content == "Back from the tools. get_weather said: fair"
        # Anthropic goes on thinking only in a turn that began with its thoughts.
        assert second.model_extra["reasoning_content"] == thought(question["content"])

    def test_streamed_and_second_turn(self, client, dialect, model):
        for tools in ([], [WEATHER]):
            options = {"reasoning_effort": "high"} | ({"tools": tools} if tools else {})
            question = user("Think about it.")
            with client.chat.completions.stream(model=model, messages=[question], **options) as stream:
                thoughts, said = "", ""
                for event in stream:
                    if event.type == "chunk" and event.chunk.choices:
                        delta = event.chunk.choices[0].delta
                        more = (delta.model_extra or {}).get("reasoning_content") or ""
                        assert not (more and said), "thoughts come first"
                        thoughts += more
                        said += delta.content or ""
                message = stream.get_final_completion().choices[0].message
            assert thoughts == thought(question["content"])
            assert message.model_extra["reasoning_content"] == thoughts
            # What the SDK has put together goes back as it is.
            back = message.model_dump(exclude_none=True)
            for call in back.get("tool_calls", []):
                call["function"].pop("parsed_arguments", None)
            if tools:
                [call] = message.tool_calls
                reply = {"role": "tool", "tool_call_id": call.id, "content": "fair"}
                want = "Back from the tools. get_weather said: fair"
            else:
                reply = user("And again.")
                want = "Ahoy from the sandbox! Turn 2. You said: And again."
            second = create(client, model, question, back, reply, **options).choices[0].message
            assert second.content == want
            assert second.model_extra["reasoning_content"]
            if dialect in TRANSCODED and not tools:
                with pytest.raises(openai.BadRequestError, match="(?i)signature"):
                    create(client, model, question, self.forged(back), reply, **options)

    @pytest.mark.parametrize("other", DIALECTS)
    def test_thoughts_of_another_provider(self, client, dialect, other):
        """A conversation changes its model: what another provider signed is not sent to this one."""
        question, options = user("How is the weather?"), {"tools": [WEATHER], "reasoning_effort": "low"}
        first = create(client, f"{dialect}-sandbox", question, **options).choices[0].message
        result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "fair"}
        second = create(client, f"{other}-sandbox", question, first, result, **options).choices[0].message
        assert second.content == "Back from the tools. get_weather said: fair"


class TestErrors:
    def fails(self, kind, client, model, *, status, stream=False, **options):
        """Raises what it should, and the connection can be used again."""
        with pytest.raises(kind) as raised:
            create(client, model, user("hi there"), stream=stream, **options)
        error = raised.value
        assert error.status_code == status
        assert error.request_id
        assert error.message
        assert error.body["message"]
        return error

    def test_bad_key(self, model):
        client = openai.OpenAI(base_url=URL, api_key="pk-nobody", max_retries=0)
        error = self.fails(openai.AuthenticationError, client, model, status=401)
        assert error.code == "invalid_api_key"
        assert error.type == "invalid_request_error"
        assert error.request_id == error.response.headers["x-portolan-request-id"]
        assert "nobody" not in error.message
        with pytest.raises(openai.AuthenticationError):
            client.models.list()

    def test_no_key(self, model):
        client = openai.OpenAI(base_url=URL, api_key="x", max_retries=0)
        headers = {"Authorization": openai.Omit()}
        error = self.fails(openai.AuthenticationError, client, model, status=401, extra_headers=headers)
        assert error.code == "invalid_api_key"
        assert "Authorization: Bearer" in error.message

    def test_disabled_key(self, model):
        client = openai.OpenAI(base_url=URL, api_key="pk-gone", max_retries=0)
        error = self.fails(openai.AuthenticationError, client, model, status=401)
        assert error.code == "key_disabled"

    def test_model_not_allowed(self):
        client = openai.OpenAI(base_url=URL, api_key=NARROW_KEY, max_retries=0)
        assert create(client, "openai-sandbox", user("hi")).choices[0].message.content == echo("hi")
        error = self.fails(openai.PermissionDeniedError, client, "gemini-sandbox", status=403)
        assert (error.code, error.param) == ("model_not_allowed", "model")

    def test_unknown_model(self, client):
        error = self.fails(openai.NotFoundError, client, "no-such-model", status=404)
        assert (error.code, error.param) == ("model_not_found", "model")
        assert "no-such-model" in error.message

    def test_model_unknown_to_the_provider(self, client, dialect):
        error = self.fails(openai.NotFoundError, client, f"{dialect}-unheard-of", status=404)
        assert error.code == "model_not_found"

    def test_unknown_path(self, client):
        with pytest.raises(openai.NotFoundError) as raised:
            client.post("/no/such/thing", cast_to=object, body={})
        assert raised.value.code == "unknown_url"
        assert "/v1/no/such/thing" in raised.value.message

    def test_bad_requests(self, client, model):
        for options, param in (
            ({"extra_body": {"stream": "yes"}}, "stream"),
            ({"extra_body": {"timeout": -1}}, "timeout"),
            ({"extra_body": {"fallback": "not a list"}}, "fallback"),
            ({"max_tokens": -5}, "max_tokens"),
        ):
            error = self.fails(openai.BadRequestError, client, model, status=400, **options)
            assert error.code == "invalid_parameter"
            assert error.param == param
        for messages in ([], [{"role": "harbourmaster", "content": "hi"}], [{"role": "user", "content": 5}]):
            with pytest.raises(openai.BadRequestError) as raised:
                client.chat.completions.create(model=model, messages=messages)
            assert "messages" in (raised.value.param or raised.value.message)

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        ("behaviour", "kind", "status"),
        [
            ("fail-400", openai.BadRequestError, 400),
            ("fail-404", openai.NotFoundError, 404),
            ("429-7", openai.RateLimitError, 429),
            ("fail-500", openai.InternalServerError, 500),
            ("fail-502", openai.InternalServerError, 502),
            ("fail-503", openai.InternalServerError, 503),
            ("fail-504", openai.InternalServerError, 504),
        ],
    )
    def test_what_a_provider_answers(self, client, dialect, behaviour, kind, status, stream):
        error = self.fails(kind, client, f"{dialect}-sandbox-{behaviour}", status=status, stream=stream)
        want = "try again in 7s" if status == 429 else f"told to fail with {status}"
        assert want in error.message
        if status == 429:
            assert error.response.headers["retry-after"] == "7"
            assert error.code == "rate_limit_exceeded"
        assert create(client, f"{dialect}-sandbox", user("hi")).choices[0].message.content == echo("hi")

    def test_conflict_size_and_overload(self, client, dialect):
        for code in (409, 413, 422):
            with pytest.raises(openai.APIStatusError) as raised:
                create(client, f"{dialect}-sandbox-fail-{code}", user("hi"))
            assert 400 <= raised.value.status_code < 500 or raised.value.status_code == 502
            assert f"told to fail with {code}" in raised.value.message, code
        with pytest.raises(openai.InternalServerError) as raised:
            create(client, f"{dialect}-sandbox-fail-529", user("hi"))
        assert raised.value.status_code in (503, 529)

    def test_the_gateways_own_credential(self, client, dialect):
        """That a provider refuses the gateway is no mistake of the caller's key."""
        for code in (401, 403):
            error = self.fails(openai.InternalServerError, client, f"{dialect}-sandbox-fail-{code}", status=502)
            assert error.code == "provider_account"
            assert "sandbox" not in error.message

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("behaviour", ["reset", "empty", "garbage"])
    def test_what_is_no_answer(self, client, dialect, behaviour, stream):
        error = self.fails(
            openai.InternalServerError, client, f"{dialect}-sandbox-{behaviour}", status=502, stream=stream
        )
        assert error.code == ("connect" if behaviour == "reset" else "garbage")

    @pytest.mark.parametrize("stream", [False, True])
    def test_an_error_in_place_of_an_answer(self, client, dialect, stream):
        """Status 200, and then an error at once: nothing was promised yet, so it is raised like any other."""
        with pytest.raises(openai.InternalServerError) as raised:
            create(client, f"{dialect}-sandbox-error-first", user("hi there"), stream=stream)
        assert raised.value.status_code in (502, 503)
        assert raised.value.message.endswith("The sandbox is overloaded, as it was told to be.")

    def test_an_error_within_a_stream(self, client, dialect):
        text = ""
        with pytest.raises(openai.APIError) as raised:
            for chunk in create(client, f"{dialect}-sandbox-error-mid", user("one two three four"), stream=True):
                text += chunk.choices[0].delta.content or ""
        assert not isinstance(raised.value, openai.APIStatusError)
        assert raised.value.message == "The sandbox is overloaded, as it was told to be."
        assert raised.value.type
        assert text and echo("one two three four").startswith(text)

    def test_a_stream_that_breaks_off(self, client, dialect):
        """An answer that is cut must never look whole."""
        text, finishes = "", []
        with pytest.raises(openai.APIError) as raised:
            for chunk in create(client, f"{dialect}-sandbox-cut-9", user("one two three four"), stream=True):
                text += chunk.choices[0].delta.content or ""
                finishes += [chunk.choices[0].finish_reason]
        assert raised.value.code == "truncated"
        assert text and echo("one two three four").startswith(text)
        assert set(finishes) <= {None}
        error = self.fails(openai.InternalServerError, client, f"{dialect}-sandbox-cut-9", status=502)
        assert error.code == "truncated"

    def test_refused_by_strictness(self, client, dialect):
        assert create(client, f"{dialect}-strict", user("hi")).choices[0].message.content == echo("hi")
        if dialect in TRANSCODED:
            error = self.fails(
                openai.BadRequestError, client, f"{dialect}-strict", status=400, logit_bias={"50256": -100}
            )
            assert error.code == "lossy_translation"
            assert "logit_bias" in error.message


class TestTime:
    def test_the_clients_own_timeout(self, client, dialect):
        started = time.monotonic()
        with pytest.raises(openai.APITimeoutError):
            create(client.with_options(timeout=0.4), f"{dialect}-sandbox-slow-3000", user("hi"))
        assert time.monotonic() - started < 2
        assert create(client, f"{dialect}-sandbox", user("hi")).choices[0].message.content == echo("hi")

    @pytest.mark.parametrize("stream", [False, True])
    def test_the_calls_deadline(self, client, dialect, stream):
        started = time.monotonic()
        with pytest.raises(openai.InternalServerError) as raised:
            create(client, f"{dialect}-sandbox-slow-3000", user("hi"), stream=stream, extra_body={"timeout": 0.5})
        assert 0.4 < time.monotonic() - started < 2
        assert (raised.value.status_code, raised.value.code) == (504, "deadline_exceeded")
        assert "0.5 s" in raised.value.message

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_provider_that_stalls(self, client, dialect, stream):
        with pytest.raises(openai.InternalServerError) as raised:
            create(client, f"{dialect}-hasty", user("hi"), stream=stream)
        assert (raised.value.status_code, raised.value.code) == (504, "timeout")

    def test_slow_but_in_time(self, client, dialect):
        started = time.monotonic()
        text, finishes, *_ = collect(create(client, f"{dialect}-sandbox-slow-3000", user("hi"), stream=True))
        assert time.monotonic() - started >= 2.9
        assert (text, finishes) == (echo("hi"), ["stop"])


class TestRetries:
    """The SDK's own; the gateway of these tests makes one try at a target."""

    def test_a_target_that_recovers(self, client, dialect):
        answer = client.with_options(max_retries=2).chat.completions.with_raw_response.create(
            model=f"{dialect}-sandbox-flaky-2", messages=[user("hi")]
        )
        assert answer.retries_taken == 2
        assert answer.parse().choices[0].message.content == echo("hi")

    def test_streamed(self, client, dialect):
        stream = create(
            client.with_options(max_retries=1), f"{dialect}-sandbox-flaky-1", user("hi"), stream=True
        )
        text, finishes, *_ = collect(stream)
        assert (text, finishes) == (echo("hi"), ["stop"])

    def test_without_retries(self, client, dialect):
        with pytest.raises(openai.InternalServerError) as raised:
            create(client, f"{dialect}-sandbox-flaky-1", user("hi"))
        assert raised.value.status_code == 500
        assert create(client, f"{dialect}-sandbox-flaky-1", user("hi")).choices[0].message.content == echo("hi")

    def test_the_stated_pause_is_kept(self, client, dialect):
        started = time.monotonic()
        with pytest.raises(openai.RateLimitError) as raised:
            create(client.with_options(max_retries=1), f"{dialect}-sandbox-429-1", user("hi"))
        assert 0.9 < time.monotonic() - started < 10
        assert raised.value.response.request.headers["x-stainless-retry-count"] == "1"

    def test_what_is_not_retried(self, client, dialect):
        with pytest.raises(openai.BadRequestError) as raised:
            create(client.with_options(max_retries=3), f"{dialect}-sandbox-fail-400", user("hi"))
        assert raised.value.response.request.headers["x-stainless-retry-count"] == "0"


class TestFailover:
    @pytest.mark.parametrize("other", DIALECTS)
    def test_to_another_dialect(self, client, dialect, other):
        headers, completion = raw(
            client, f"{dialect}-sandbox-fail-500", user("hi"), extra_body={"fallback": [f"{other}-sandbox"]}
        )
        assert completion.choices[0].message.content == echo("hi")
        assert headers["x-portolan-attempts"] == "2"
        assert headers["x-portolan-provider"] == other
        assert headers["x-portolan-model"] == f"{other}-sandbox"
        assert headers["x-portolan-target"] == f"{other}/sandbox"

    @pytest.mark.parametrize("behaviour", ["429-7", "reset", "empty", "garbage", "error-first", "fail-401", "fail-529"])
    @pytest.mark.parametrize("stream", [False, True])
    def test_from_all_that_can_fail(self, client, dialect, behaviour, stream):
        other = {"openai": "gemini", "anthropic": "openai", "gemini": "openai"}[dialect]
        options = {"extra_body": {"fallback": [f"{other}-sandbox"]}, "stream": stream}
        answer = client.chat.completions.with_raw_response.create(
            model=f"{dialect}-sandbox-{behaviour}", messages=[user("hi")], **options
        )
        # A target that said how long it wants to be left alone is not even tried.
        tries = {"1", "2"} if behaviour == "429-7" else {"2"}
        assert answer.headers["x-portolan-attempts"] in tries
        assert answer.headers["x-portolan-provider"] == other
        if stream:
            text, finishes, *_ = collect(answer.parse())
            assert (text, finishes) == (echo("hi"), ["stop"])
        else:
            assert answer.parse().choices[0].message.content == echo("hi")

    def test_a_stall_before_the_first_token(self, client, dialect):
        stream = create(
            client, f"{dialect}-hasty", user("hi"), stream=True, extra_body={"fallback": [f"{dialect}-sandbox"]}
        )
        text, finishes, *_ = collect(stream)
        assert (text, finishes) == (echo("hi"), ["stop"])

    def test_as_configured(self, client, dialect):
        headers, completion = raw(client, f"{dialect}-safe", user("hi"))
        assert completion.choices[0].message.content == echo("hi")
        assert (headers["x-portolan-attempts"], headers["x-portolan-model"]) == ("2", f"{dialect}-sandbox")
        # The caller's wish goes before the operator's.
        with pytest.raises(openai.InternalServerError):
            create(client, f"{dialect}-safe", user("hi"), extra_body={"fallback": []})

    def test_by_header(self, client, dialect):
        headers, completion = raw(
            client,
            f"{dialect}-sandbox-fail-500",
            user("hi"),
            extra_headers={"x-portolan-fallback": f"{dialect}-sandbox-fail-503, {dialect}-sandbox"},
        )
        assert completion.choices[0].message.content == echo("hi")
        assert headers["x-portolan-attempts"] == "3"

    def test_a_request_at_fault_goes_nowhere(self, client, dialect):
        with pytest.raises(openai.BadRequestError) as raised:
            create(client, f"{dialect}-sandbox-fail-400", user("hi"), extra_body={"fallback": [f"{dialect}-sandbox"]})
        assert raised.value.response.headers["x-portolan-attempts"] == "1"

    def test_all_fail(self, client, dialect):
        with pytest.raises(openai.InternalServerError) as raised:
            create(
                client,
                f"{dialect}-sandbox-fail-500",
                user("hi"),
                extra_body={"fallback": [f"{dialect}-sandbox-fail-503"]},
            )
        assert raised.value.status_code == 503
        assert raised.value.response.headers["x-portolan-attempts"] == "2"
        assert "fail with 503" in raised.value.message

    def test_an_unknown_fallback(self, client, model):
        with pytest.raises(openai.NotFoundError) as raised:
            create(client, model, user("hi"), extra_body={"fallback": ["no-such-model"]})
        assert "no-such-model" in raised.value.message


class TestControls:
    def test_none_reaches_a_provider(self, client, dialect, model):
        """The sandbox refuses members that are not its API's, so an answer is proof."""
        controls = {
            "fallback": [],
            "timeout": 10,
            "tags": {"project": "harbour"},
            "cache": {"mode": "off"},
            "routing": "balanced",
            "priority": "low",
        }
        headers, completion = raw(client, model, user("hi"), extra_body=controls)
        assert completion.choices[0].message.content == echo("hi")
        assert "routing" in headers["x-portolan-loss"]

    def test_region(self, client):
        for name, region in (("openai", "us"), ("anthropic", "eu")):
            completion = create(client, f"{name}-sandbox", user("hi"), extra_body={"region": [region]})
            assert completion.choices[0].message.content == echo("hi")
            other = "eu" if region == "us" else "us"
            with pytest.raises(openai.BadRequestError) as raised:
                create(client, f"{name}-sandbox", user("hi"), extra_body={"region": [other]})
            assert (raised.value.code, raised.value.param) == ("no_target_in_region", "region")

    def test_usage_and_tags_are_metered(self, client, dialect, model):
        def so_far():
            rows = client.get("/usage", cast_to=object)["data"]
            return next((row for row in rows if row["model"] == model), {"requests": 0})["requests"]

        before, tag = so_far(), f"{dialect}-{time.time_ns()}"
        calls = [
            create(client, model, user("hi there"), extra_body={"tags": {"trip": tag}}),
            create(client, model, user("hi"), extra_headers={"x-portolan-tags": f"trip={tag}"}),
        ]
        prompt = sum(call.usage.prompt_tokens for call in calls)
        output = sum(call.usage.completion_tokens for call in calls)

        # A call is settled just after its last byte has left.
        deadline = time.monotonic() + 10
        while so_far() < before + len(calls) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert so_far() == before + len(calls)

        # The operator sees tags on the command line.
        command = [os.environ["PORTOLAN_BINARY"], "usage", "--config", os.environ["PORTOLAN_CONFIG"]]
        shown = subprocess.run([*command, "--by", "key,tag.trip", "--json"], capture_output=True, check=True).stdout
        [row] = [row for row in json.loads(shown)["data"] if row["tag.trip"] == tag]
        assert (row["key"], row["requests"], row["errors"]) == ("sdk", 2, 0)
        assert (row["input_tokens"], row["output_tokens"]) == (prompt, output)
        assert row["cost_usd"] == pytest.approx(cost(prompt, output))


class TestHeaders:
    def test_of_an_answer(self, client, dialect, model):
        headers, completion = raw(client, model, user("hi there"))
        assert headers["x-portolan-provider"] == dialect
        assert headers["x-portolan-model"] == model
        assert headers["x-portolan-target"] == f"{dialect}/sandbox"
        assert headers["x-portolan-attempts"] == "1"
        assert headers["x-portolan-cache"] == "off"
        assert headers["x-portolan-route"]
        assert len(headers["x-portolan-request-id"]) >= 32
        assert completion._request_id == headers["x-request-id"]
        usage = completion.usage
        want = cost(usage.prompt_tokens, usage.completion_tokens)
        assert float(headers["x-portolan-cost-usd"]) == pytest.approx(want)
        if dialect in TRANSCODED:
            assert completion.model_extra["cost_usd"] == pytest.approx(want)
        else:
            assert "cost_usd" not in completion.model_extra, "passed through as it came"
            assert headers["openai-version"]

    def test_of_a_stream(self, client, dialect, model):
        answer = client.chat.completions.with_raw_response.create(model=model, messages=[user("hi")], stream=True)
        assert answer.headers["x-portolan-provider"] == dialect
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert collect(answer.parse())[0] == echo("hi")

    def test_each_call_has_its_own_id(self, client, model):
        ids = {raw(client, model, user("hi"))[0]["x-portolan-request-id"] for _ in range(3)}
        assert len(ids) == 3


class TestModels:
    def test_list(self, client):
        models = {model.id: model for model in client.models.list()}
        for dialect in DIALECTS:
            assert models[f"{dialect}-sandbox"].object == "model"
        assert models["openai-sandbox"].created >= 0
        assert models["openai-sandbox"].owned_by

    def test_retrieve(self, client, model):
        assert client.models.retrieve(model).id == model
        with pytest.raises(openai.NotFoundError) as raised:
            client.models.retrieve("no-such-model")
        assert raised.value.code == "model_not_found"

    def test_a_key_sees_what_it_may_use(self):
        client = openai.OpenAI(base_url=URL, api_key=NARROW_KEY, max_retries=0)
        assert [model.id for model in client.models.list()] == ["openai-sandbox"]

    def test_a_target_by_its_own_name(self, client, dialect):
        completion = create(client, f"{dialect}/sandbox", user("hi"))
        assert completion.choices[0].message.content == echo("hi")


class TestAsync:
    @pytest.mark.anyio
    async def test_many_at_once(self):
        """Calls to all dialects side by side, streamed and not: none gets another's answer."""
        answers = {}
        async with openai.AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0, timeout=30) as client:

            async def call(number):
                model, said = f"{DIALECTS[number % 3]}-sandbox", f"call number {number}"
                if number % 2:
                    stream = await client.chat.completions.create(model=model, messages=[user(said)], stream=True)
                    answers[said] = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
                else:
                    completion = await client.chat.completions.create(model=model, messages=[user(said)])
                    answers[said] = completion.choices[0].message.content

            async with anyio.create_task_group() as group:
                for number in range(60):
                    group.start_soon(call, number)
        assert len(answers) == 60
        assert all(answer == echo(said) for said, answer in answers.items())

    @pytest.mark.anyio
    async def test_tools_and_errors(self, model):
        async with openai.AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0) as client:
            completion = await client.chat.completions.create(model=model, messages=[user("hi")], tools=[WEATHER])
            [call] = completion.choices[0].message.tool_calls
            assert json.loads(call.function.arguments) == WEATHER_ARGUMENTS
            with pytest.raises(openai.RateLimitError) as raised:
                await client.chat.completions.create(model=f"{model}-429-7", messages=[user("hi")])
            assert raised.value.response.headers["retry-after"] == "7"

    @pytest.mark.anyio
    async def test_giving_up_on_a_stream(self, model):
        async with openai.AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0) as client:
            with anyio.move_on_after(0.5) as scope:
                await client.chat.completions.create(model=f"{model}-slow-3000", messages=[user("hi")], stream=True)
            assert scope.cancelled_caught
            completion = await client.chat.completions.create(model=model, messages=[user("hi")])
            assert completion.choices[0].message.content == echo("hi")

    def test_threads_share_a_client(self, client, model):
        with ThreadPoolExecutor(8) as pool:
            said = [f"thread {number}" for number in range(24)]
            texts = pool.map(lambda one: create(client, model, user(one)).choices[0].message.content, said)
            assert list(texts) == [echo(one) for one in said]
