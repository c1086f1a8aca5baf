//! The job of the benches, in virtual time.

use std::collections::BTreeMap;

use tollhouse_sim::Sim;

use crate::rows::{self, Row};
use crate::verdict::Verdict;
use crate::{load, run, support};

async fn job(row: &Row, seed: u64) -> Verdict {
    let sim = Sim::new(row.provider.clone()).expect("a valid provider");
    let calls = row.load.calls(seed, load::CALLS);
    let count = calls.len();
    let outcome = run::run(&row.policy(), sim.service(), calls).await;
    Verdict::new(row, count, &outcome, sim.report())
}

#[tokio::test(start_paused = true)]
async fn every_promise_is_kept_with_every_kind_of_provider() {
    println!("{}", Verdict::HEAD);
    let (mut missed, mut rows) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
    for seed in 1..=support::seeds(1, 2) {
        for row in rows::all(seed) {
            let verdict = job(&row, seed).await;
            println!("{verdict}");
            // Where somebody else spends a part of what little there is at first, nobody knows it
            // before answers show it.
            let unlucky = u64::from(row.provider.others > 0.0);
            if !verdict.losses(row.refused.max(unlucky)).is_empty() {
                missed.push(verdict.to_string());
            }
            rows.entry(row.name).or_default().push(verdict);
        }
    }
    // How long one takes depends on what comes last, and a first second on others.
    for mut row in rows.into_values() {
        row.sort_by(|one, other| one.ratio().total_cmp(&other.ratio()));
        let ratio = row[row.len() / 2].ratio();
        row.sort_by_key(Verdict::refused);
        let refused = row[row.len() / 2].refused();
        let one = &row[0];
        if ratio > one.at_most || refused > one.refused_at_most {
            missed.push(format!("{}: {ratio:.3}, {refused} refused", one.name));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
