use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full};
use tollhouse::testing::{Reply, ScriptedProvider};
use tollhouse_sim::Sim;
use tower::{Layer, ServiceExt};
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::{Context, SubscriberExt};

use super::SpanLayer;
use crate::{Account, Caller, Policy, Refused};

/// What a subscriber saw of one span, and whether it is closed.
#[derive(Clone, Debug, Default)]
struct Seen {
    fields: BTreeMap<&'static str, String>,
    closed: bool,
}

/// Keeps all spans that are called `gen_ai.client`.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<BTreeMap<u64, Seen>>>);

struct Fields<'s>(&'s mut Seen);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.fields.insert(field.name(), value.to_owned());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.fields.insert(field.name(), value.to_string());
    }

    /// As exporters do: what is neither text nor a signed integer comes here.
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0
            .fields
            .insert(field.name(), format!("debug {value:?}"));
    }
}

impl Spans {
    fn listen(&self) -> DefaultGuard {
        tracing::subscriber::set_default(tracing_subscriber::registry().with(self.clone()))
    }

    /// The fields of the only span, which must be closed.
    fn only(&self) -> BTreeMap<&'static str, String> {
        let spans = self.0.lock().expect("no panic");
        assert_eq!(spans.len(), 1, "{spans:?}");
        let span = spans.values().next().expect("one");
        assert!(span.closed, "{span:?}");
        span.fields.clone()
    }

    fn change(&self, span: &Id, change: impl FnOnce(&mut Seen)) {
        let mut spans = self.0.lock().expect("no panic");
        if let Some(seen) = spans.get_mut(&span.into_u64()) {
            change(seen);
        }
    }
}

impl<S: Subscriber> tracing_subscriber::Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        if attributes.metadata().name() == "gen_ai.client" {
            let mut seen = Seen::default();
            attributes.record(&mut Fields(&mut seen));
            self.0.lock().expect("no panic").insert(id.into_u64(), seen);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        self.change(id, |seen| values.record(&mut Fields(seen)));
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.change(&id, |seen| seen.closed = true);
    }
}

fn post(uri: &str, body: &'static str) -> Request<Bytes> {
    let request = Request::post(uri).body(Bytes::from_static(body.as_bytes()));
    request.expect("a request")
}

const CHAT: &str =
    r#"{"model":"gpt-4o","max_tokens":100,"messages":[{"role":"user","content":"Hi there"}]}"#;

fn answering(
    response: Response<Full<Bytes>>,
) -> ScriptedProvider<Request<Bytes>, Response<Full<Bytes>>> {
    ScriptedProvider::new(move |_, _| Reply::ok(response.clone()))
}

