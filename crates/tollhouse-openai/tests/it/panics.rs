//! Who sets what is not allowed is shown his own line.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Once;
use std::time::Duration;

use tollhouse_openai::{
    AccountSlots, Caller, ConcurrencyLayer, Limit, OpenAi, Policy, RetryBudget, StaggerLayer,
};

thread_local! {
    static LAST: Cell<Option<(String, u32)>> = const { Cell::new(None) };
}

/// Notes where each thread panics, and lets the hook before it tell of it.
fn note_places() {
    static NOTED: Once = Once::new();
    NOTED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let place = info.location().map(|it| (it.file().to_owned(), it.line()));
            LAST.set(place);
            before(info);
        }));
    });
}

/// Calls what panics, in the line in which this is called.
#[track_caller]
fn panics_here<T>(wrong: impl FnOnce() -> T) {
    note_places();
    let here = Location::caller();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(wrong()))).is_err());
    let here = (here.file().to_owned(), here.line());
    assert_eq!(LAST.take(), Some(here));
}

#[test]
fn a_wrong_argument_panics_in_the_line_that_has_it() {
    panics_here(|| ConcurrencyLayer::new(0));
    panics_here(|| ConcurrencyLayer::bounded(0, 1));
    panics_here(|| ConcurrencyLayer::new(1).set_max(0));
    panics_here(|| StaggerLayer::new(Duration::ZERO).jitter(2.0));
    panics_here(|| Caller::new("a").weight(0));
    panics_here(|| AccountSlots::new(0));
    panics_here(|| AccountSlots::new(1).set_max(0));
    panics_here(|| RetryBudget::new(-1.0, 0));
    panics_here(|| RetryBudget::default().set(f64::NAN, 0));
    panics_here(|| Limit::per_minute(0));
    panics_here(|| OpenAi::builder().keep_alive(Duration::ZERO));
    panics_here(|| Policy::default().headroom(2.0));
    panics_here(|| Policy::default().max_concurrency(0));
    panics_here(|| Policy::default().max_attempts(0));
    panics_here(|| Policy::default().retry_budget(-1.0, 0));
}
