//! What `/metrics` shows.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::failure::{self, BoxError};

/// Where waits are told apart, in seconds: from a turn's to a day's.
const WAITS: [f64; 15] = [
    0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3_600.0, 86_400.0,
];

/// Counts from now on, with help texts, for whoever asks.
pub(crate) fn count() -> Result<PrometheusHandle, BoxError> {
    let installed = builder().and_then(PrometheusBuilder::install_recorder);
    let page = installed.map_err(|error| failure::because("cannot count metrics", error))?;
    tollhouse_openai::describe_metrics();
    Ok(page)
}

/// Waits are histograms, which dashboards can add up over several proxies; a summary of each
/// is the exporter's default.
fn builder() -> Result<PrometheusBuilder, BuildError> {
    let waits = Matcher::Suffix("wait_seconds".to_owned());
    PrometheusBuilder::new().set_buckets_for_metric(waits, &WAITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the dashboard takes a quantile of.
    #[test]
    fn what_the_dashboard_shows_in_buckets_is_counted_in_buckets() {
        let dashboard = include_str!("../../../docs/grafana/tollhouse.json");
        let words = dashboard.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let counted = words.filter_map(|word| word.strip_suffix("_bucket"));
        let mut seen = 0;
        for name in counted {
            let recorder = builder().expect("buckets").build_recorder();
            metrics::with_local_recorder(&recorder, || {
                metrics::histogram!(name.to_owned()).record(0.3);
            });
            let told = recorder.handle().render();
            let bucket = format!("{name}_bucket{{le=\"0.5\"}} 1\n");
            assert!(told.contains(&bucket), "{told}");
            seen += 1;
        }
        assert!(seen >= 2, "{seen}");
    }
}
