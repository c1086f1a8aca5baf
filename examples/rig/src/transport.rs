//! rig's transport over a limited client: the file to copy.

use bytes::Bytes;
use futures_util::TryStreamExt;
use http_body_util::{BodyDataStream, BodyExt};
use rig::http_client::{
    BoxedStream, Error, HeaderValue, HttpClientExt, LazyBody, MultipartForm, Request, Response,
    Result, StreamingResponse,
};
use tollhouse_openai::policy::{Limited, LimitedBody};
use tollhouse_openai::{OpenAi, ResponseBody};
use tower::ServiceExt;

type Answer = Response<LimitedBody<ResponseBody>>;

/// Whatever rig sends passes the gates of the policy; clones share its limits.
#[derive(Clone)]
pub struct Gates(pub Limited<OpenAi>);

impl Gates {
    /// An answer that succeeded; rig wants the others as errors.
    async fn answer(self, request: Request<Bytes>) -> Result<Answer> {
        let answer = self.0.oneshot(request).await;
        let answer = answer.map_err(|error| Error::Instance(error.into()))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(Error::instance)?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        Err(Error::non_success_with_details(
            head.status,
            head.headers,
            body,
        ))
    }

    async fn whole<U>(self, request: Request<Bytes>) -> Result<Response<LazyBody<U>>>
    where
        U: From<Bytes> + Send + 'static,
    {
        let answer = self.answer(request).await?;
        Ok(answer.map(|body| -> LazyBody<U> {
            Box::pin(async {
                Ok(body
                    .collect()
                    .await
                    .map_err(Error::instance)?
                    .to_bytes()
                    .into())
            })
        }))
    }
}

impl HttpClientExt for Gates {
    fn send<T, U>(
        &self,
        request: Request<T>,
    ) -> impl Future<Output = Result<Response<LazyBody<U>>>> + Send + 'static
    where
        T: Into<Bytes> + Send,
        U: From<Bytes> + Send + 'static,
    {
        self.clone().whole(request.map(Into::into))
    }

    fn send_multipart<U>(
        &self,
        request: Request<MultipartForm>,
    ) -> impl Future<Output = Result<Response<LazyBody<U>>>> + Send + 'static
    where
        U: From<Bytes> + Send + 'static,
    {
        let (mut head, form) = request.into_parts();
        let (boundary, body) = form.encode();
        let kind = format!("multipart/form-data; boundary={boundary}");
        let gates = self.clone();
        async move {
            head.headers.insert(
                "content-type",
                HeaderValue::try_from(kind).map_err(Error::instance)?,
            );
            gates.whole(Request::from_parts(head, body)).await
        }
    }

    fn send_streaming<T>(
        &self,
        request: Request<T>,
    ) -> impl Future<Output = Result<StreamingResponse>> + Send
    where
        T: Into<Bytes> + Send,
    {
        let (gates, request) = (self.clone(), request.map(Into::into));
        async move {
            let answer = gates.answer(request).await?;
            Ok(answer.map(|body| -> BoxedStream {
                Box::pin(BodyDataStream::new(body).map_err(Error::instance))
            }))
        }
    }
}
