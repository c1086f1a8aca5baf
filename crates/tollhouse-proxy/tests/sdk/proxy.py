"""The official Python SDK through the proxy at OPENAI_BASE_URL, its own retries on."""

import asyncio
import json
import os
import time
import urllib.request

import openai
from openai import AsyncOpenAI, OpenAI

MODEL = "gpt-4o"
ASK = [{"role": "user", "content": "Hi"}]
client = OpenAI()


def status():
    request = urllib.request.Request(os.environ["OPENAI_BASE_URL"].removesuffix("/v1") + "/tollhouse/status")
    request.add_header("authorization", "Bearer " + os.environ["OPENAI_API_KEY"])
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


async def two_hundred_at_once():
    async with AsyncOpenAI() as client:
        calls = [client.chat.completions.with_raw_response.create(model=MODEL, messages=ASK, max_tokens=5)
                 for _ in range(200)]
        answers = await asyncio.gather(*calls)
    assert all(answer.status_code == 200 for answer in answers)
    assert all(answer.retries_taken == 0 for answer in answers)
    waits = sorted(int(answer.headers["x-tollhouse-wait-ms"]) for answer in answers)
    assert all(answer.headers["x-tollhouse-attempts"] == "1" for answer in answers)
    print("waits, ms", waits[0], waits[100], waits[-1], flush=True)


def longest_waits():
    """A longest wait is a number; one that is long enough changes nothing."""
    hasty = client.with_options(max_retries=0, default_headers={"x-tollhouse-max-wait": "nonsense"})
    try:
        hasty.chat.completions.create(model=MODEL, messages=ASK)
        raise AssertionError("it passed")
    except openai.BadRequestError as error:
        assert error.code == "invalid_value", error
    patient = client.with_options(default_headers={"x-tollhouse-max-wait": "60"})
    patient.chat.completions.create(model=MODEL, messages=ASK, max_tokens=5)


def wrong_token():
    try:
        OpenAI(api_key="another").models.list()
        raise AssertionError("it passed")
    except openai.AuthenticationError as error:
        assert error.code == "invalid_api_key", error


def errors_pass():
    try:
        client.chat.completions.create(model=MODEL, messages=[])
        raise AssertionError("it passed")
    except openai.BadRequestError as error:
        assert "Tollhouse" not in error.message, error
    try:
        client.files.create(file=("a.jsonl", b"x" * 3_000), purpose="batch")
        raise AssertionError("the simulator takes no files")
    except openai.NotFoundError as error:
        assert "Invalid URL (POST /v1/files)" in error.message, error


def embeddings():
    assert client.embeddings.create(model="text-embedding-3-small", input=["a", "b"]).data[1].index == 1


async def cancelled():
    async with AsyncOpenAI() as client:
        stream = await client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=2000, stream=True)
        async for _ in stream:
            break
        await stream.close()


def at_rest():
    for _ in range(200):
        now = status()
        if now["calls_in_flight"] == 0 and now["held_bytes"] == 0 and now["accounts"][0]["in_flight"] == 0:
            return
        time.sleep(0.02)
    raise AssertionError(now)


print("python", openai.__version__, "two_hundred_at_once", flush=True)
asyncio.run(two_hundred_at_once())
for check in [longest_waits, wrong_token, errors_pass, embeddings]:
    print("python", openai.__version__, check.__name__, flush=True)
    check()
asyncio.run(cancelled())
at_rest()
