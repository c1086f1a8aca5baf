"""The official Python SDK's helpers against the simulator at OPENAI_BASE_URL."""

import asyncio
import json
import os
from enum import Enum
from typing import Annotated, List, Literal, Optional, Union

import openai
from jsonschema import Draft202012Validator
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, Field

client = OpenAI()
MODEL = "gpt-4o"


class Colour(str, Enum):
    red = "red"
    blue = "blue"


class Step(BaseModel):
    explanation: str
    certainty: Annotated[float, Field(ge=0, le=1)]


class Person(BaseModel):
    kind: Literal["person"]
    name: str
    age: Annotated[int, Field(ge=0, le=150)]


class Firm(BaseModel):
    kind: Literal["firm"]
    colours: Annotated[List[Colour], Field(min_length=2, max_length=4)]


class Tree(BaseModel):
    value: int
    children: List["Tree"]


class Answer(BaseModel):
    steps: Annotated[List[Step], Field(min_length=1)]
    who: Union[Person, Firm]
    nickname: Optional[str]
    code: Annotated[str, Field(pattern=r"^[A-Z]{3}-\d{4}$")]
    tree: Tree


class GetWeather(BaseModel):
    """The weather somewhere."""

    city: str
    unit: Literal["celsius", "fahrenheit"]


def ask(text="Say it in JSON."):
    return [{"role": "user", "content": text}]


def chat_parse():
    for number in range(20):
        done = client.chat.completions.parse(
            model=MODEL, messages=ask(f"Answer {number}"), response_format=Answer
        )
        assert isinstance(done.choices[0].message.parsed, Answer), done
        assert done.choices[0].finish_reason == "stop"


def chat_parse_tools():
    tools = [openai.pydantic_function_tool(GetWeather)]
    done = client.chat.completions.parse(
        model=MODEL, messages=ask(), tools=tools, tool_choice="required"
    )
    call = done.choices[0].message.tool_calls[0]
    assert isinstance(call.function.parsed_arguments, GetWeather), done
    assert done.choices[0].finish_reason == "tool_calls"
    assert done.choices[0].message.content is None


def chat_stream():
    with client.chat.completions.stream(
        model=MODEL, messages=ask(), response_format=Answer
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds and kinds.count("content.done") == 1, set(kinds)
    assert isinstance(final.choices[0].message.parsed, Answer)


def chat_stream_tools():
    tools = [openai.pydantic_function_tool(GetWeather)]
    choice = {"type": "function", "function": {"name": "GetWeather"}}
    with client.chat.completions.stream(
        model=MODEL, messages=ask(), tools=tools, tool_choice=choice
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds, set(kinds)
    call = final.choices[0].message.tool_calls[0]
    assert isinstance(call.function.parsed_arguments, GetWeather)


def chat_loop():
    """An agent: a call, its result, a text."""
    tools = [openai.pydantic_function_tool(GetWeather)]
    messages = ask("What is the weather?")
    first = client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    message = first.choices[0].message
    messages.append(message.to_dict())
    call = message.tool_calls[0]
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "Fine."})
    last = client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    assert last.choices[0].message.content and not last.choices[0].message.tool_calls


def chat_json_object():
    done = client.chat.completions.create(
        model=MODEL, messages=ask(), response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(done.choices[0].message.content), dict)
    try:
        client.chat.completions.create(
            model=MODEL, messages=ask("Hi"), response_format={"type": "json_object"}
        )
        raise AssertionError("the word is missing")
    except openai.BadRequestError as error:
        assert "must contain the word 'json'" in str(error), error


def chat_cut_off():
    try:
        client.chat.completions.parse(
            model=MODEL, messages=ask(), response_format=Answer, max_tokens=3
        )
        raise AssertionError("three tokens are no answer")
    except openai.LengthFinishReasonError:
        pass


def responses_parse():
    for number in range(20):
        done = client.responses.parse(model=MODEL, input=f"Answer {number}", text_format=Answer)
        assert isinstance(done.output_parsed, Answer), done


