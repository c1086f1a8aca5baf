//! What a call costs: alone, behind a crowd, and late in a busy minute.
//!
//! `cargo bench -p tollhouse --bench speed` takes a minute or two;
//! `-- --quick` only shows that it runs. With `--features metrics` a Prometheus recorder is
//! told of all of it, and with `-- --no-recorder` nobody is. The unit is F, a token bucket
//! written by hand (`support/reference.rs`), timed right before every subject
//! in every round, on the same machine and thread. Quartiles are in brackets.
//!
//! What is timed here allocates through the system's allocator as it is;
//! allocations are counted by the bench `memory`, because counting slows down
//! those who allocate.

mod support {
    pub(crate) mod calls;
    pub(crate) mod crowd;
    pub(crate) mod minute;
    pub(crate) mod poll;
    #[cfg(feature = "metrics")]
    pub(crate) mod recorder;
    pub(crate) mod reference;
    pub(crate) mod report;
    pub(crate) mod rounds;
    pub(crate) mod stacks;
    pub(crate) mod threads;
}

use support::calls::{self, Run};
use support::crowd::{self, Contest};
use support::minute;
use support::report::{self, Targets, section};
use support::rounds::{Duel, Spread, duels};
use support::{stacks, threads};

fn main() {
    let quick = report::quick();
    #[cfg(feature = "metrics")]
    if !report::is_asked("--no-recorder") {
        support::recorder::install();
    }
    let mut targets = Targets::default();
    alone(quick, &mut targets);
    together(quick, &mut targets);
    handed_on(quick, &mut targets);
    between_callers(quick, &mut targets);
    // From here on tokio's clock is paused now and then, which makes reading
    // it slower in the whole process.
    late_in_a_minute(quick, &mut targets);
    by_the_clock(quick, &mut targets);
    targets.print(quick);
}

fn alone(quick: bool, targets: &mut Targets) {
    let (rounds, calls) = if quick { (3, 50) } else { (200, 5_000) };
    let mut reference = calls::reference();
    let mut again = calls::reference();
    let mut subjects = calls::subjects(&calls::runtime());
    let mut runs: Vec<&mut Run> = vec![&mut again];
    runs.extend(subjects.iter_mut().map(|subject| &mut subject.run));
    let duels = duels(&mut reference, &mut runs, rounds, calls);

    let columns = format!("{:<44}{:>9}{:>9}", "", "ns", "F");
    section("one call, nobody else around", &columns);
    line("F, against itself", &duels[0]);
    for (subject, duel) in subjects.iter().zip(&duels[1..]) {
        line(&subject.name, duel);
        if let Some(at_most) = subject.at_most {
            targets.add(&subject.name, duel.ratio.median, at_most, "F");
        }
    }
}

fn line(name: &str, duel: &Duel) {
    let Duel { nanos, ratio } = duel;
    println!(
        "  {name:<44}{:>9.1}{:>9.2}  [{:.2} - {:.2}]",
        nanos.median, ratio.median, ratio.low, ratio.high
    );
}

fn together(quick: bool, targets: &mut Targets) {
    let (rounds, calls) = if quick { (3, 50) } else { (60, 20_000) };
    let races = [threads::reference(), threads::service(stacks::policy())];
    let times: Vec<_> = (0..rounds)
        .map(|_| [0, 1].map(|race: usize| races[race](calls)))
        .collect();
    let columns = format!("{:<44}{:>9}{:>9}", "", "ns", "F");
    section("one call, two threads on one of them", &columns);
    let over = Spread::of(over_first(&times).iter().map(|round| round[1]).collect());
    let nanos = medians(&times);
    println!("  {:<44}{:>9.1}{:>9.2}", "F", nanos[0], 1.0);
    println!(
        "  {:<44}{:>9.1}{:>9.2}  [{:.2} - {:.2}]",
        "the policy", nanos[1], over.median, over.low, over.high
    );
    targets.add("the policy, two threads", over.median, 1.5, "F");
}

fn between_callers(quick: bool, targets: &mut Targets) {
    let crowds: &[_] = match quick {
        true => &[(1_000, 2)],
        false => &[(1_000, 101), (100_000, 9)],
    };
    let contests: [Contest; 3] = [crowd::budget, crowd::one_caller, crowd::many_callers];
    let columns = "waiting      nobody named        one caller          1,000 callers";
    section("the same, fair between callers, ns", columns);
    let mut growth = Vec::new();
    for &(waiting, rounds) in crowds {
        let times = contend(&contests, waiting, waiting.min(10_000), rounds);
        let nanos = medians(&times);
        let one = medians(&over_first(&times))[1];
        let many = times.iter().map(|round| round[2] / round[1]).collect();
        let many = Spread::of(many).median;
        println!(
            "  {waiting:>7}{:>18.0}{:>10.0} = {one:>4.2} x{:>13.0} = {many:>4.2} x",
            nanos[0], nanos[1], nanos[2]
        );
        targets.add(format!("one caller, {waiting} waiting"), one, 1.3, "x");
        let name = format!("1,000 callers over one, {waiting} waiting");
        targets.add(name, many, 2.0, "x");
        growth.push(nanos[2]);
    }
    let growth = growth[growth.len() - 1] / growth[0];
    targets.add(
        "1,000 callers, 100,000 waiting over 1,000",
        growth,
        2.0,
        "x",
    );
}

