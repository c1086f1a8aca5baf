//! What is logged of requests that are refused before they are calls.

use tollhouse_openai::Account;
use tollhouse_proxy::Proxy;

use crate::support::{Log, ask, client, get, post, serve, sim, wide};

/// Whoever is told an id finds it in the log, once.
#[tokio::test]
async fn a_refused_request_has_one_line_by_its_id() {
    let (_sim, provider) = sim().await;
    let log = Log::default();
    let _heard = log.hear();
    let proxy = Proxy::new(Account::new(wide()), client(&provider.url()));
    let served = serve(proxy.token("t-1", "web")).await;
    let planted = "authorization: Bearer PLANTED\r\ncookie: PLANTED\r\n";
    let token = "authorization: Bearer t-1\r\n";
    let with_query = |path: &str| format!("{path}?PLANTED");
    let of = |path: &str, line: &str| format!("{line} path=\"{path}\"");
    let request = |path: &str| get(&with_query(path), planted);
    for (request, status, says) in [
        // Of what is no request nobody knows what it asked for.
        (
            request("/v1/PLANTED").replacen("\r\n", "\n", 1),
            400,
            "refused=\"a line ends in LF alone; CR LF is demanded\"".to_owned(),
        ),
        (
            get("/v1/PLANTED", &format!("x: {}\r\n", "y".repeat(70_000))),
            431,
            "refused=\"the request's head is too long\"".to_owned(),
        ),
        (
            request("/v1/../x"),
            400,
            format!(
                "{} status=400 refused=\"the path has a segment of dots\"",
                of("/v1/../x", "method=GET")
            ),
        ),
        (
            request("/v1/models").replace("host: localhost", "host: PLANTED.example"),
            421,
            of("/v1/models", "method=GET"),
        ),
        (
            request("/v1/models").replacen("GET", "TRACE", 1),
            405,
            format!(
                "{} status=405 refused=\"bad_request\"",
                of("/v1/models", "method=TRACE")
            ),
        ),
        (
            request("/tollhouse/status"),
            401,
            format!(
                "{} status=401 refused=\"invalid_api_key\"",
                of("/tollhouse/status", "method=GET")
            ),
        ),
        (
            post("/healthz", planted, "{}"),
            405,
            of("/healthz", "method=POST"),
        ),
        // Those that are calls after all have a call's line.
        (
            get("/tollhouse/PLANTED-NOT", token).replace("PLANTED-NOT", "other"),
            404,
            of("/tollhouse/other", "call method=GET"),
        ),
        (
            request("/v1/models"),
            401,
            of("/v1/models", "call method=GET"),
        ),
    ] {
        let answer = ask(&served, &request).await;
        assert_eq!(answer.status, status, "{answer:?}");
        let id = answer.header("x-tollhouse-request-id").expect("an id");
        let log = log.text();
        let lines: Vec<_> = log.lines().filter(|line| line.contains(id)).collect();
        assert_eq!(lines.len(), 1, "{status} {says}: {log}");
        assert!(lines[0].contains(&says), "{says}: {}", lines[0]);
        assert!(
            lines[0].contains(&format!("status={status}")),
            "{}",
            lines[0]
        );
    }
    // What is only looked at has none.
    let before = log.text();
    for (path, headers) in [
        ("/healthz", ""),
        ("/tollhouse/status", token),
        ("/tollhouse", ""),
    ] {
        let answer = ask(&served, &get(path, headers)).await;
        assert!(answer.status < 400, "{path}");
    }
    assert_eq!(log.text(), before);
    assert!(!before.contains("PLANTED"), "{before}");
}
