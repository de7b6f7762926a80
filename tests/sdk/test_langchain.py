"""LangChain's `ChatOpenAI`, unchanged, against the gateway: each test at each of three provider dialects."""

import time
from typing import Literal, Optional

import openai
import pytest
from conftest import DIALECTS, IMAGE_TOKENS, JPEG, KEY, PNG, UNICODE, URL, cost, echo, thought, tokens
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field


def chat(model, **options):
    options = {"max_retries": 0, "timeout": 20} | options
    return ChatOpenAI(model=model, base_url=URL, api_key=KEY, **options)


@tool
def get_weather(city: Literal["Lübeck", "Genoa"], days: int) -> str:
    """The weather at a place."""
    return f"fair in {city} for {days} days"


@tool
def get_tide() -> str:
    """The tide."""
    return "ebb"


TOOLS = {"get_weather": get_weather, "get_tide": get_tide}


class Light(BaseModel):
    """A light of a harbour."""

    name: Literal["Arkona"] = Field(description="What sailors call it.")
    metres: int
    colour: Optional[str] = None


class Harbour(BaseModel):
    """A harbour and its lights."""

    city: Literal["Lübeck", "Genoa"]
    open: bool
    lights: list[Light]


def joined(chunks):
    whole = AIMessageChunk(content="")
    for chunk in chunks:
        whole += chunk
    return whole


class TestChat:
    def test_text_and_usage(self, model):
        said = [SystemMessage("Be terse."), HumanMessage("Where is the harbour?")]
        answer = chat(model).invoke(said)
        text = "Ahoy from the sandbox! My orders: Be terse. You said: Where is the harbour?"
        assert answer.content == text
        assert answer.tool_calls == []
        assert answer.response_metadata["finish_reason"] == "stop"
        usage = answer.usage_metadata
        assert (usage["input_tokens"], usage["output_tokens"]) == (6, tokens(text))
        assert usage["total_tokens"] == 6 + tokens(text)
        assert usage["input_token_details"]["cache_read"] == 0
        assert answer.response_metadata["token_usage"]["total_tokens"] == usage["total_tokens"]

    def test_turns(self, dialect, model):
        first = chat(model).invoke("one")
        answer = chat(model).invoke([HumanMessage("one"), first, HumanMessage(UNICODE)])
        assert answer.content == f"Ahoy from the sandbox! Turn 2. You said: {UNICODE}"
        cached = 0 if dialect == "anthropic" else 1 + tokens(first.content)
        assert answer.usage_metadata["input_token_details"]["cache_read"] == cached

    def test_stream(self, model):
        chunks = list(chat(model).stream(UNICODE, stream_usage=True))
        assert sum(bool(chunk.content) for chunk in chunks) > 5
        whole = joined(chunks)
        assert whole.content == echo(UNICODE)
        assert whole.response_metadata["finish_reason"] == "stop"
        usage = whole.usage_metadata
        assert usage["output_tokens"] == chat(model).invoke(UNICODE).usage_metadata["output_tokens"]
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]

    def test_a_chain(self, model):
        prompt = ChatPromptTemplate.from_messages([("system", "Speak {tongue}."), ("human", "{said}")])
        chain = prompt | chat(model) | StrOutputParser()
        want = "Ahoy from the sandbox! My orders: Speak Platt. You said: moin"
        assert chain.invoke({"tongue": "Platt", "said": "moin"}) == want
        assert "".join(chain.stream({"tongue": "Platt", "said": "moin"})) == want

    def test_batch(self, model):
        said = [f"number {n}" for n in range(12)]
        answers = chat(model).batch(said, config={"max_concurrency": 6})
        assert [answer.content for answer in answers] == [echo(one) for one in said]

    def test_stop_limits_and_seed(self, model):
        answer = chat(model, seed=7, temperature=0.2).invoke("one two three", stop=["two"])
        assert answer.content == echo("one ")
        answer = chat(model, max_tokens=3).invoke("hi")
        assert answer.content.strip() == "Ahoy from the"
        assert answer.response_metadata["finish_reason"] == "length"

    def test_several_answers(self, dialect, model):
        if dialect == "openai":
            [generations] = chat(model, n=2).generate([[HumanMessage("hi")]]).generations
            assert [generation.text for generation in generations] == [echo("hi")] * 2
        else:
            with pytest.raises(openai.BadRequestError):
                chat(model, n=2).generate([[HumanMessage("hi")]])

    @pytest.mark.anyio
    async def test_async(self, model):
        # A client of its own: LangChain shares one among all event loops, and each test has another loop.
        async with openai.DefaultAsyncHttpxClient() as http:
            llm = chat(model, http_async_client=http)
            assert (await llm.ainvoke("hi")).content == echo("hi")
            assert joined([chunk async for chunk in llm.astream("hi there")]).content == echo("hi there")

    def test_headers(self, dialect, model):
        answer = chat(model, include_response_headers=True).invoke("hi")
        headers = answer.response_metadata["headers"]
        assert headers["x-portolan-provider"] == dialect
        want = cost(answer.usage_metadata["input_tokens"], answer.usage_metadata["output_tokens"])
        assert float(headers["x-portolan-cost-usd"]) == pytest.approx(want)

    def test_a_prompt_of_a_megabyte(self, model):
        text = "wave " * 200_000
        assert chat(model).invoke(text).usage_metadata["input_tokens"] == 200_000


