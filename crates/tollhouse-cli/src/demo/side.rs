//! One of the two sides: a provider, and whoever calls it.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::fs::File;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep};
use tollhouse_batch::{Batch, Summary};
use tollhouse_openai::{Caller as Asks, Error, OpenAi, ResponseBody};
use tollhouse_sim::{Report, Served, Sim};
use tower::{Service, ServiceExt};

use super::account::{Account, WEIGHT};
use super::load::{Call, Load};
use crate::batch::Board;
use crate::failure::{self, BoxError};
use crate::pools::Pools;
use crate::print::Count;
use crate::progress::{Status, Tell};
use crate::wire::{Seen, Watch};

/// A side before and while it runs.
pub(super) struct Side {
    name: &'static str,
    order: Order,
    account: Account,
    provider: Sim,
    /// Stops it when it is dropped.
    _served: Served,
    client: OpenAi,
    watch: Watch,
    board: Board,
    direct: Direct,
    output: PathBuf,
    errors: PathBuf,
}

/// How those who wait are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// All as one caller, in the order in which they come.
    FirstCome,
    /// The batch as one caller of weight 1, and each direct caller as one of its own.
    Weighed,
}

/// How far the direct callers have come.
#[derive(Clone, Debug, Default)]
struct Direct {
    done: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

/// What a side came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) report: Report,
    /// The share of the allowed tokens that was used until the batch was done: afterwards
    /// the direct callers alone do not ask for as much.
    pub(super) utilisation: Option<f64>,
    pub(super) seen: Seen,
    pub(super) batch: Summary,
    /// How long each direct call took until its answer or failure, in order.
    pub(super) waits: Vec<Duration>,
    pub(super) direct_failed: u64,
    pub(super) elapsed: Duration,
    pub(super) output: PathBuf,
}

impl Side {
    /// Starts its provider.
    pub(super) async fn open(
        name: &'static str,
        order: Order,
        account: &Account,
        directory: &Path,
    ) -> Result<Self, BoxError> {
        let provider = account.provider()?;
        let served = provider
            .spawn("127.0.0.1:0")
            .await
            .map_err(|error| failure::because("cannot listen on 127.0.0.1", error))?;
        let client = OpenAi::builder().base_url(served.url()).api_key("demo");
        let file = name.replace(' ', "-").to_lowercase();
        Ok(Self {
            name,
            order,
            account: *account,
            provider,
            _served: served,
            client: client.build()?,
            watch: Watch::new(
                Pools::new(account.described()),
                account.here(Duration::from_secs(60)),
            ),
            board: Board::default(),
            direct: Direct::default(),
            output: directory.join(format!("{file}.jsonl")),
            errors: directory.join(format!("{file}.errors.jsonl")),
        })
    }

    /// A plain client of its provider.
    pub(super) fn client(
        &self,
    ) -> impl Service<Request<Bytes>, Response = Response<ResponseBody>, Error = Error, Future: Send>
    + Clone
    + Send
    + Sync
    + use<> {
        self.watch.around(self.client.clone())
    }