/// Through a whole policy to a simulated provider, which answers what it used.
#[tokio::test(start_paused = true)]
async fn a_call_is_a_span_by_the_conventions() {
    let spans = Spans::default();
    let _listening = spans.listen();
    let sim = Sim::builder().build().expect("a valid provider");
    let client = SpanLayer::new("openai").layer(Policy::default().layer().layer(sim.service()));
    let request = post("/v1/chat/completions", CHAT);
    let answer = client.oneshot(request).await.expect("an answer");
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    let usage: serde_json::Value = serde_json::from_slice(&body).expect("JSON");

    let fields = spans.only();
    let input = usage["usage"]["prompt_tokens"].to_string();
    let output = usage["usage"]["completion_tokens"].to_string();
    let expected = BTreeMap::from([
        ("otel.name", "chat gpt-4o"),
        ("otel.kind", "client"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", "gpt-4o"),
        ("gen_ai.request.max_tokens", "100"),
        ("gen_ai.usage.input_tokens", &input),
        ("gen_ai.usage.output_tokens", &output),
        ("http.response.status_code", "200"),
    ]);
    let fields: BTreeMap<_, _> = fields.iter().map(|(k, v)| (*k, v.as_str())).collect();
    assert_eq!(fields, expected);
}

#[tokio::test(start_paused = true)]
async fn operations_have_the_conventions_names() {
    for (uri, name) in [
        ("/v1/responses", "chat m"),
        ("https://h.example:8443/v1/embeddings", "embeddings m"),
        ("/v1/completions", "text_completion m"),
        ("/openai/deployments/mine/chat/completions", "chat m"),
    ] {
        let spans = Spans::default();
        let _listening = spans.listen();
        let client = SpanLayer::new("groq").layer(answering(Response::default()));
        let answer = client.oneshot(post(uri, r#"{"model":"m"}"#)).await;
        drop(answer.expect("an answer"));
        let fields = spans.only();
        assert_eq!(fields["otel.name"], name);
        assert_eq!(fields["gen_ai.provider.name"], "groq");
        let address = fields.get("server.address").map(String::as_str);
        assert_eq!(address, uri.starts_with("https").then_some("h.example"));
    }
}

#[tokio::test(start_paused = true)]
async fn other_requests_have_no_span() {
    let spans = Spans::default();
    let _listening = spans.listen();
    let client = SpanLayer::new("openai").layer(answering(Response::default()));
    for uri in ["/v1/files", "/v1/moderations", "/v1/models", "/health"] {
        let answer = client.clone().oneshot(post(uri, "{}")).await;
        drop(answer.expect("an answer"));
    }
    assert!(spans.0.lock().expect("no panic").is_empty());
}

/// A stream's span is open until its last byte, and has the usage of its end.
#[tokio::test(start_paused = true)]
async fn a_streams_span_ends_with_it() {
    let spans = Spans::default();
    let _listening = spans.listen();
    let streamed = tower::service_fn(async |_: Request<Bytes>| {
        let (mut sender, body) = Channel::<Bytes>::new(2);
        tokio::spawn(async move {
            let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5,\"total_tokens\":12}}\n\n";
            for event in ["data: {\"choices\":[]}\n\n", usage, "data: [DONE]\n\n"] {
                tokio::time::sleep(Duration::from_secs(1)).await;
                sender.send_data(event.into()).await.expect("a reader");
            }
        });
        let answer = Response::builder().header("content-type", "text/event-stream");
        Ok::<_, io::Error>(answer.body(body).expect("a response"))
    });
    let client = SpanLayer::new("openai").layer(streamed);
    let answer = client.oneshot(post("/v1/chat/completions", CHAT)).await;
    let mut body = answer.expect("an answer").into_body();
    body.frame().await.expect("a frame").expect("data");
    assert!(
        !spans
            .0
            .lock()
            .expect("no panic")
            .values()
            .any(|span| span.closed)
    );
    while body.frame().await.is_some() {}
    let fields = spans.only();
    assert_eq!(fields["gen_ai.usage.input_tokens"], "7");
    assert_eq!(fields["gen_ai.usage.output_tokens"], "5");
    drop(body);
}

#[tokio::test(start_paused = true)]
async fn failures_have_a_type() {
    let refused = || {
        Response::builder()
            .status(429)
            .body(Full::default())
            .expect("valid")
    };
    let spans = Spans::default();
    let listening = spans.listen();
    let client = SpanLayer::new("openai").layer(answering(refused()));
    drop(
        client
            .oneshot(post("/v1/chat/completions", CHAT))
            .await
            .expect("an answer"),
    );
    drop(listening);
    let fields = spans.only();
    assert_eq!(fields["error.type"], "429");
    assert_eq!(fields["otel.status_code"], "ERROR");
    assert_eq!(fields["http.response.status_code"], "429");

    let spans = Spans::default();
    let listening = spans.listen();
    let policy = Policy::default().layer();
    let client = SpanLayer::new("openai").layer(policy.layer(answering(refused())));
    let large = r#"{"model":"gpt-4o","max_tokens":1000000,"messages":[]}"#;
    let error = client.oneshot(post("/v1/chat/completions", large)).await;
    assert!(matches!(
        error.expect_err("too large").refused(),
        Some(Refused::TooLarge { .. })
    ));
    drop(listening);
    assert_eq!(spans.only()["error.type"], "refused_too_large");

    let spans = Spans::default();
    let _listening = spans.listen();
    let broken = ScriptedProvider::<_, Response<Full<Bytes>>>::new(|_, _: &Request<Bytes>| {
        Reply::error(io::ErrorKind::ConnectionReset)
    });
    let error = SpanLayer::new("openai").layer(broken);
    error
        .oneshot(post("/v1/chat/completions", CHAT))
        .await
        .expect_err("a reset");
    assert_eq!(spans.only()["error.type"], "_OTHER");
}

/// No prompt, no answer, and no cost where nobody listens.
#[tokio::test(start_paused = true)]
async fn nobody_listening_means_no_span_and_no_meter() {
    let client = SpanLayer::new("openai").layer(answering(Response::default()));
    let answer = client.oneshot(post("/v1/chat/completions", CHAT)).await;
    let told = format!("{:?}", answer.expect("an answer").into_body());
    assert!(told.contains("none"), "{told}");
}

/// Whatever becomes of the call; of a caller whom no section names, nothing.
#[tokio::test(start_paused = true)]
async fn a_span_around_an_account_tells_pool_and_caller() {
    let file = "[models.\"gpt-4o*\"]\ntokens_per_minute = 30000\n[callers.\"batch-*\"]\nweight = 2";
    let account = Account::from_toml(file).expect("a good file");
    for (caller, told) in [("batch-7", Some("batch-*")), ("somebody", None)] {
        let spans = Spans::default();
        let guard = spans.listen();
        let client = SpanLayer::new("openai").layer(account.layer().layer(tower::service_fn(
            async |_: Request<Bytes>| Ok::<_, io::Error>(Response::new(Full::<Bytes>::default())),
        )));
        let body = r#"{"model":"gpt-4o-mini","input":"Hi","max_output_tokens":9}"#;
        let mut request = Request::post("/v1/responses")
            .body(Bytes::from(body))
            .expect("a request");
        request.extensions_mut().insert(Caller::new(caller));
        let answer = client.oneshot(request).await.expect("an answer");
        answer.into_body().collect().await.expect("a body");
        drop(guard);
        let fields = spans.only();
        assert_eq!(fields["tollhouse.pool"], "gpt-4o*");
        assert_eq!(fields.get("tollhouse.caller").map(String::as_str), told);
    }
}

/// Each attempt has a span of its own, and each tells them.
#[tokio::test(start_paused = true)]
async fn a_span_around_each_attempt_tells_pool_and_caller() {
    let file = "[defaults]\nretry_max_attempts = 2\n\
                [models.\"gpt-4o*\"]\ntokens_per_minute = 30000\n[callers.web]\nweight = 2";
    let account = Account::from_toml(file).expect("a good file");
    let spans = Spans::default();
    let guard = spans.listen();
    let overloaded = ScriptedProvider::new(|_, _: &Request<Bytes>| {
        let answer = Response::builder()
            .status(503)
            .body(Full::<Bytes>::default());
        Reply::ok(answer.expect("valid"))
    });
    let client = account
        .layer()
        .layer(SpanLayer::new("openai").layer(overloaded));
    let mut request = post("/v1/chat/completions", CHAT);
    request.extensions_mut().insert(Caller::new("web"));
    drop(client.oneshot(request).await.expect("an answer"));
    drop(guard);
    let spans = spans.0.lock().expect("no panic");
    assert_eq!(spans.len(), 2, "{spans:?}");
    for span in spans.values() {
        assert_eq!(span.fields["tollhouse.pool"], "gpt-4o*");
        assert_eq!(span.fields["tollhouse.caller"], "web");
        assert!(span.closed, "{span:?}");
    }
}
