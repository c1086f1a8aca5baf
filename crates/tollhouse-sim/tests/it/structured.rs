//! Answers that are JSON, and calls of tools.

use serde_json::{Value, json};
use tollhouse_sim::{Answers, Sim};

use crate::client::{call, chat, generous, hello, streamed};

/// An order: an enum, a bounded number, a list, a reference, a choice.
fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "colour": {"type": "string", "enum": ["red", "blue"]},
            "count": {"type": "integer", "minimum": 3, "maximum": 5},
            "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}, "minItems": 2},
            "note": {"anyOf": [{"type": "null"}, {"const": "fine"}]},
        },
        "required": ["colour", "count", "lines", "note"],
        "additionalProperties": false,
        "$defs": {"line": {
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "required": ["name"],
            "additionalProperties": false,
        }},
    })
}

fn assert_order(text: &str) {
    let order: Value = serde_json::from_str(text).unwrap();
    assert!(
        ["red", "blue"].contains(&order["colour"].as_str().unwrap()),
        "{order}"
    );
    assert!(
        (3..=5).contains(&order["count"].as_i64().unwrap()),
        "{order}"
    );
    let lines = order["lines"].as_array().unwrap();
    assert!(
        lines.len() >= 2 && lines.iter().all(|line| line["name"].is_string()),
        "{order}"
    );
    assert!(
        order["note"].is_null() || order["note"] == "fine",
        "{order}"
    );
}

/// A chat whose length is not asked.
fn asking(text: &str) -> Value {
    json!({"model": "gpt-4o", "messages": [{"role": "user", "content": text}]})
}

