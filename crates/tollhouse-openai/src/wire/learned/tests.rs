use proptest::prelude::*;

use super::*;

fn asks(endpoint: Endpoint, model: Option<&str>, upfront: u64, tokens: u64) -> Estimate<'_> {
    Estimate {
        endpoint,
        model,
        prompt: upfront,
        upfront,
        tokens,
    }
}

fn estimate(model: &str, upfront: u64, tokens: u64) -> Estimate<'_> {
    asks(Endpoint::Chat, Some(model), upfront, tokens)
}

fn teach(learned: &Learned, estimate: &Estimate<'_>, used: u64, times: u64) {
    let lesson = learned.lesson(estimate).expect("a lesson");
    (0..times).for_each(|_| lesson.learn(used));
}

const NO_BOUND: fn() -> u64 = || u64::MAX;

#[test]
fn the_estimate_stands_until_enough_was_learned() {
    let learned = Learned::default();
    let call = estimate("a", 10, 100);
    teach(&learned, &call, 300, 19);
    assert_eq!(learned.cost(&call, NO_BOUND), 100);
    teach(&learned, &call, 300, 1);
    let cost = learned.cost(&call, NO_BOUND);
    assert!((300..=315).contains(&cost), "{cost}");
}

#[test]
fn models_and_endpoints_are_learned_apart() {
    let learned = Learned::default();
    teach(&learned, &estimate("a", 10, 100), 300, 50);
    assert_eq!(learned.cost(&estimate("b", 10, 100), NO_BOUND), 100);
    let other = asks(Endpoint::Responses, Some("a"), 10, 100);
    assert_eq!(learned.cost(&other, NO_BOUND), 100);

    teach(&learned, &other, 20, 3);
    let told: Vec<_> = learned
        .snapshot()
        .into_iter()
        .map(|known| {
            (
                known.endpoint,
                known.model,
                known.factor.is_some(),
                known.calls,
            )
        })
        .collect();
    let expected = [
        ("chat/completions", "a".to_owned(), true, 50),
        ("responses", "a".to_owned(), false, 3),
    ];
    assert_eq!(told, expected);
}

#[test]
fn calls_that_began_before_anything_was_learned_teach_the_same() {
    let learned = Learned::default();
    let call = estimate("a", 10, 100);
    let [first, second] = [0, 1].map(|_| learned.lesson(&call).expect("a lesson"));
    first.learn(300);
    second.learn(300);
    let known = learned.snapshot();
    assert_eq!((known.len(), known[0].calls), (1, 2));
    // Whoever is told of them may be gone.
    drop(learned);
    first.learn(300);
}

#[test]
fn a_factor_below_one_stops_at_what_is_charged_up_front() {
    let learned = Learned::default();
    let call = estimate("a", 900, 1_000);
    teach(&learned, &call, 10, 50);
    assert_eq!(learned.cost(&call, NO_BOUND), 900);
    let vague = estimate("a", 100, 7_000);
    assert_eq!(learned.cost(&vague, NO_BOUND), 1_750);
}

#[test]
fn a_factor_above_one_stops_at_what_the_budget_holds() {
    let learned = Learned::default();
    let call = estimate("a", 10, 1_000);
    teach(&learned, &call, 50_000, 50);
    assert_eq!(learned.cost(&call, NO_BOUND), 20_000);
    assert_eq!(learned.cost(&call, || 5_000), 5_000);
    assert_eq!(learned.cost(&call, || 10), 1_000, "refused as ever");
}

#[test]
fn of_too_many_models_the_stalest_is_forgotten() {
    let learned = Learned::default();
    let names: Vec<String> = (0..=MOST_KEYS).map(|n| format!("model-{n:03}")).collect();
    let calls: Vec<_> = names.iter().map(|name| estimate(name, 1, 10)).collect();
    for call in &calls[..MOST_KEYS] {
        teach(&learned, call, 10, 1);
    }
    teach(&learned, &calls[0], 10, 1);
    teach(&learned, &calls[MOST_KEYS], 10, 1);
    let known = learned.snapshot();
    let known: Vec<&str> = known.iter().map(|known| known.model.as_str()).collect();
    assert_eq!(known.len(), MOST_KEYS);
    assert!(known.contains(&"model-000"));
    assert!(!known.contains(&"model-001"));
    assert!(known.contains(&"model-256"));
}

#[test]
fn what_has_no_name_or_costs_nothing_is_not_learned() {
    let learned = Learned::default();
    let long = "x".repeat(MOST_NAME_BYTES + 1);
    for call in [
        asks(Endpoint::Chat, None, 10, 10),
        estimate("a", 0, 0),
        estimate(&long, 10, 10),
    ] {
        assert!(learned.lesson(&call).is_none());
    }
}

proptest! {
    /// Whatever was learned, a cost stays between what is charged up front and
    /// the most that fits, and twenty times the estimate.
    #[test]
    fn a_cost_stays_in_bounds(
        used in prop::collection::vec(any::<u64>(), 0..100),
        tokens in 1_u64..1_000_000_000_000,
        share in 0.0_f64..=1.0,
        most in 1_u64..1_000_000_000_000,
    ) {
        let learned = Learned::default();
        let upfront = (tokens as f64 * share) as u64;
        let call = estimate("a", upfront, tokens);
        let lesson = learned.lesson(&call).expect("a lesson");
        used.iter().for_each(|used| lesson.learn(*used));
        let cost = learned.cost(&call, || most);
        prop_assert!(cost >= upfront);
        prop_assert!(cost <= tokens.max(most));
        prop_assert!(cost <= tokens * 20);
        prop_assert!(cost >= tokens / 4);
    }
}
