//! Those who call a proxy, again and again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::task::JoinHandle;
use tollhouse_openai::OpenAi;
use tower::ServiceExt;

/// What each of their calls costs, in tokens.
pub(super) const COST: u64 = 500;

/// Those of one proxy. They end when this is dropped.
pub(super) struct Clients {
    openai: OpenAi,
    tokens: Arc<AtomicU64>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Clients {
    /// Of what is at this URL.
    pub(super) fn of(url: &str) -> Self {
        let openai = OpenAi::builder().base_url(url).api_key("any").build();
        Clients {
            openai: openai.expect("allowed settings"),
            tokens: Arc::default(),
            tasks: Mutex::default(),
        }
    }

    pub(super) async fn call_once(&self) {
        assert!(call(&self.openai).await, "it answers");
    }

    /// So many begin to call, each as soon as it was answered.
    pub(super) fn begin(&self, many: usize) {
        let mut tasks = self.tasks.lock().expect("no panic");
        for _ in 0..many {
            let (openai, tokens) = (self.openai.clone(), Arc::clone(&self.tokens));
            tasks.push(tokio::spawn(async move {
                while call(&openai).await {
                    tokens.fetch_add(COST, Ordering::Relaxed);
                }
            }));
        }
    }

    /// What was answered to them until now cost.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let tasks = self.tasks.lock().expect("no panic");
        tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn call(openai: &OpenAi) -> bool {
    // The form of a request costs 7, its text 1.
    let body = format!(
        r#"{{"model":"gpt-4o","max_tokens":{},"messages":[{{"role":"user","content":"Hi"}}]}}"#,
        COST - 8
    );
    let request = http::Request::post("/v1/chat/completions")
        .header("content-type", "application/json")
        .body(Bytes::from(body))
        .expect("a request");
    let Ok(answer) = openai.clone().oneshot(request).await else {
        return false;
    };
    let is_fine = answer.status().is_success();
    is_fine && answer.into_body().collect().await.is_ok()
}