fn with(mut body: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn chat_format() -> Value {
    let schema = json!({"name": "order", "strict": true, "schema": schema()});
    json!({"response_format": {"type": "json_schema", "json_schema": schema}})
}

fn chat_tools(choice: Value) -> Value {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": schema()}});
    json!({"tools": [tool("order"), tool("cancel")], "tool_choice": choice})
}

fn response_tools(choice: Value) -> Value {
    let tool = json!({"type": "function", "name": "order", "parameters": schema(), "strict": true});
    json!({"tools": [tool], "tool_choice": choice})
}

#[tokio::test(start_paused = true)]
async fn a_chat_in_a_schema_satisfies_it_whole_and_streamed() {
    for number in 0..20 {
        let body = with(asking(&number.to_string()), &chat_format());
        let whole = chat(&generous(), &body).await.json();
        let choice = &whole["choices"][0];
        let text = choice["message"]["content"].as_str().unwrap();
        assert_order(text);
        assert_eq!(choice["finish_reason"], "stop");
        let chunks = chat(&generous(), &streamed(body)).await.chunks();
        let deltas = chunks
            .iter()
            .filter_map(|c| c["choices"][0]["delta"]["content"].as_str());
        assert_eq!(deltas.collect::<String>(), text);
        let tokens = whole["usage"]["completion_tokens"].as_u64().unwrap();
        // Role and end beside a token each.
        assert_eq!(chunks.len() as u64, tokens + 2);
    }
}

#[tokio::test(start_paused = true)]
async fn json_is_cut_off_by_the_asked_length() {
    let body = with(hello(3), &chat_format());
    let body = chat(&generous(), &body).await.json();
    assert_eq!(body["choices"][0]["finish_reason"], "length");
    assert_eq!(body["usage"]["completion_tokens"], 3);
    let text = body["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(
        text.starts_with("{\"colour\":\"") && text.len() == 12,
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn any_json_is_an_object_and_the_word_is_demanded() {
    let form = json!({"response_format": {"type": "json_object"}});
    let body = with(asking("Give me JSON."), &form);
    let answer = chat(&generous(), &body).await.json();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap().is_object());

    let answer = chat(&generous(), &with(asking("Hi"), &form)).await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.message(),
        "'messages' must contain the word 'json' in some form, to use 'response_format' of type \
         'json_object'."
    );
}

#[tokio::test(start_paused = true)]
async fn a_required_tool_is_called_with_arguments_that_satisfy_its_schema() {
    let body = with(hello(4_000), &chat_tools(json!("required")));
    let whole = chat(&generous(), &body).await.json();
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert!(choice["message"]["content"].is_null());
    let tool_call = &choice["message"]["tool_calls"][0];
    assert!(tool_call["id"].as_str().unwrap().starts_with("call_"));
    assert_order(tool_call["function"]["arguments"].as_str().unwrap());

    let chunks = chat(&generous(), &streamed(body)).await.chunks();
    let deltas: Vec<_> = chunks
        .iter()
        .map(|c| &c["choices"][0]["delta"]["tool_calls"][0])
        .collect();
    assert_eq!(deltas[0]["id"], tool_call["id"]);
    assert_eq!(deltas[0]["function"]["name"], tool_call["function"]["name"]);
    let arguments = deltas
        .iter()
        .filter_map(|d| d["function"]["arguments"].as_str());
    assert_eq!(
        tool_call["function"]["arguments"],
        arguments.collect::<String>()
    );
}

#[tokio::test(start_paused = true)]
async fn a_named_tool_is_the_one_that_is_called() {
    let named = json!({"type": "function", "function": {"name": "cancel"}});
    let allowed = json!({"type": "allowed_tools", "allowed_tools": {
        "mode": "required", "tools": [named],
    }});
    for (choice, finish) in [(named, "stop"), (allowed, "tool_calls")] {
        let body = with(asking("Hi"), &chat_tools(choice));
        let body = chat(&generous(), &body).await.json();
        let choice = &body["choices"][0];
        assert_eq!(
            choice["message"]["tool_calls"][0]["function"]["name"],
            "cancel"
        );
        assert_eq!(choice["finish_reason"], finish);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_may_be_called_is_until_its_result_is_there() {
    let calls = async |sim: &Sim, body: &Value| {
        let body = chat(sim, body).await.json();
        let message = &body["choices"][0]["message"];
        message.get("tool_calls").is_some()
    };
    let auto = with(asking("Hi"), &chat_tools(json!("auto")));
    assert!(calls(&generous(), &auto).await);
    assert!(!calls(&generous(), &with(asking("Hi"), &chat_tools(json!("none")))).await);
    let mut answered = auto.clone();
    let result = json!({"role": "tool", "tool_call_id": "call_1", "content": "done"});
    answered["messages"].as_array_mut().unwrap().push(result);
    assert!(!calls(&generous(), &answered).await);

    let answers = Answers {
        tool_calls: 0.0,
        ..Answers::default()
    };
    let never = Sim::builder().answers(answers).build().unwrap();
    assert!(!calls(&never, &auto).await);
}

#[tokio::test(start_paused = true)]
async fn a_response_in_a_schema_satisfies_it_whole_and_streamed() {
    let format =
        json!({"type": "json_schema", "name": "order", "strict": true, "schema": schema()});
    let body = json!({"model": "gpt-4o", "input": "Hi", "text": {"format": format}});
    let whole = call(&generous(), "/v1/responses", &body).await.json();
    let text = whole["output"][0]["content"][0]["text"].as_str().unwrap();
    assert_order(text);
    assert_eq!(whole["text"]["format"]["name"], "order");
    let events = call(&generous(), "/v1/responses", &streamed(body))
        .await
        .chunks();
    assert_eq!(events.last().unwrap()["response"], whole);
    let deltas = events.iter().filter_map(|event| event["delta"].as_str());
    assert_eq!(deltas.collect::<String>(), text);
}

#[tokio::test(start_paused = true)]
async fn a_response_calls_tools_whole_and_streamed() {
    for choice in [
        json!("required"),
        json!({"type": "function", "name": "order"}),
    ] {
        let body = json!({"model": "gpt-4o", "input": "Hi"});
        let body = with(body, &response_tools(choice));
        let whole = call(&generous(), "/v1/responses", &body).await.json();
        let item = &whole["output"][0];
        assert_eq!(
            (&item["type"], &item["name"]),
            (&json!("function_call"), &json!("order"))
        );
        assert!(item["call_id"].as_str().unwrap().starts_with("call_"));
        assert_order(item["arguments"].as_str().unwrap());

        let events = call(&generous(), "/v1/responses", &streamed(body))
            .await
            .chunks();
        let types: Vec<_> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
        assert_eq!(
            types[..4],
            [
                "response.created",
                "response.in_progress",
                "response.output_item.added",
                "response.function_call_arguments.delta",
            ]
        );
        assert_eq!(
            types[types.len() - 3..],
            [
                "response.function_call_arguments.done",
                "response.output_item.done",
                "response.completed",
            ]
        );
        assert_eq!(events.last().unwrap()["response"], whole);
        let deltas = events.iter().filter_map(|event| event["delta"].as_str());
        assert_eq!(item["arguments"], deltas.collect::<String>());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_form_is_told_in_openais_words() {
    let format = |format: Value| json!({"response_format": format});
    let function = |parameters: Value, strict: bool| {
        json!({"tools": [{"type": "function", "function": {
            "name": "f", "parameters": parameters, "strict": strict,
        }}], "tool_choice": "required"})
    };
    let loose = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let never = json!({"type": "object", "required": ["a"],
        "properties": {"a": {"type": "integer", "minimum": 2, "maximum": 1}}});
    let table = [
        (
            format(json!({"type": "xml"})),
            "Invalid value: 'xml'. Supported values are: 'json_object', 'json_schema', and 'text'.",
            "response_format.type",
        ),
        (
            format(json!({"type": "json_schema"})),
            "Missing required parameter: 'response_format.json_schema'.",
            "response_format.json_schema",
        ),
        (
            format(json!({"type": "json_schema", "json_schema": {"name": "a b"}})),
            "Invalid 'response_format.json_schema.name': string does not match pattern. Expected a \
             string that matches the pattern '^[a-zA-Z0-9_-]+$' and has at most 64 characters.",
            "response_format.json_schema.name",
        ),
        (
            format(json!({"type": "json_schema", "json_schema": {
                "name": "n", "strict": true, "schema": loose}})),
            "Invalid schema for response_format 'n': In context=(), 'additionalProperties' is \
             required to be supplied and to be false.",
            "response_format",
        ),
        (
            function(loose, true),
            "Invalid schema for function 'f': In context=(), 'additionalProperties' is required to \
             be supplied and to be false.",
            "tools[0].function.parameters",
        ),
        (
            function(never, false),
            "Invalid schema for function 'f': In context=('properties', 'a'), no number is within \
             the bounds.",
            "tools[0].function.parameters",
        ),
        (
            json!({"tool_choice": "required"}),
            "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are \
             specified. (This simulated provider calls function tools alone.)",
            "tool_choice",
        ),
        (
            chat_tools(json!({"type": "function", "function": {"name": "other"}})),
            "Tool choice 'other' not found in 'tools' parameter.",
            "tool_choice",
        ),
        (
            chat_tools(json!("always")),
            "Invalid value: 'always'. Supported values are: 'none', 'auto', and 'required'.",
            "tool_choice",
        ),
        (
            json!({"tools": [{"type": "function"}]}),
            "Missing required parameter: 'tools[0].function'.",
            "tools[0].function",
        ),
    ];
    for (form, message, param) in table {
        let answer = chat(&generous(), &with(hello(10), &form)).await;
        assert_eq!(answer.status, 400, "{form}");
        assert_eq!(answer.message(), message);
        assert_eq!(answer.error().1, param);
    }
}

#[tokio::test(start_paused = true)]
async fn texts_are_flagged_by_the_categories_they_name() {
    let sim = generous();
    let body = json!({"input": ["A fine day", "Violence/graphic, and hate."]});
    let answer = call(&sim, "/v1/moderations", &body).await.json();
    assert_eq!(answer["model"], "omni-moderation-latest");
    let [fine, flagged] = [0, 1].map(|index| &answer["results"][index]);
    assert_eq!(
        (&fine["flagged"], &flagged["flagged"]),
        (&json!(false), &json!(true))
    );
    let categories = flagged["categories"].as_object().unwrap();
    assert_eq!(categories.len(), 13);
    let named: Vec<_> = categories
        .iter()
        .filter(|(_, v)| **v == true)
        .map(|(k, _)| k)
        .collect();
    assert_eq!(named, ["hate", "violence/graphic"]);
    assert!(flagged["category_scores"]["hate"].as_f64().unwrap() > 0.5);

    let parts = json!({"model": "m", "input": [
        {"type": "text", "text": "self-harm"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]});
    let answer = call(&sim, "/v1/moderations", &parts).await.json();
    assert_eq!(answer["results"].as_array().unwrap().len(), 1);
    assert_eq!(answer["results"][0]["categories"]["self-harm"], true);
    let answer = call(&sim, "/v1/moderations", &json!({"input": [1]})).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().1),
        (400, json!("input[0]"))
    );
}