class TestTools:
    def run(self, llm, said):
        """The loop of an agent: calls tools until there is an answer."""
        messages, used = [HumanMessage(said)], []
        for _ in range(3):
            answer = llm.invoke(messages)
            messages.append(answer)
            if not answer.tool_calls:
                return answer, used
            used.append(answer.tool_calls)
            messages += [TOOLS[call["name"]].invoke(call) for call in answer.tool_calls]
        raise AssertionError(messages)

    def test_a_call_and_its_result(self, model):
        answer, [[call]] = self.run(chat(model).bind_tools([get_weather, get_tide]), "How is the weather?")
        assert (call["name"], call["args"]) == ("get_weather", {"city": "Lübeck", "days": 1})
        assert call["id"]
        assert answer.content == "Back from the tools. get_weather said: fair in Lübeck for 1 days"

    def test_parallel(self, model):
        answer, [[weather, tide]] = self.run(chat(model).bind_tools([get_weather, get_tide]), "Both in parallel.")
        assert (weather["name"], tide["name"], tide["args"]) == ("get_weather", "get_tide", {})
        assert weather["id"] != tide["id"]
        assert "get_weather said: fair in Lübeck for 1 days" in answer.content
        assert "get_tide said: ebb" in answer.content

    def test_streamed(self, model):
        llm = chat(model).bind_tools([get_weather, get_tide], strict=True)
        whole = joined(llm.stream("Both in parallel."))
        assert [(call["name"], call["args"]) for call in whole.tool_calls] == [
            ("get_weather", {"city": "Lübeck", "days": 1}),
            ("get_tide", {}),
        ]
        assert whole.response_metadata["finish_reason"] == "tool_calls"
        results = [ToolMessage("fair", tool_call_id=call["id"]) for call in whole.tool_calls]
        answer = joined(llm.stream([HumanMessage("Both in parallel."), whole, *results]))
        assert answer.content == "Back from the tools. get_weather said: fair get_tide said: fair"

    def test_choice(self, model):
        for choice in ("get_tide", {"type": "function", "function": {"name": "get_tide"}}):
            answer = chat(model).bind_tools([get_weather, get_tide], tool_choice=choice).invoke("hi")
            assert [call["name"] for call in answer.tool_calls] == ["get_tide"]
        answer = chat(model).bind_tools([get_weather], tool_choice="any").invoke("hi")
        assert [call["name"] for call in answer.tool_calls] == ["get_weather"]
        answer = chat(model).bind_tools([get_weather], tool_choice="none").invoke("hi")
        assert (answer.tool_calls, answer.content) == ([], echo("hi"))

    def test_a_failed_tool(self, model):
        llm = chat(model).bind_tools([get_weather])
        first = llm.invoke("hi")
        [call] = first.tool_calls
        result = ToolMessage("no wind", tool_call_id=call["id"], status="error")
        answer = llm.invoke([HumanMessage("hi"), first, result])
        assert answer.content == "Back from the tools. get_weather said: no wind"


class TestVision:
    @pytest.mark.parametrize(
        ("block", "seen"),
        [
            ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}, "image/png"),
            ({"type": "image", "source_type": "base64", "mime_type": "image/png", "data": PNG}, "image/png"),
            ({"type": "image", "base64": JPEG, "mime_type": "image/jpeg"}, "image/jpeg"),
            ({"type": "image_url", "image_url": {"url": "https://example.com/harbour.jpg"}}, "by URL"),
            ({"type": "image", "url": "https://example.com/harbour.jpg"}, "by URL"),
        ],
        ids=["data-url", "base64-v0", "base64-v1", "url", "url-v1"],
    )
    def test_an_image(self, model, block, seen):
        answer = chat(model).invoke([HumanMessage([{"type": "text", "text": "What is it?"}, block])])
        assert answer.content == f"Ahoy from the sandbox! I see 1 image ({seen}). You said: What is it?"
        assert answer.usage_metadata["input_tokens"] == 3 + IMAGE_TOKENS


