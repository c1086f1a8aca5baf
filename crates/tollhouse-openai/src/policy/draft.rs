//! A request on its way through its attempts.
//!
//! It may wait for long before each of them, and thousands may; and it may be sent again,
//! which hardly one in a hundred is. So its headers are kept once for all attempts, and where
//! they only wait they are packed: one piece of text in place of a map, of its names and
//! of what the connection was read into that they came by.
//!
//! ```text
//! Open     as they are read and written
//!   -> Packed  while the request waits, and while an attempt is under way
//!   <- Packed  for the gates and the mark of a next attempt
//! ```

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request};
use pin_project_lite::pin_project;
use tollhouse::{BoxError, Error};
use tower_service::Service;

use super::unsent::never_connected;

/// A request, with its headers apart.
///
/// # Cloning
///
/// Clones share the headers.
#[derive(Clone)]
pub(crate) struct Draft<Q> {
    /// Without any headers.
    request: Request<Q>,
    headers: Arc<Headers>,
}

/// The headers of one request.
pub(crate) struct Headers(Mutex<State>);

enum State {
    Open(HeaderMap),
    Packed(Packed),
    /// Whoever has them puts them back, unless he panics.
    Taken,
}

impl<Q> Draft<Q> {
    pub(super) fn new(mut request: Request<Q>) -> Self {
        let headers = std::mem::take(request.headers_mut());
        Draft {
            request,
            headers: Arc::new(Headers(Mutex::new(State::Open(headers)))),
        }
    }

    /// The request, but for its headers.
    pub(super) fn request(&self) -> &Request<Q> {
        &self.request
    }

    pub(super) fn extensions_mut(&mut self) -> &mut Extensions {
        self.request.extensions_mut()
    }

    /// Shows the headers to whoever may be a user's: under no lock.
    pub(super) fn show<T>(&self, look: impl FnOnce(&HeaderMap) -> T) -> T {
        let headers = self.headers.take();
        let seen = look(&headers);
        self.headers.put_back(headers);
        seen
    }

    /// As [`show`](Self::show), for what is ours and may look under the lock.
    pub(super) fn read<T>(&self, look: fn(&HeaderMap) -> T) -> T {
        look(self.headers.lock().opened())
    }

    /// Under the lock: for what is ours.
    pub(super) fn edit(&mut self, edit: impl FnOnce(&Method, &mut HeaderMap)) {
        edit(self.request.method(), self.headers.lock().opened());
    }

    /// Packs them for whoever waits, as long as there are any.
    pub(super) fn headers(&self) -> Weak<Headers> {
        Arc::downgrade(&self.headers)
    }

    /// The request as it is sent. What another draft may still need is kept.
    fn send(self) -> Request<Q> {
        let mut request = self.request;
        *request.headers_mut() = match Arc::try_unwrap(self.headers) {
            Ok(Headers(state)) => {
                let state = state.into_inner();
                state.unwrap_or_else(PoisonError::into_inner).open()
            }
            Err(shared) => shared.copy(),
        };
        request
    }
}

impl Headers {
    /// Packs them, if they are not.
    pub(super) fn rest(&self) {
        let mut state = self.lock();
        if let State::Open(headers) = &*state {
            *state = State::Packed(Packed::of(headers));
        }
    }

    /// A copy, for which they are packed.
    fn copy(&self) -> HeaderMap {
        let headers = self.take();
        *self.lock() = State::Packed(Packed::of(&headers));
        headers
    }

    /// Takes them out; whoever does puts them back.
    fn take(&self) -> HeaderMap {
        std::mem::replace(&mut *self.lock(), State::Taken).open()
    }

    fn put_back(&self, headers: HeaderMap) {
        *self.lock() = State::Open(headers);
    }

    /// They are whole at every instant.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Opens them where they are.
    fn opened(&mut self) -> &mut HeaderMap {
        if !matches!(self, State::Open(_)) {
            *self = State::Open(std::mem::replace(self, State::Taken).open());
        }
        match self {
            State::Open(headers) => headers,
            State::Packed(_) | State::Taken => unreachable!("they are open"),
        }
    }

    fn open(self) -> HeaderMap {
        match self {
            State::Open(headers) => headers,
            State::Packed(packed) => packed.open(),
            State::Taken => HeaderMap::new(),
        }
    }
}

// ===== impl Packed =====

/// Headers in one piece: `name:value` by lines, or `name;value` where nobody is to see it.
/// No name has either in it, and no value the end of a line.
struct Packed {
    text: Bytes,
    count: usize,
}

