//! Who asks, with which weight, and until when: from a request's extensions, from a
//! closure, from `[callers]`.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use tollhouse_openai::policy::PolicyLayer;
use tollhouse_openai::{
    Account, AccountConfig, Arrival, Caller, Deadline, Limit, Policy, PolicyConfig, Refused, Window,
};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{SEC, call, chat, wide};

/// One call a second, and nothing saved up.
fn one_a_second() -> PolicyConfig {
    let mut config = wide();
    config.tokens_per_minute = Limit::Unlimited;
    config.stagger = SEC;
    config.window = Window::Off;
    config
}

type Order = Arc<Mutex<String>>;

/// Notes the first letter of each caller in the order of their launches.
fn noting(
    order: &Order,
) -> impl Service<Request<Bytes>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    let order = Arc::clone(order);
    service_fn(move |request: Request<Bytes>| {
        let name = request.headers()["x-name"]
            .to_str()
            .expect("a name")
            .chars()
            .next();
        order.lock().unwrap().extend(name);
        async { Ok(Response::new(Full::from("{}"))) }
    })
}

/// In which order twelve calls of each go, of callers that all wait already.
async fn order_of(layer: PolicyLayer, callers: [Option<Caller>; 2]) -> String {
    let order = Order::default();
    let client = layer.layer(noting(&order));
    let ask = |name: &str, caller: Option<Caller>| {
        let mut request = chat("gpt-4o", 100);
        request
            .headers_mut()
            .insert("x-name", name.parse().unwrap());
        request.extensions_mut().extend(
            caller
                .map(|caller| {
                    let mut extensions = http::Extensions::new();
                    extensions.insert(caller);
                    extensions
                })
                .unwrap_or_default(),
        );
        let client = client.clone();
        tokio::spawn(async move { call(&client, request).await })
    };
    // One goes at once, so that all others stand in line.
    let mut calls = vec![ask("first", None)];
    yield_now().await;
    for _ in 0..12 {
        calls.push(ask("batch", callers[0].clone()));
    }
    yield_now().await;
    for _ in 0..12 {
        calls.push(ask("web", callers[1].clone()));
    }
    for call in calls {
        assert_eq!(call.await.expect("no panic"), 200);
    }
    let order = order.lock().unwrap();
    order[1..].to_owned()
}

fn policy() -> Policy {
    Policy::new(one_a_second()).expect("a good policy")
}

fn of_file(callers: &[(&str, u32)]) -> Account {
    let mut config = AccountConfig::default();
    config.defaults = one_a_second();
    for (name, weight) in callers {
        config.set_caller(*name, *weight);
    }
    Account::from_config(config).expect("a good config")
}

#[tokio::test(start_paused = true)]
async fn who_is_not_named_stands_in_one_line() {
    for layer in [policy().layer(), of_file(&[("web", 8)]).layer()] {
        let order = order_of(layer, [None, None]).await;
        assert_eq!(order, "bbbbbbbbbbbbwwwwwwwwwwww");
    }
}

/// One of the batch to three of the others, whoever says the weight.
#[tokio::test(start_paused = true)]
async fn a_weight_is_a_share_wherever_it_comes_from() {
    let (batch, web) = (Caller::new("batch"), Caller::new("web"));
    let weighty = [Some(batch.clone()), Some(web.clone().weight(3))];
    let light = [Some(batch.clone()), Some(web.clone())];
    // What the file says goes before what the caller says.
    let claimed = [Some(batch.weight(1_000)), Some(web)];
    let by_header = of_file(&[("web", 3)]).caller_by(|_, headers| {
        let name = headers.get("x-name")?.to_str().ok()?;
        Some(Caller::new(name))
    });
    for (layer, callers) in [
        (policy().layer(), weighty.clone()),
        (of_file(&[]).layer(), weighty),
        (of_file(&[("w*", 3)]).layer(), light),
        (of_file(&[("web", 3), ("*", 1)]).layer(), claimed),
        (by_header.layer(), [None, None]),
    ] {
        let order = order_of(layer, callers).await;
        // While both wait: the batch was here first, and then has its quarter.
        let both = &order[..16];
        let of_batch = both.matches('b').count();
        assert!((4..=5).contains(&of_batch), "{order}");
        assert!(!both[1..].contains("bb"), "{order}");
    }
}