fn handed_on(quick: bool, targets: &mut Targets) {
    let crowds: &[_] = match quick {
        true => &[(1_000, 2)],
        false => &[(1_000, 101), (10_000, 31), (100_000, 9), (1_000_000, 5)],
    };
    let contests: [Contest; 3] = [crowd::semaphore, crowd::slots, crowd::budget];
    let columns = "waiting   tokio Semaphore     ConcurrencyLayer          TokenBudget";
    section(
        "one slot or token handed from each to the next, ns",
        columns,
    );
    let mut rows = Vec::new();
    for &(waiting, rounds) in crowds {
        let times = contend(&contests, waiting, waiting.min(10_000), rounds);
        let (nanos, over) = (medians(&times), medians(&over_first(&times)));
        println!(
            "  {waiting:>7}{:>18.0}{:>13.0} = {:>4.2} x{:>13.0} = {:>4.2} x",
            nanos[0], nanos[1], over[1], nanos[2], over[2]
        );
        rows.push((nanos, over));
    }
    for (n, gate) in [(1, "ConcurrencyLayer"), (2, "TokenBudget")] {
        let growth = rows[rows.len() - 1].0[n] / rows[0].0[n];
        let worst = rows.iter().map(|row| row.1[n]).fold(0.0, f64::max);
        targets.add(
            format!("{gate}, 1,000,000 waiting over 1,000"),
            growth,
            2.0,
            "x",
        );
        targets.add(format!("{gate} over Semaphore, worst"), worst, 1.5, "x");
    }
}

fn by_the_clock(quick: bool, targets: &mut Targets) {
    let crowds: &[_] = match quick {
        true => &[(1_000, 20, 1)],
        false => &[(1_000, 500, 9), (10_000, 2_000, 5), (100_000, 2_000, 3)],
    };
    let columns = "waiting    StaggerLayer  TpmBudgetLayer    Buffer+RateLimit    tower-resilience";
    section(
        "one let in a millisecond, by the clock, ns of work",
        columns,
    );
    let contests: [Contest; 3] = [
        crowd::timed_stagger,
        crowd::timed_budget,
        crowd::timed_tower,
    ];
    let mut budgets = Vec::new();
    for &(waiting, admissions, rounds) in crowds {
        let [stagger, budget, tower] = medians(&contend(&contests, waiting, admissions, rounds));
        // All who wait wake for each of these: three have to do.
        let resilience = crowd::timed_resilience(waiting, 3);
        println!("  {waiting:>7}{stagger:>16.0}{budget:>16.0}{tower:>20.0}{resilience:>20.0}");
        budgets.push(budget);
    }
    let name = "by the clock, 100,000 waiting over 1,000";
    targets.add(name, budgets[budgets.len() - 1] / budgets[0], 2.0, "x");
}

/// The times of every contest, round by round.
fn contend<const N: usize>(
    contests: &[Contest; N],
    waiting: usize,
    admissions: usize,
    rounds: usize,
) -> Vec<[f64; N]> {
    (0..rounds)
        .map(|_| contests.map(|contest| contest(waiting, admissions)))
        .collect()
}

fn medians<const N: usize>(times: &[[f64; N]]) -> [f64; N] {
    std::array::from_fn(|n| Spread::of(times.iter().map(|round| round[n]).collect()).median)
}

/// Every contest over the first one, in each round.
fn over_first<const N: usize>(times: &[[f64; N]]) -> Vec<[f64; N]> {
    let over_first = |round: &[f64; N]| round.map(|nanos| nanos / round[0]);
    times.iter().map(over_first).collect()
}

fn late_in_a_minute(quick: bool, targets: &mut Targets) {
    let counts: &[u64] = match quick {
        true => &[1, 1_000],
        false => &[1, 1_000, 100_000, 1_000_000],
    };
    let (rounds, calls) = if quick { (2, 20) } else { (100, 500) };
    for (title, make) in [
        ("admitted", minute::admitting as fn(u64) -> Run),
        ("told to wait", minute::refusing),
    ] {
        let columns = format!("{:<44}{:>9}{:>9}", "requests before", "ns", "over one");
        section(&format!("late in a minute: {title}"), &columns);
        let mut unit = make(1);
        let mut runs: Vec<Run> = counts.iter().map(|count| make(*count)).collect();
        let mut runs: Vec<&mut Run> = runs.iter_mut().collect();
        let duels = duels(&mut unit, &mut runs, rounds, calls);
        for (count, duel) in counts.iter().zip(&duels) {
            line(&count.to_string(), duel);
        }
        let worst = duels
            .iter()
            .map(|duel| duel.ratio.median)
            .fold(0.0, f64::max);
        targets.add(format!("late in a minute, {title}"), worst, 1.2, "x");
    }
}