class TestStructuredOutput:
    WANT = Harbour(city="Lübeck", open=True, lights=[Light(name="Arkona", metres=1)])

    @pytest.mark.parametrize("method", ["json_schema", "function_calling"])
    @pytest.mark.parametrize("strict", [None, True])
    def test_a_model_class(self, model, method, strict):
        llm = chat(model).with_structured_output(Harbour, method=method, strict=strict, include_raw=True)
        answer = llm.invoke("Describe it.")
        assert answer["parsing_error"] is None
        harbour = answer["parsed"]
        assert isinstance(harbour, Harbour)
        assert (harbour.city, harbour.open) == ("Lübeck", True)
        assert [(light.name, light.metres) for light in harbour.lights] == [("Arkona", 1)]
        assert answer["raw"].usage_metadata["output_tokens"] > 0

    def test_streamed(self, model):
        *_, last = chat(model).with_structured_output(Harbour).stream("Describe it.")
        assert isinstance(last, Harbour)
        assert last.lights[0].name == "Arkona"

    def test_a_schema(self, dialect, model):
        schema = {
            "title": "sounding",
            "type": "object",
            "properties": {"depth": {"type": "integer", "minimum": 4}, "bottom": {"enum": ["sand", "rock"]}},
            "required": ["depth", "bottom"],
        }
        answer = chat(model).with_structured_output(schema).invoke("hi")
        # Anthropic's schemas have no bounds of numbers.
        assert answer == {"depth": 1 if dialect == "anthropic" else 4, "bottom": "sand"}

    def test_any_object(self, dialect, model):
        llm = chat(model).with_structured_output(None, method="json_mode", include_raw=True)
        answer = llm.invoke("Answer in JSON.")
        if dialect == "anthropic":
            # It has no such mode: the model is asked in words, which the sandbox only repeats.
            assert "My orders: Answer with one JSON object" in answer["raw"].content
        else:
            assert answer["parsed"]["you_said"] == "Answer in JSON."


class TestReasoning:
    def test_counted(self, model):
        answer = chat(model, reasoning_effort="medium").invoke("Think about it.")
        assert answer.content == echo("Think about it.")
        details = answer.usage_metadata["output_token_details"]
        assert details["reasoning"] == tokens(thought("Think about it."))

    def test_thoughts_are_forgotten(self, model):
        """LangChain keeps no thoughts of Chat Completions. The next turns must do without."""
        llm = chat(model, reasoning_effort="medium").bind_tools([get_weather])
        answer, [[call]] = TestTools().run(llm, "Think about it.")
        assert call["name"] == "get_weather"
        assert answer.content == "Back from the tools. get_weather said: fair in Lübeck for 1 days"
        llm = chat(model, reasoning_effort="medium")
        again = llm.invoke([HumanMessage("one"), llm.invoke("one"), HumanMessage("two")])
        assert again.content == "Ahoy from the sandbox! Turn 2. You said: two"


class TestFailures:
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        ("behaviour", "kind", "status"),
        [
            ("fail-400", openai.BadRequestError, 400),
            ("unheard-of", openai.NotFoundError, 404),
            ("429-7", openai.RateLimitError, 429),
            ("fail-500", openai.InternalServerError, 500),
            ("fail-401", openai.InternalServerError, 502),
            ("garbage", openai.InternalServerError, 502),
        ],
    )
    def test_typed(self, dialect, behaviour, kind, status, stream):
        name = f"{dialect}-{behaviour}" if behaviour == "unheard-of" else f"{dialect}-sandbox-{behaviour}"
        with pytest.raises(kind) as raised:
            llm = chat(name)
            list(llm.stream("hi")) if stream else llm.invoke("hi")
        assert raised.value.status_code == status
        assert raised.value.request_id

    def test_bad_key(self, model):
        with pytest.raises(openai.AuthenticationError) as raised:
            ChatOpenAI(model=model, base_url=URL, api_key="pk-nobody", max_retries=0).invoke("hi")
        assert raised.value.code == "invalid_api_key"

    def test_within_a_stream(self, dialect):
        for behaviour, code in (("error-mid", None), ("cut-9", "truncated")):
            text = ""
            with pytest.raises(openai.APIError) as raised:
                for chunk in chat(f"{dialect}-sandbox-{behaviour}").stream("one two three four"):
                    text += chunk.content
            assert text and echo("one two three four").startswith(text)
            assert code is None or raised.value.code == code

    def test_timeout(self, dialect):
        started = time.monotonic()
        with pytest.raises(openai.APITimeoutError):
            chat(f"{dialect}-sandbox-slow-3000", timeout=0.4).invoke("hi")
        assert time.monotonic() - started < 2

    def test_its_own_retries(self, dialect):
        assert chat(f"{dialect}-sandbox-flaky-1", max_retries=1).invoke("hi").content == echo("hi")

    @pytest.mark.parametrize("other", DIALECTS)
    def test_failover(self, dialect, other):
        llm = chat(
            f"{dialect}-sandbox-fail-503",
            extra_body={"fallback": [f"{other}-sandbox"], "tags": {"chain": "test"}},
            include_response_headers=True,
        )
        answer = llm.invoke("hi")
        assert answer.content == echo("hi")
        headers = answer.response_metadata["headers"]
        assert (headers["x-portolan-attempts"], headers["x-portolan-provider"]) == ("2", other)
        assert joined(llm.stream("hi there")).content == echo("hi there")

    def test_fallbacks_of_langchain(self, transcoded):
        llm = chat(f"{transcoded}-sandbox-fail-500").with_fallbacks([chat(f"{transcoded}-sandbox")])
        assert llm.invoke("hi").content == echo("hi")

    def test_strictness(self, transcoded):
        with pytest.raises(openai.BadRequestError) as raised:
            chat(f"{transcoded}-strict", logit_bias={50256: -100}).invoke("hi")
        assert raised.value.code == "lossy_translation"
        assert "logit_bias" in raised.value.message