    /// Puts the load on `service`, the client with whatever is around it.
    pub(super) async fn run<S, B>(
        &self,
        service: S,
        load: &Load,
        begin: Instant,
    ) -> Result<Outcome, BoxError>
    where
        S: Service<Request<Bytes>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError> + Send,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let board = self.board.clone();
        let batch = asking(service.clone(), self.order.caller("batch", 1));
        // All of it stands in line, or leaves at once where nothing holds it back.
        let batch = Batch::new(batch)
            .look_ahead(load.requests())
            .on_event(move |event| board.hear(&event));
        let (output, errors) = (create(&self.output).await?, create(&self.errors).await?);
        let batch = async {
            let summary = batch.run(load.batch.as_bytes(), output, errors).await;
            (summary, self.provider.report().total.utilisation)
        };
        let ((batch, utilisation), waits) = tokio::join!(batch, self.call_directly(service, load));
        Ok(Outcome {
            report: self.provider.report(),
            utilisation,
            seen: self.watch.seen(),
            batch: batch?,
            waits,
            direct_failed: self.direct.failed.load(Ordering::Relaxed),
            elapsed: begin.elapsed(),
            output: self.output.clone(),
        })
    }

    /// The waits of all direct callers, the shortest first.
    async fn call_directly<S, B>(&self, service: S, load: &Load) -> Vec<Duration>
    where
        S: Service<Request<Bytes>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Send,
        B: Body + Send + 'static,
        B::Data: Send,
    {
        let mut callers = JoinSet::new();
        for (number, calls) in load.callers.iter().enumerate() {
            let name = format!("direct {number}");
            let service = asking(service.clone(), self.order.caller(&name, WEIGHT));
            let caller = Caller {
                calls: calls.clone(),
                account: self.account,
                direct: self.direct.clone(),
            };
            callers.spawn(caller.run(service));
        }
        let mut waits = callers.join_all().await.concat();
        waits.sort_unstable();
        waits
    }

    /// Tells how far it has come.
    pub(super) fn tell(&self, load: &Load) -> Tell {
        let (name, total) = (self.name.to_owned(), load.requests() + load.calls());
        let (board, watch, direct) = (self.board.clone(), self.watch.clone(), self.direct.clone());
        Box::new(move || {
            let (now, seen) = (board.standing(), watch.seen());
            let failed = now.failed + direct.failed.load(Ordering::Relaxed);
            Status {
                name: name.clone(),
                done: now.done + direct.done.load(Ordering::Relaxed),
                total: Some(total as u64),
                details: vec![format!(
                    "{} tokens asked for in all, {} 429s, {failed} failed",
                    Count(seen.tokens),
                    seen.rejected,
                )],
            }
        })
    }
}

impl Order {
    fn caller(self, name: &str, weight: u32) -> Asks {
        match self {
            Self::FirstCome => Asks::default(),
            Self::Weighed => Asks::new(name).weight(weight),
        }
    }
}

/// A service whose requests say who asks.
fn asking<S, B>(
    service: S,
    caller: Asks,
) -> impl Service<Request<Bytes>, Response = Response<B>, Error = S::Error, Future: Send>
+ Clone
+ Send
+ 'static
where
    S: Service<Request<Bytes>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    B: 'static,
{
    service.map_request(move |mut request: Request<Bytes>| {
        request.extensions_mut().insert(caller.clone());
        request
    })
}

impl Outcome {
    /// Calls that got no good answer in the end.
    pub(super) fn failed(&self) -> u64 {
        self.batch.failed + self.direct_failed
    }

    /// All calls.
    pub(super) fn calls(&self) -> u64 {
        self.batch.total + self.waits.len() as u64
    }

    /// Calls that the provider answered 429.
    pub(super) fn rejected(&self) -> u64 {
        self.report.total.rejected.total()
    }

    /// Whether nothing was refused, and nothing failed.
    pub(super) fn is_clean(&self) -> bool {
        self.rejected() == 0 && self.failed() == 0 && self.batch.is_complete()
    }
}

/// Somebody who calls the API now and then.
struct Caller {
    calls: Vec<Call>,
    account: Account,
    direct: Direct,
}

impl Caller {
    /// How long each call took.
    async fn run<S, B>(self, service: S) -> Vec<Duration>
    where
        S: Service<Request<Bytes>, Response = Response<B>> + Clone,
        B: Body,
    {
        let mut waits = Vec::with_capacity(self.calls.len());
        for call in &self.calls {
            sleep(self.account.here(call.after)).await;
            let begin = Instant::now();
            let answered = is_answered(service.clone(), call.request()).await;
            waits.push(begin.elapsed());
            let failed = u64::from(!answered);
            self.direct.failed.fetch_add(failed, Ordering::Relaxed);
            self.direct.done.fetch_add(1, Ordering::Relaxed);
        }
        waits
    }
}

async fn is_answered<S, B>(service: S, request: Request<Bytes>) -> bool
where
    S: Service<Request<Bytes>, Response = Response<B>>,
    B: Body,
{
    let Ok(response) = service.oneshot(request).await else {
        return false;
    };
    let is_success = response.status().is_success();
    is_success && response.into_body().collect().await.is_ok()
}

async fn create(path: &Path) -> Result<File, BoxError> {
    let file = File::create(path).await;
    file.map_err(|error| failure::because(path.display().to_string(), error))
}