impl Packed {
    fn of(headers: &HeaderMap) -> Self {
        let length = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        let length = headers.iter().map(|header| length(header) + 2).sum();
        let mut text = Vec::with_capacity(length);
        for (name, value) in headers {
            text.extend_from_slice(name.as_str().as_bytes());
            text.push(if value.is_sensitive() { b';' } else { b':' });
            text.extend_from_slice(value.as_bytes());
            text.push(b'\n');
        }
        Packed {
            text: text.into(),
            count: headers.len(),
        }
    }

    fn open(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.count);
        for line in self.text.split(|byte| *byte == b'\n') {
            if let Some((name, value)) = self.header(line) {
                headers.append(name, value);
            }
        }
        headers
    }

    /// One of its lines; the last is none.
    fn header(&self, line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
        let end = line.iter().position(|byte| matches!(byte, b':' | b';'))?;
        let name = HeaderName::from_bytes(&line[..end]).ok()?;
        let value = self.text.slice_ref(&line[end + 1..]);
        let mut value = HeaderValue::from_maybe_shared(value).ok()?;
        value.set_sensitive(line[end] == b';');
        Some((name, value))
    }
}

// ===== impl Drafting =====

/// Makes a draft of each request, for whoever sends it more than once.
#[derive(Clone, Debug)]
pub(super) struct Drafting<S> {
    pub(super) inner: S,
}

impl<S> Drafting<S> {
    pub(super) fn new(inner: S) -> Self {
        Drafting { inner }
    }
}

impl<S: Service<Draft<Q>>, Q> Service<Request<Q>> for Drafting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> S::Future {
        self.inner.call(Draft::new(request))
    }
}

// ===== impl Sending =====

/// Sends what was a draft, and says of an error that nothing was sent where the client
/// under it knows that and does not say so in the gates' words.
#[derive(Clone, Debug)]
pub(super) struct Sending<S> {
    pub(super) inner: S,
}

impl<S> Sending<S> {
    pub(super) fn new(inner: S) -> Self {
        Sending { inner }
    }
}

impl<S, Q> Service<Draft<Q>> for Sending<S>
where
    S: Service<Request<Q>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = SendingFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Error::inner)
    }

    fn call(&mut self, draft: Draft<Q>) -> Self::Future {
        SendingFuture {
            future: self.inner.call(draft.send()),
        }
    }
}

pin_project! {
    /// What comes of a request that was sent.
    pub(super) struct SendingFuture<F> {
        #[pin]
        future: F,
    }
}

impl<F, T, E> Future for SendingFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = ready!(self.project().future.poll(cx));
        Poll::Ready(answered.map_err(|error| {
            let error = Error::inner(error);
            match never_connected(&error) {
                true => Error::never_sent(error),
                false => error,
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that are parts of one buffer, as they come from a connection.
    fn request(buffer: &Bytes) -> Request<()> {
        let value = |range| HeaderValue::from_maybe_shared(buffer.slice(range)).expect("text");
        let mut request = Request::new(());
        let headers = request.headers_mut();
        headers.append("x-one", value(0..3));
        headers.append("accept", value(4..10));
        let mut secret = value(3..3);
        secret.set_sensitive(true);
        headers.append("x-one", secret);
        request
    }

    fn buffer() -> Bytes {
        Bytes::from(b"one a:b;c\xe9".to_vec())
    }

    #[test]
    fn who_waits_keeps_no_part_of_what_it_came_in() {
        let buffer = buffer();
        let draft = Draft::new(request(&buffer));
        let expected = request(&buffer);
        assert!(!buffer.is_unique());
        let headers = draft.headers();
        headers.upgrade().expect("a draft").rest();
        drop(expected);
        assert!(buffer.is_unique());
        let sent = draft.send();
        let expected = request(&buffer);
        assert_eq!(sent.headers(), expected.headers());
        let secrets = sent.headers().get_all("x-one").iter();
        assert!(secrets.map(HeaderValue::is_sensitive).eq([false, true]));
        assert!(headers.upgrade().is_none());
    }

    #[test]
    fn every_attempt_has_all_headers_and_what_was_written_before() {
        let buffer = buffer();
        let mut next = Draft::new(request(&buffer));
        for attempt in ["0", "1", "2"] {
            next.edit(|_, headers| {
                headers.insert("x-attempt", HeaderValue::from_static(attempt));
            });
            let again = next.clone();
            assert_eq!(next.show(HeaderMap::len), 4);
            let mut expected = request(&buffer);
            let headers = expected.headers_mut();
            headers.insert("x-attempt", HeaderValue::from_static(attempt));
            assert_eq!(next.send().headers(), expected.headers());
            next = again;
        }
    }

    #[test]
    fn a_user_who_panics_over_the_headers_poisons_nothing() {
        let draft = Draft::new(Request::new(()));
        let panics = std::panic::AssertUnwindSafe(|| draft.show(|_| panic!("a user's")));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert!(draft.send().headers().is_empty());
    }
}
