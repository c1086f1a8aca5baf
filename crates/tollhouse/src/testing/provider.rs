//! A provider that answers as a test says.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_service::Service;

/// Answers the n-th request, counted from 0, as its script says, and keeps
/// what it was asked.
///
/// # Cloning
///
/// Clones are one provider: one count, one list of requests.
///
/// # Examples
///
/// ```
/// use tollhouse::testing::{Reply, ScriptedProvider};
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// // Its connection breaks once, then it echoes.
/// let provider = ScriptedProvider::new(|n, request: &u64| match n {
///     0 => Reply::error(std::io::ErrorKind::ConnectionReset),
///     _ => Reply::ok(*request),
/// });
/// assert!(provider.clone().oneshot(7).await.is_err());
/// assert_eq!(provider.clone().oneshot(8).await.unwrap(), 8);
/// assert_eq!(provider.requests(), [7, 8]);
/// # }
/// ```
pub struct ScriptedProvider<Req, Res> {
    script: Arc<Script<Req, Res>>,
    requests: Arc<Mutex<Vec<Req>>>,
}

type Script<Req, Res> = dyn Fn(usize, &Req) -> Reply<Res> + Send + Sync;

impl<Req, Res> ScriptedProvider<Req, Res> {
    /// A provider whose n-th answer is what `script` says of `n` and the
    /// request.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::testing::{Reply, ScriptedProvider};
    /// use tower::ServiceExt;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let provider = ScriptedProvider::new(|n, question: &&str| {
    ///     Reply::ok(format!("answer {n} to {question}"))
    /// });
    /// let answer = provider.oneshot("Why?").await.unwrap();
    /// assert_eq!(answer, "answer 0 to Why?");
    /// # }
    /// ```
    pub fn new(script: impl Fn(usize, &Req) -> Reply<Res> + Send + Sync + 'static) -> Self {
        ScriptedProvider {
            script: Arc::new(script),
            requests: Arc::default(),
        }
    }

    /// How many requests came.
    ///
    /// # Examples
    ///
    /// How often a client asked is known where nobody sees its requests:
    ///
    /// ```
    /// use tollhouse::testing::{Reply, ScriptedProvider};
    /// use tower::ServiceExt;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let provider = ScriptedProvider::new(|_, _: &&str| Reply::ok("fine"));
    /// for _ in 0..3 {
    ///     provider.clone().oneshot("Why?").await.unwrap();
    /// }
    /// assert_eq!(provider.count(), 3);
    /// # }
    /// ```
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// What came, in its order.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::testing::{Reply, ScriptedProvider};
    /// use tower::ServiceExt;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let provider = ScriptedProvider::new(|_, _: &&str| Reply::ok("fine"));
    /// provider.clone().oneshot("Why?").await.unwrap();
    /// provider.clone().oneshot("How?").await.unwrap();
    /// assert_eq!(provider.requests(), ["Why?", "How?"]);
    /// # }
    /// ```
    pub fn requests(&self) -> Vec<Req>
    where
        Req: Clone,
    {
        self.lock().clone()
    }

    /// A script that panicked left the list whole.
    fn lock(&self) -> MutexGuard<'_, Vec<Req>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Req, Res> Service<Req> for ScriptedProvider<Req, Res> {
    type Response = Res;
    type Error = io::Error;
    type Future = ReplyFuture<Res>;

    /// Always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> ReplyFuture<Res> {
        let mut requests = self.lock();
        let reply = (self.script)(requests.len(), &request);
        requests.push(request);
        ReplyFuture {
            timer: (!reply.after.is_zero()).then(|| sleep(reply.after)),
            result: Some(reply.result),
        }
    }
}

impl<Req, Res> Clone for ScriptedProvider<Req, Res> {
    fn clone(&self) -> Self {
        ScriptedProvider {
            script: Arc::clone(&self.script),
            requests: Arc::clone(&self.requests),
        }
    }
}

impl<Req, Res> fmt::Debug for ScriptedProvider<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedProvider")
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}

/// What becomes of one request.
///
/// # Examples
///
/// ```
/// use std::io::ErrorKind;
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tollhouse::testing::{Reply, ScriptedProvider};
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let provider = ScriptedProvider::new(|n, _: &&str| match n {
///     0 => Reply::error(ErrorKind::ConnectionReset),
///     _ => Reply::ok("fine").after(Duration::from_secs(2)),
/// });
/// assert!(provider.clone().oneshot("Why?").await.is_err());
/// let start = Instant::now();
/// assert_eq!(provider.oneshot("Why?").await.unwrap(), "fine");
/// assert_eq!(start.elapsed(), Duration::from_secs(2));
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a reply does nothing until a script returns it"]
pub struct Reply<Res> {
    after: Duration,
    result: io::Result<Res>,
}

impl<Res> Reply<Res> {
    /// This answer, at once.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::testing::{Reply, ScriptedProvider};
    /// use tower::ServiceExt;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let provider = ScriptedProvider::new(|_, n: &u64| Reply::ok(n + 1));
    /// assert_eq!(provider.oneshot(1).await.unwrap(), 2);
    /// # }
    /// ```
    pub fn ok(response: Res) -> Self {
        Reply::from(Ok(response))
    }

    /// No answer: the connection fails, at once. Takes an
    /// [`io::ErrorKind`] too.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use tollhouse::testing::{Reply, ScriptedProvider};
    /// use tower::ServiceExt;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let provider: ScriptedProvider<&str, &str> =
    ///     ScriptedProvider::new(|_, _| Reply::error(ErrorKind::ConnectionRefused));
    /// let error = provider.oneshot("Why?").await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    /// # }
    /// ```
    pub fn error(error: impl Into<io::Error>) -> Self {
        Reply::from(Err(error.into()))
    }

    /// Takes as long as this.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tokio::time::Instant;
    /// use tollhouse::testing::{Reply, ScriptedProvider};
    /// use tower::ServiceExt;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let provider = ScriptedProvider::new(|n, _: &&str| {
    ///     Reply::ok("fine").after(Duration::from_secs(n as u64))
    /// });
    /// let start = Instant::now();
    /// for _ in 0..3 {
    ///     provider.clone().oneshot("Why?").await.unwrap();
    /// }
    /// assert_eq!(start.elapsed(), Duration::from_secs(0 + 1 + 2));
    /// # }
    /// ```
    pub fn after(self, delay: Duration) -> Self {
        Reply {
            after: delay,
            ..self
        }
    }
}

impl<Res> From<io::Result<Res>> for Reply<Res> {
    fn from(result: io::Result<Res>) -> Self {
        Reply {
            after: Duration::ZERO,
            result,
        }
    }
}

pin_project! {
    /// The future of a [`ScriptedProvider`]. Dropping it ends the call.
    pub struct ReplyFuture<Res> {
        #[pin]
        timer: Option<Sleep>,
        result: Option<io::Result<Res>>,
    }
}

impl<Res> Future for ReplyFuture<Res> {
    type Output = io::Result<Res>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(timer) = this.timer.as_pin_mut() {
            ready!(timer.poll(cx));
        }
        Poll::Ready(this.result.take().expect("polled after it was ready"))
    }
}

impl<Res> fmt::Debug for ReplyFuture<Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyFuture").finish_non_exhaustive()
    }
}
