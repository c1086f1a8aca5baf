//! A batch's page: in a browser while it runs, and as a file afterwards.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant};
use tollhouse_batch::{Event, Request};
use tollhouse_openai::Call;
use tollhouse_proxy::page::{Ended, Kind, Look, Page, Progress};

use super::status::{View, outage};
use crate::failure::{self, BoxError};
use crate::pools::{Pool, Pools};

/// Where the page is shown, and where it is left.
#[derive(Debug)]
pub(super) struct Paged {
    page: Page,
    listener: Option<TcpListener>,
    report: Option<PathBuf>,
    serving: Option<JoinHandle<std::io::Result<()>>>,
}

/// Hears a batch's events for the page.
#[derive(Debug)]
pub(super) struct Listener {
    page: Page,
    caller: String,
    pools: Pools,
    /// What is known of each open request that has left, by its line.
    sent: Mutex<HashMap<u64, Sent>>,
}

/// How a request left.
#[derive(Clone, Debug)]
struct Sent {
    /// For the last time.
    at: Instant,
    times: u32,
    pool: Option<Arc<Pool>>,
}

impl Paged {
    /// Takes the address, if one is given; nothing where neither is asked for.
    ///
    /// # Errors
    ///
    /// Names the address where it cannot be listened at.
    pub(super) async fn prepare(
        address: Option<SocketAddr>,
        report: Option<&Path>,
    ) -> Result<Option<Self>, BoxError> {
        if address.is_none() && report.is_none() {
            return Ok(None);
        }
        let listener = match address {
            None => None,
            Some(address) => Some(TcpListener::bind(address).await.map_err(|error| {
                failure::because(format!("cannot show a page at {address}"), error)
            })?),
        };
        Ok(Some(Self {
            page: Page::new(Kind::Batch),
            listener,
            report: report.map(Path::to_owned),
            serving: None,
        }))
    }

    pub(super) fn page(&self) -> &Page {
        &self.page
    }

    /// Where it is, if it is served.
    pub(super) fn url(&self) -> Option<String> {
        let address = self.listener.as_ref()?.local_addr().ok()?;
        Some(format!("http://{address}/tollhouse/"))
    }

    /// For requests of this caller, which take from these pools.
    pub(super) fn listener(&self, caller: &str, pools: &Pools) -> Listener {
        Listener {
            page: self.page.clone(),
            caller: caller.to_owned(),
            pools: pools.clone(),
            sent: Mutex::default(),
        }
    }

    /// Serves it from now on.
    pub(super) fn serve(&mut self, view: &Arc<View>) {
        if let Some(listener) = self.listener.take() {
            let (page, view) = (self.page.clone(), Arc::clone(view));
            let serving = async move { page.serve(listener, move || look(&view)).await };
            self.serving = Some(tokio::spawn(serving));
        }
    }

    /// Tells those who watch that it is over, and leaves the report.
    ///
    /// # Errors
    ///
    /// Names the file that cannot be written.
    pub(super) async fn end(self, view: &View) -> Result<(), BoxError> {
        self.page.close();
        if let Some(path) = &self.report {
            let report = self.page.report(look(view), unix_seconds());
            tokio::fs::write(path, report)
                .await
                .map_err(|error| failure::because(format!("--report {}", path.display()), error))?;
        }
        if let Some(serving) = self.serving {
            // However it ended, nobody is served any more.
            let _ = serving.await;
        }
        Ok(())
    }
}

impl Listener {
    pub(super) fn hear(&self, event: &Event) {
        match event {
            Event::Sent(request) => self.sent(request),
            Event::Finished {
                request,
                status,
                tokens,
                elapsed,
            } => {
                let mut ended = self.ended(request, *elapsed);
                ended.status = Some(status.as_u16());
                ended.tokens = *tokens;
                self.page.ended(ended);
            }
            Event::Failed {
                request,
                status,
                elapsed,
                ..
            } => {
                let mut ended = self.ended(request, *elapsed);
                ended.status = status.map(|status| status.as_u16());
                self.page.ended(ended);
            }
            Event::Withdrawn(request) | Event::Unwritten(request) => _ = self.forget(request),
            Event::Outage { since, reason } if since.elapsed() < Duration::from_secs(1) => {
                self.page.note(&format!("The provider is away: {reason}"));
            }
            Event::Recovered { .. } => self.page.note("The provider answers again"),
            Event::GivingUp { reason } => self.page.note(&format!("Given up: {reason}")),
            Event::Ending(ended_by) => self.page.note(&format!("Ending, for {ended_by}")),
            Event::Stopping { .. } => self.page.note("Stopping: nothing more is sent"),
            _ => {}
        }
    }

    /// A request leaves, as its event told just now.
    pub(super) fn leaves(&self, request: &http::Request<Bytes>) {
        if let Some(Request { line, .. }) = request.extensions().get() {
            let pool = self.pools.of(&Call::of(request));
            self.with(|sent| {
                if let Some(sent) = sent.get_mut(line) {
                    sent.pool = Some(pool);
                }
            });
        }
    }

    fn sent(&self, request: &Request) {
        let at = Instant::now();
        let first = Sent {
            at,
            times: 0,
            pool: None,
        };
        self.with(|sent| {
            let sent = sent.entry(request.line).or_insert(first);
            (sent.at, sent.times) = (at, sent.times.saturating_add(1));
        });
    }

    fn ended(&self, request: &Request, elapsed: Duration) -> Ended {
        let sent = self.forget(request);
        let mut ended = Ended::default();
        ended.what = request.custom_id.to_string();
        ended.caller.clone_from(&self.caller);
        ended.total = Some(elapsed);
        if let Some(Sent { at, times, pool }) = sent {
            ended.wait = Some(elapsed.saturating_sub(at.elapsed()));
            ended.attempts = times;
            ended.pool = pool.map_or_else(String::new, |pool| pool.account_name().to_owned());
        }
        ended
    }

    fn forget(&self, request: &Request) -> Option<Sent> {
        self.with(|sent| sent.remove(&request.line))
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<u64, Sent>) -> T) -> T {
        // No entry is ever half made, so a panic elsewhere does not matter.
        work(&mut self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Has the page look at the run now and then, if there is one.
pub(super) async fn follow(paged: Option<&Paged>, view: &View) -> Infallible {
    match paged {
        Some(paged) => paged.page.follow(|| look(view)).await,
        None => pending().await,
    }
}

/// What the page shows of a run.
fn look(view: &View) -> Look {
    let (now, seen) = (view.board.standing(), view.watch.seen());
    let mut progress = Progress::default();
    progress.done = now.done;
    progress.total = view.scope.plan.lines;
    progress.failed = now.failed;
    progress.retries = now.retries;
    progress.rejected = seen.rejected;
    let left = view.scope.outlook.remaining(&now, &seen);
    progress.left_seconds = Some(left.as_secs_f64());
    progress.outage = outage(&now);
    let mut look = Look::of(vec![view.pools.account().snapshot()]);
    look.progress = Some(progress);
    look
}

/// For people, who want to know when; nothing is reckoned with it.
#[allow(clippy::disallowed_methods)]
fn unix_seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