/// Who has a lane of its own does not stand behind a batch, and is not told so.
#[tokio::test(start_paused = true)]
async fn a_place_is_told_by_who_asks() {
    let account = of_file(&[("web", 8)]).caller_by(|_, headers| {
        let name = headers.get("x-name")?.to_str().ok()?;
        Some(Caller::new(name))
    });
    let of = |name: &'static str| {
        let mut request = chat("gpt-4o", 100);
        let name = HeaderValue::from_static(name);
        request.headers_mut().insert("x-name", name);
        request
    };
    let client = account.layer().layer(noting(&Order::default()));
    let calls: Vec<_> = (0..21)
        .map(|_| tokio::spawn(client.clone().oneshot(of("batch"))))
        .collect();
    yield_now().await;
    let place = |name| {
        let place = account.place(&of(name));
        (place.ahead(), place.expected_wait())
    };
    assert_eq!(place("batch"), (20, 21 * SEC));
    assert_eq!(place("web"), (0, SEC));
    for call in calls {
        call.await.expect("no panic").expect("an answer");
    }
    assert_eq!(place("batch"), (0, SEC));
}

#[tokio::test(start_paused = true)]
async fn a_weight_changes_for_those_who_wait() {
    let account = of_file(&[("batch", 1), ("web", 1)]);
    let order = Order::default();
    let client = account.layer().layer(noting(&order));
    for name in ["batch", "web"] {
        for _ in 0..40 {
            let mut request = chat("gpt-4o", 100);
            request
                .headers_mut()
                .insert("x-name", name.parse().unwrap());
            request.extensions_mut().insert(Caller::new(name));
            let client = client.clone();
            tokio::spawn(async move { call(&client, request).await });
        }
        yield_now().await;
    }
    let snapshot = account.snapshot();
    let callers = &snapshot.pools[0].callers;
    let seen: Vec<_> = callers
        .iter()
        .filter_map(|caller| Some((caller.name.as_deref()?, caller.weight, caller.waiting)))
        .collect();
    assert!(
        seen.contains(&("batch", 1, 39)) && seen.contains(&("web", 1, 40)),
        "{seen:?}"
    );

    sleep(10 * SEC).await;
    let before = order.lock().unwrap().len();
    account
        .update(|config| config.set_caller("web", 4))
        .expect("a good change");
    sleep(20 * SEC).await;
    let order = order.lock().unwrap();
    let after = &order[before..];
    let of_batch = after.matches('b').count();
    assert!((4..=5).contains(&of_batch), "{after}");
}

/// A deadline that cannot be kept is told at once; one that passes in line, then.
#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_extensions_is_kept() {
    for layer in [policy().layer(), of_file(&[]).layer()] {
        let client = layer.layer(noting(&Order::default()));
        let start = Instant::now();
        let ask = |within: Option<Duration>| {
            let mut request = chat("gpt-4o", 100);
            request
                .headers_mut()
                .insert("x-name", "me".parse().unwrap());
            if let Some(within) = within {
                request.extensions_mut().insert(Deadline::within(within));
            }
            client.clone().oneshot(request)
        };
        ask(None).await.expect("an answer");
        let error = ask(Some(SEC / 2)).await.unwrap_err();
        assert_eq!(
            error.refused(),
            Some(&Refused::TooLate { expected_wait: SEC })
        );
        assert_eq!(start.elapsed(), Duration::ZERO, "at once");
        ask(Some(SEC)).await.expect("an answer in time");
        assert_eq!(start.elapsed(), SEC);
    }
}

/// A retry stands where its call stood first, before those of its caller that came later,
/// although only the retry tells when that was.
#[tokio::test(start_paused = true)]
async fn a_retry_keeps_the_place_of_its_first_arrival() {
    let mut config = wide();
    config.max_concurrency = 1;
    config.backoff_base = Duration::from_millis(1);
    config.cautious_start = false;
    let policy = Policy::new(config).expect("a good policy");
    let asked = Arc::new(Mutex::new((String::new(), Vec::new())));
    let notes = Arc::clone(&asked);
    let client = policy
        .layer()
        .layer(service_fn(move |request: Request<Bytes>| {
            let mut notes = notes.lock().unwrap();
            let name = request.headers()["x-name"].to_str().expect("a name");
            let status = if notes.0.is_empty() { 503 } else { 200 };
            notes.0 += name;
            notes
                .1
                .push(request.extensions().get::<Arrival>().is_some());
            async move {
                sleep(10 * SEC).await;
                let answer = Response::builder().status(status);
                Ok::<_, Infallible>(answer.body(Full::<Bytes>::from("{}")).unwrap())
            }
        }));
    let mut calls = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let mut request = chat("gpt-4o", 100);
        let headers = request.headers_mut();
        headers.insert("x-name", name.parse().unwrap());
        let client = client.clone();
        calls.push(tokio::spawn(async move { call(&client, request).await }));
        sleep(SEC).await;
    }
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    let (order, told) = &*asked.lock().unwrap();
    assert_eq!(order, "abacd");
    assert_eq!(*told, [false, false, true, false, false]);
}
