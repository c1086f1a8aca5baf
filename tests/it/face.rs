//! The public names that other people's code compiles against.
//!
//! Renaming any of them breaks this file first.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::time::Instant;
use tollhouse::{
    Accounting, Backoff, BoxError, Caller, Charge, Classify, ConcurrencyLayer, ConfigError, Cost,
    Deadline, Decision, Error, GateLayer, Keyed, Per, RateLimits, Refused, Reservation, RetryLayer,
    Scope, Snapshot, StaggerLayer, TokenBudget, TpmBudgetLayer, Unit, Usage, Window,
};
use tollhouse_openai::{Account, OpenAi, Policy};
use tower::util::{BoxCloneService, BoxCloneSyncService};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

fn whole_budget() -> Result<TokenBudget, ConfigError> {
    TokenBudget::per_minute(30_000)
        .requests_per_minute(500)
        .meter(Unit::Images, Per::Day, 500)
        .headroom(0.15)
        .burst(20_000)
        .accounting(Accounting::AsUsed)
        .window(Window::Auto)
        .cautious_start(true)
        .max_wait(Duration::from_secs(60))
        .max_waiting(100)
        .build()
}

#[tokio::test(start_paused = true)]
async fn budget() {
    let budget = whole_budget().expect("a valid budget");
    let reservation: Reservation = budget.reserve(100).await.expect("room");
    reservation.launched();
    reservation.settle(120);
    let second: Result<Reservation, Refused> = budget.try_reserve(100);
    drop(second);
    let Snapshot {
        limit,
        level,
        in_transit,
        outstanding,
        waiting,
        held_until,
        ..
    } = budget.snapshot();
    assert_eq!(
        (limit, level, in_transit, outstanding),
        (30_000, 19_880, 0, 0)
    );
    assert_eq!((waiting, held_until), (0, None));
    assert_eq!(budget.eta(100), Duration::ZERO);
    let plain = RateLimits::default();
    budget.observe(&plain);
    let told = tollhouse_openai::RateLimits::from_headers(&http::HeaderMap::new());
    budget.observe(&told);
    budget.hold(Instant::now() + Duration::from_secs(1));
    assert!(matches!(
        budget.clone().try_reserve(1),
        Err(Refused::Overloaded { waiting: 0, .. })
    ));
    assert!(matches!(
        budget.reserve(45_411).await,
        Err(Refused::TooLarge {
            cost: 45_411,
            limit: 20_000
        })
    ));
}

fn cost(request: &Request<Bytes>) -> u64 {
    request.body().len() as u64
}

fn usage(_: &Response<String>) -> Option<u64> {
    Some(1)
}

fn classify<B>(result: Result<&Response<B>, &Error>) -> Decision {
    match result {
        Ok(response) if response.status() == 429 => Decision::Retry {
            after: None,
            scope: Scope::Requests,
        },
        _ => Decision::GiveUp,
    }
}

fn takes_the_traits(
    _: impl Cost<Request<Bytes>>,
    _: impl Usage<Response<String>>,
    _: impl Classify<Response<()>, Error>,
) {
}

async fn provider(_: Request<Bytes>) -> Result<Response<String>, BoxError> {
    Ok(Response::new("a whole answer".to_owned()))
}

/// All four layers, stacked by hand.
fn stack() -> impl Service<
    Request<Bytes>,
    Response = Response<impl http_body::Body<Data = Bytes, Error: std::fmt::Debug> + Send>,
    Error = Error,
    Future: Send,
> + Clone
+ Send
+ Sync
+ 'static {
    let budget = TokenBudget::per_minute(30_000).build().expect("valid");
    ServiceBuilder::new()
        .layer(RetryLayer::new(Backoff::default(), classify))
        .layer(ConcurrencyLayer::new(3))
        .layer(TpmBudgetLayer::new(budget, cost).usage(|_: &Response<_>| Some(1)))
        .layer(StaggerLayer::new(Duration::from_secs(15)).jitter(0.1))
        .service(service_fn(provider))
}

fn question() -> Request<Bytes> {
    Request::new(Bytes::from_static(b"how deep is the sea?"))
}

#[tokio::test(start_paused = true)]
async fn a_stack_can_be_spawned() {
    takes_the_traits(cost, usage, classify::<()>);
    let stack = stack();
    let spawned = tokio::spawn(async move { stack.oneshot(question()).await });
    assert!(spawned.await.expect("no panic").is_ok());
}

