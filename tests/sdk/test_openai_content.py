"""The official `openai` package, unchanged, against the gateway: all but text."""

import json
from enum import Enum
from typing import Literal, Optional

import openai
import pytest
from asking import TIDE, WEATHER, WEATHER_ARGUMENTS, assert_usage, collect, create, raw
from conftest import DIALECTS, IMAGE_TOKENS, JPEG, PNG, TRANSCODED, echo, thought, tokens, user
from pydantic import BaseModel


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