def responses_tools():
    tools = [openai.pydantic_function_tool(GetWeather)]
    tool = {"type": "function", **tools[0]["function"]}
    done = client.responses.parse(model=MODEL, input="Hi", tools=[tool], tool_choice="required")
    assert done.output[0].type == "function_call" and done.output[0].call_id, done
    GetWeather.model_validate_json(done.output[0].arguments)
    after = client.responses.create(
        model=MODEL,
        tools=[tool],
        input=[
            {"role": "user", "content": "Hi"},
            done.output[0].to_dict(),
            {"type": "function_call_output", "call_id": done.output[0].call_id, "output": "Fine."},
        ],
    )
    assert after.output_text, after


def responses_stream():
    with client.responses.stream(model=MODEL, input="Hi", text_format=Answer) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert "response.output_text.delta" in kinds and kinds[-1] == "response.completed", kinds
    assert isinstance(final.output_parsed, Answer)


def responses_stream_tools():
    tools = [openai.pydantic_function_tool(GetWeather)]
    tool = {"type": "function", **tools[0]["function"]}
    with client.responses.stream(
        model=MODEL, input="Hi", tools=[tool], tool_choice={"type": "function", "name": "GetWeather"}
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert "response.function_call_arguments.done" in kinds, kinds
    GetWeather.model_validate_json(final.output[0].arguments)


def moderations():
    done = client.moderations.create(input=["a fine day", "some violence there"])
    assert [result.flagged for result in done.results] == [False, True]
    assert done.results[1].categories.violence and not done.results[1].categories.hate


def embeddings():
    done = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    assert [len(item.embedding) for item in done.data] == [1536, 1536]


SCHEMAS = [
    {"type": "object", "properties": {"a": {"type": ["string", "null"], "maxLength": 3}}, "required": ["a"]},
    {"type": "array", "items": {"type": "integer", "minimum": -3, "exclusiveMaximum": 3}, "minItems": 4, "uniqueItems": True},
    {"type": "object", "additionalProperties": {"type": "number", "multipleOf": 0.25}, "minProperties": 3},
    {"oneOf": [{"type": "string", "format": "uuid"}, {"type": "integer"}]},
    {"allOf": [{"$ref": "#/$defs/a"}, {"properties": {"y": {"const": [1]}}, "required": ["y"]}],
     "$defs": {"a": {"type": "object", "properties": {"x": {"enum": ["ä", 2, None]}}, "required": ["x"]}}},
    {"prefixItems": [{"type": "boolean"}, {"type": "string", "pattern": "^(a|b)+c{2}$"}], "items": False, "minItems": 2},
    {"type": "string", "minLength": 200, "maxLength": 210},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e-6},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "ipv6"},
]


def any_schema():
    for schema in SCHEMAS:
        validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
        for number in range(10):
            done = client.chat.completions.create(
                model=MODEL,
                messages=ask(f"{number}"),
                response_format={"type": "json_schema", "json_schema": {"name": "any", "schema": schema}},
            )
            validator.validate(json.loads(done.choices[0].message.content))


def bad_schema():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": []}
    form = {"type": "json_schema", "json_schema": {"name": "bad", "strict": True, "schema": schema}}
    try:
        client.chat.completions.create(model=MODEL, messages=ask(), response_format=form)
        raise AssertionError("it is not strict")
    except openai.BadRequestError as error:
        assert "Invalid schema for response_format 'bad'" in str(error), error


async def asynchronous():
    async with AsyncOpenAI() as client:
        async with client.chat.completions.stream(
            model=MODEL, messages=ask(), response_format=Answer
        ) as stream:
            final = await stream.get_final_completion()
        assert isinstance(final.choices[0].message.parsed, Answer)


def rate_limits():
    admin = OpenAI(admin_api_key=os.environ["OPENAI_API_KEY"])
    limits = admin.admin.organization.projects.rate_limits.list_rate_limits("proj_any")
    found = {limit.model: limit for limit in limits}
    assert found["gpt-4o"].object == "project.rate_limit", found
    assert found["gpt-4o"].max_requests_per_1_minute > 0, found


CHECKS = [
    chat_parse, chat_parse_tools, chat_stream, chat_stream_tools, chat_loop, chat_json_object,
    chat_cut_off, responses_parse, responses_tools, responses_stream, responses_stream_tools,
    moderations, embeddings, any_schema, bad_schema, rate_limits,
]

for check in CHECKS:
    print("python", openai.__version__, check.__name__, flush=True)
    check()
asyncio.run(asynchronous())
