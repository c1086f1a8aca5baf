//! Two processes share one key and nothing else.
//!
//! Neither knows of the other; each has the whole limit for its own. All that
//! either can learn is what the provider's headers tell.

use tollhouse_sim::{Report, Sim};

use crate::{load, rows, run, support};

/// Two policies with a state of their own each, one account.
async fn share(seed: u64) -> (u64, Report) {
    let row = rows::plain(seed);
    let sim = Sim::new(row.provider.clone()).expect("a valid provider");
    let process = |seed| {
        let calls = row.load.calls(seed, load::CALLS);
        let (policy, client) = (row.policy(), sim.service());
        async move { run::run(&policy, client, calls).await.answered }
    };
    let (one, two) = tokio::join!(process(2 * seed), process(2 * seed + 1));
    (one + two, sim.report())
}

#[tokio::test(start_paused = true)]
async fn headers_alone_keep_two_processes_within_one_limit() {
    for seed in 1..=support::seeds(2, 5) {
        let (answered, report) = share(seed).await;
        let (rejected, arrived) = (report.total.rejected.total(), report.arrived);
        assert_eq!(answered, 2 * load::CALLS as u64, "none lost\n{report}");
        assert!(rejected * 100 < arrived, "seed {seed}\n{report}");
        assert!(
            report.total.utilisation >= Some(0.95),
            "seed {seed}\n{report}"
        );
    }
}
