//! A service that answers no `http::Response`, behind a gate that was not told
//! `.until_response()`.

use tollhouse::ConcurrencyLayer;
use tower::util::BoxCloneService;
use tower::{Layer, service_fn};

async fn echo(prompt: String) -> Result<String, std::io::Error> {
    Ok(prompt)
}

fn main() {
    let gated = ConcurrencyLayer::new(3).layer(service_fn(echo));
    BoxCloneService::<String, _, _>::new(gated);
}
