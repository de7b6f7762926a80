"""What the tests of all Python SDKs share: the gateway under test, and what is said behind it.

The sandbox (src/sandbox) answers the same in each of its three dialects, so one test holds for all of them: what OpenAI
passes through, and what is transcoded for Anthropic and Gemini, must look alike to an SDK. So does the scripted
upstream (upstream.py) in its seven, which also tells what it was asked.
"""

import os

import httpx
import openai
import pytest

URL = os.environ["PORTOLAN_URL"]
KEY = os.environ["PORTOLAN_KEY"]
NARROW_KEY = os.environ["PORTOLAN_NARROW_KEY"]

DIALECTS = ["openai", "anthropic", "gemini"]
TRANSCODED = ["anthropic", "gemini"]

# A red pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg=="
# Begins as a JPEG does.
JPEG = "/9j/4AAQSkZJRgABAQAAAQABAAD/2Q=="
IMAGE_TOKENS = 85

# Letters of several scripts, astral ones, quotes and control characters: all that an encoder may get wrong.
UNICODE = 'Grüße, 世界 🌍🏽 "quoted" \\ back\\slash\t\u0001 \u2028 נמל'


@pytest.fixture(params=DIALECTS)
def dialect(request):
    return request.param


@pytest.fixture(params=TRANSCODED)
def transcoded(request):
    return request.param


@pytest.fixture
def model(dialect):
    return f"{dialect}-sandbox"


@pytest.fixture(scope="session")
def client():
    """A client that never tries again: what the gateway says is what is seen."""
    with openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def anyio_backend():
    return "asyncio"


def user(text):
    return {"role": "user", "content": text}


def system(text):
    return {"role": "system", "content": text}


def tokens(text):
    """The sandbox's count: a word is a token, if it is no longer than 16 characters."""
    words = text.split()
    assert all(len(word) <= 16 for word in words), text
    return len(words)


def echo(text):
    return f"Ahoy from the sandbox! You said: {text}"


def thought(text):
    """What the sandbox thinks when it is asked to."""
    return f"Turn 1 brought {tokens(text)} tokens. An echo will do; no storm in sight."


def cost(prompt, completion, cached=0):
    """US dollars at the price that tests/sdk/run sets: 1 and 2 for a million tokens, 0.1 where cached."""
    return (prompt - cached + 0.1 * cached + 2 * completion) / 1e6


# The dialects of upstream.py, each of them a provider `up-NAME`.
PROVIDERS = ["chat", "messages", "gemini", "responses", "bedrock", "cohere", "ollama"]
# Those that sign thoughts and want them back as they were.
SIGNING = ["messages", "gemini", "responses", "bedrock"]
# What it is asked to call, and what it calls it with (see upstream.py's `fill`).
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Lübeck", "Genoa"]}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
ARGUMENTS = {"city": "Lübeck", "days": 1}
THOUGHT = "Let me think about the harbour."


@pytest.fixture(params=PROVIDERS)
def provider(request):
    return request.param


@pytest.fixture
def scripted(provider):
    """The model that the gateway serves from the scripted upstream in the provider's dialect."""
    return f"up-{provider}-plain"


@pytest.fixture
def seen():
    """What the upstream was asked since this test began, as upstream.py read it."""

    def read():
        return httpx.get(f"{os.environ['UPSTREAM_URL']}/seen").json()

    read()
    return read