#[tokio::test(start_paused = true, flavor = "current_thread")]
async fn a_stack_can_be_boxed() {
    let cloned = BoxCloneService::new(stack());
    assert!(cloned.clone().oneshot(question()).await.is_ok());
    let synced = BoxCloneSyncService::new(stack());
    let spawned = tokio::spawn(async move { synced.clone().oneshot(question()).await });
    assert!(spawned.await.expect("no panic").is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_policy_can_be_spawned_boxed_and_kept_in_axums_state() {
    let client = Policy::default().layer().layer(service_fn(provider));
    let spawned = client.clone();
    let spawned = tokio::spawn(async move { spawned.oneshot(question()).await });
    assert!(spawned.await.expect("no panic").is_ok());

    let boxed = BoxCloneSyncService::new(client.clone());
    assert!(boxed.clone().oneshot(question()).await.is_ok());

    let app: axum::Router = axum::Router::new()
        .route(
            "/",
            axum::routing::get(
                async |axum::extract::State(client): axum::extract::State<_>| {
                    let client: BoxCloneSyncService<_, Response<_>, Error> = client;
                    match client.oneshot(question()).await {
                        Ok(answer) => Ok(axum::body::Body::new(answer.into_body())),
                        Err(error) => Err(error.to_string()),
                    }
                },
            ),
        )
        .with_state(BoxCloneSyncService::new(client.map_response(
            |answer: Response<_>| answer.map(axum::body::Body::new),
        )));
    let request = Request::new(axum::body::Body::empty());
    let answer = app.oneshot(request).await.expect("infallible");
    assert_eq!(answer.status(), 200);
}

/// Two of tower's own layers, stacked over ours.
#[tokio::test(start_paused = true)]
async fn towers_layers_go_around_it() {
    let stack = ServiceBuilder::new()
        .timeout(Duration::from_secs(60))
        .load_shed()
        .service(stack());
    let boxed = BoxCloneService::new(stack);
    assert!(boxed.oneshot(question()).await.is_ok());
}

#[test]
fn policy_and_client_come_from_the_environment() {
    // Only that they exist: the environment is not this test's to change.
    let _: fn() -> Result<Policy, tollhouse_openai::PolicyError> = Policy::from_env;
    let _: fn() -> Result<OpenAi, tollhouse_openai::Error> = OpenAi::from_env;
    let built = OpenAi::builder()
        .base_url("http://127.0.0.1:1/v1")
        .api_key("sk-secret")
        .build();
    let built = built.expect("a valid client");
    assert!(!format!("{built:?}").contains("sk-secret"));
}

/// Who asks, until when, and what for.
#[tokio::test(start_paused = true)]
async fn asks() {
    let nightly = Caller::new("nightly").weight(1_000_000);
    assert_eq!(nightly.name(), Some("nightly"));
    assert_eq!(Caller::default().name(), None);
    let at = Deadline::at(Instant::now() + Duration::from_secs(1));
    assert_eq!(at, Deadline::within(Duration::from_secs(1)));
    let charge = Charge::tokens(7).and(Unit::Images, 2);
    assert_eq!(charge.get(Unit::Images), 2);
    assert_eq!(Charge::from(7), Charge::of(Unit::Tokens, 7));

    let who = |_: &Request<Bytes>| Caller::new("nightly");
    let budget = whole_budget().expect("a valid budget");
    let slots = ConcurrencyLayer::new(3).by(who);
    let spacing = StaggerLayer::new(Duration::ZERO).by(who);
    let tokens = TpmBudgetLayer::new(budget, cost).by(who);
    let answer = async |_: Request<Bytes>| Ok::<_, BoxError>(Response::new(String::new()));
    let single = ServiceBuilder::new()
        .layer(slots)
        .layer(tokens)
        .layer(spacing)
        .service(service_fn(answer));
    assert!(single.oneshot(question()).await.is_ok());
    let fused = GateLayer::new(ConcurrencyLayer::new(3)).by(who);
    let fused = fused.layer(service_fn(answer));
    assert!(fused.oneshot(question()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_gate_for_each_key() {
    let by_path = Keyed::new(
        |request: &Request<Bytes>| request.uri().path().to_owned(),
        |_: &String| ConcurrencyLayer::new(3),
    )
    .at_most(100);
    let client = GateLayer::new(by_path).layer(service_fn(provider));
    assert!(client.oneshot(question()).await.is_ok());
}

#[test]
fn what_is_live_changes() {
    let (slots, spacing) = (
        ConcurrencyLayer::new(3),
        StaggerLayer::new(Duration::from_secs(15)),
    );
    slots.set_max(5);
    spacing.set_interval(Duration::from_secs(1));
    let budget = whole_budget().expect("a valid budget");
    let lower: Result<(), ConfigError> = budget.set_limits(TokenBudget::per_minute(20_000));
    assert!(lower.is_ok());
}

/// What the gates' services fail with.
#[tokio::test(start_paused = true)]
async fn errors() {
    let budget = TokenBudget::per_minute(10).build().expect("valid");
    let down = async |_: Request<Bytes>| Err::<Response<String>, _>(std::io::Error::other("down"));
    let client = ConcurrencyLayer::new(3).layer(service_fn(down));
    let error: Error = client.oneshot(question()).await.expect_err("it is down");
    assert!(error.refused().is_none());
    assert!(error.downcast_ref::<std::io::Error>().is_some());
    assert_eq!(error.to_string(), "down");
    let client = TpmBudgetLayer::new(budget, cost).layer(service_fn(provider));
    let error = client.oneshot(question()).await.expect_err("too large");
    assert!(matches!(error.refused(), Some(Refused::TooLarge { .. })));
}

#[tokio::test(start_paused = true)]
async fn an_account() {
    let account = Account::new(Policy::default());
    let _ = (
        Account::from_env as fn() -> _,
        Account::from_toml as fn(&str) -> _,
    );
    let client = account.layer().layer(service_fn(provider));
    assert!(client.oneshot(question()).await.is_ok());
    account
        .update(|config| config.defaults.max_concurrency = 4)
        .expect("a valid change");
    account
        .reload_toml("[defaults]\nmax_concurrency = 5\n")
        .expect("a valid file");
    let snapshot = serde_json::to_value(account.snapshot()).expect("plain data");
    assert!(snapshot.is_object());
    account.close();
    account.idle().await;
}
