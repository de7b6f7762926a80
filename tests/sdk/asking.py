"""Asking with the `openai` package, and the tools that are offered."""

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
