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
use std::mem::take;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request};
use memchr::memchr_iter;
use pin_project_lite::pin_project;
use tollhouse::{BoxError, Error};
use tower_service::Service;

use super::unsent::never_connected;
use crate::call::CallBody;

/// A request. It has one place, however many hands it goes through: each future that it
/// waits in would have one for it, and another one for a next attempt.
///
/// # Cloning
///
/// Clones are the same request. It is copied when one of several is sent.
pub(crate) struct Draft<Q>(Arc<Kept<Q>>);

/// What clones of a draft share.
struct Kept<Q>(Mutex<Whole<Q>>);

struct Whole<Q> {
    /// Without any headers where they are packed.
    request: Request<Q>,
    packed: Option<Packed>,
}

/// What can be made smaller while it waits.
pub(super) trait Rest: Send + Sync {
    /// Makes it as small as it can be.
    fn rest(&self);
}

impl<Q> Draft<Q> {
    pub(super) fn new(request: Request<Q>) -> Self {
        let whole = Whole {
            request,
            packed: None,
        };
        Draft(Arc::new(Kept(Mutex::new(whole))))
    }

    /// Looks at the request, but for its headers: under a lock, and so at nothing of a user's.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Request<Q>) -> T) -> T {
        look(&self.0.lock().request)
    }

    /// Writes in the extensions: under a lock, and so nothing of a user's.
    pub(super) fn note(&mut self, note: impl FnOnce(&mut Extensions)) {
        note(self.0.lock().request.extensions_mut());
    }

    /// Shows the headers to whoever may be a user's: under no lock.
    pub(super) fn show<T>(&self, look: impl FnOnce(&HeaderMap) -> T) -> T {
        let headers = self.0.lock().take_headers();
        let seen = look(&headers);
        self.0.put_back(headers);
        seen
    }

    /// As [`show`](Self::show), for what is ours and may look under the lock.
    pub(super) fn read<T>(&self, look: fn(&HeaderMap) -> T) -> T {
        look(self.0.lock().opened())
    }

    /// Writes in the headers: under the lock, for what is ours.
    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut HeaderMap)) {
        edit(self.0.lock().opened());
    }
}

impl<Q: CallBody + Clone> Draft<Q> {
    /// Packs its headers for whoever waits, as long as there are any.
    pub(super) fn resting(&self) -> Weak<dyn Rest> {
        let kept: Arc<dyn Rest> = Arc::<Kept<Q>>::clone(&self.0);
        Arc::downgrade(&kept)
    }

    /// The request as it is sent. What another draft may still need is kept.
    fn send(self) -> Request<Q> {
        match Arc::try_unwrap(self.0) {
            Ok(Kept(whole)) => {
                let mut whole = whole.into_inner().unwrap_or_else(PoisonError::into_inner);
                *whole.request.headers_mut() = whole.take_headers();
                whole.request
            }
            Err(shared) => shared.copy(),
        }
    }
}

impl<Q> Clone for Draft<Q> {
    fn clone(&self) -> Self {
        Draft(Arc::clone(&self.0))
    }
}

// ===== impl Kept =====

impl<Q> Kept<Q> {
    fn put_back(&self, headers: HeaderMap) {
        *self.lock().request.headers_mut() = headers;
    }

    /// It is whole at every instant.
    fn lock(&self) -> MutexGuard<'_, Whole<Q>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q: CallBody + Clone> Kept<Q> {
    /// A copy, for which the headers are packed. What is in the extensions may be a user's, and
    /// is copied under no lock.
    fn copy(&self) -> Request<Q> {
        let nothing = Whole {
            request: Request::new(Q::from(Bytes::new())),
            packed: None,
        };
        let mut whole = std::mem::replace(&mut *self.lock(), nothing);
        let headers = match &whole.packed {
            Some(packed) => packed.open(),
            None => {
                let headers = take(whole.request.headers_mut());
                whole.packed = Some(Packed::of(&headers));
                headers
            }
        };
        let mut copy = whole.request.clone();
        *copy.headers_mut() = headers;
        *self.lock() = whole;
        copy
    }
}

impl<Q: Send> Rest for Kept<Q> {
    fn rest(&self) {
        let mut whole = self.lock();
        if whole.packed.is_some() {
            return;
        }
        whole.packed = Some(Packed::of(whole.request.headers()));
        let open = take(whole.request.headers_mut());
        drop(whole);
        // What it was read into goes with it, under no lock.
        drop(open);
    }
}

impl<Q> Whole<Q> {
    /// Opens the headers where they are.
    fn opened(&mut self) -> &mut HeaderMap {
        if let Some(packed) = self.packed.take() {
            *self.request.headers_mut() = packed.open();
        }
        self.request.headers_mut()
    }

    /// Takes the headers out; whoever does puts them back.
    fn take_headers(&mut self) -> HeaderMap {
        match self.packed.take() {
            Some(packed) => packed.open(),
            None => take(self.request.headers_mut()),
        }
    }
}

// ===== impl Packed =====

/// Headers in one piece: `name:value` by lines, or `name;value` where nobody is to see it.
/// No name has either in it, and no value the end of a line.
struct Packed(Bytes);

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
        Packed(text.into())
    }

    fn open(&self) -> HeaderMap {
        let count = memchr_iter(b'\n', &self.0).count();
        let mut headers = HeaderMap::with_capacity(count);
        for line in self.0.split(|byte| *byte == b'\n') {
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
        let value = self.0.slice_ref(&line[end + 1..]);
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
    Q: CallBody + Clone,
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
    use crate::call::RequestBody;

    /// Values that are parts of one buffer, as they come from a connection.
    fn request(buffer: &Bytes) -> Request<Bytes> {
        let value = |range| HeaderValue::from_maybe_shared(buffer.slice(range)).expect("text");
        let mut request = Request::new(Bytes::new());
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
        let resting = draft.resting();
        resting.upgrade().expect("a draft").rest();
        drop(expected);
        assert!(buffer.is_unique());
        let sent = draft.send();
        let expected = request(&buffer);
        assert_eq!(sent.headers(), expected.headers());
        let secrets = sent.headers().get_all("x-one").iter();
        assert!(secrets.map(HeaderValue::is_sensitive).eq([false, true]));
        assert!(resting.upgrade().is_none());
    }

    /// Each future that a request waits in has room for two of them.
    #[test]
    fn a_draft_is_a_pointer_and_its_clones_are_the_same_request() {
        assert_eq!(size_of::<Draft<RequestBody>>(), size_of::<usize>());
        // As an allocator has it, with its counts.
        assert!(size_of::<Kept<RequestBody>>() + 2 * size_of::<usize>() <= 320);
        let mut draft = Draft::new(request(&buffer()));
        let next = draft.clone();
        draft.note(|extensions| {
            extensions.insert(1_u8);
        });
        let sent = draft.send();
        assert_eq!(sent.extensions().get(), Some(&1_u8));
        assert_eq!(
            next.look(|next| next.extensions().get().copied()),
            Some(1_u8)
        );
        assert_eq!(next.send().headers(), sent.headers());
    }

    #[test]
    fn every_attempt_has_all_headers_and_what_was_written_before() {
        let buffer = buffer();
        let mut next = Draft::new(request(&buffer));
        for attempt in ["0", "1", "2"] {
            next.edit(|headers| {
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
        let draft = Draft::new(Request::new(Bytes::new()));
        let panics = std::panic::AssertUnwindSafe(|| draft.show(|_| panic!("a user's")));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert!(draft.send().headers().is_empty());
    }
}
