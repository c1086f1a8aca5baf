//! The same with fused gates, handed to whoever asks for a service.

use std::time::Duration;

use tollhouse::{ConcurrencyLayer, GateLayer, StaggerLayer};
use tower::{Layer, Service, service_fn};

async fn echo(prompt: String) -> Result<String, std::io::Error> {
    Ok(prompt)
}

fn serve(_: impl Service<String>) {}

fn main() {
    let gates = (
        ConcurrencyLayer::new(3),
        StaggerLayer::new(Duration::from_secs(15)),
    );
    serve(GateLayer::new(gates).layer(service_fn(echo)));
}
