"""The official `openai` package, unchanged, against the gateway: what goes wrong."""

import json
import os
import subprocess
import time

import openai
import pytest
from asking import collect, create, raw
from conftest import DIALECTS, NARROW_KEY, TRANSCODED, URL, cost, echo, user


class TestErrors:
    def fails(self, kind, client, model, *, status, stream=False, **options):
        """The error, of this class and status, that a call is refused with."""
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
        assert headers["x-portolan-route"].startswith("balanced")

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
