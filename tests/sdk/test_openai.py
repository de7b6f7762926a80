"""The official `openai` package, unchanged, against the gateway: chat."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import anyio
import openai
import pytest
from asking import WEATHER, WEATHER_ARGUMENTS, assert_usage, collect, create, raw
from conftest import DIALECTS, KEY, NARROW_KEY, TRANSCODED, UNICODE, URL, cost, echo, system, tokens, user


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
