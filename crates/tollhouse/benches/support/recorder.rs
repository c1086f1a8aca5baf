//! Somebody who is told, where the feature `metrics` is on.

use metrics_exporter_prometheus::PrometheusBuilder;

/// Tells all from now on to the exporter that most people use, of which nobody asks
/// anything.
pub(crate) fn install() {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::set_global_recorder(recorder).expect("the first recorder");
    tollhouse::describe_metrics();
}
