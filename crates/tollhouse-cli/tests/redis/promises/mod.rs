//! What holds for eight real processes, a real Redis and the simulated provider, in real time.
//!
//! A test run plays some seconds of each, and judges what must hold on a busy machine, too;
//! `TOLLHOUSE_SCHEDULES=15` plays and judges them whole, and `--nocapture` shows the tables.

mod clients;
mod crowd;
mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::common::{Files, Started, answers, directory, ended, start, until};
use crate::server::Redis;
use crate::way::Way;
use clients::Clients;
use crowd::{A_SECOND, Crowd, MANY, alone, calls, status, until_granted, until_known_to_all, work};
use table::{Row, judge};

/// One after another: each needs the machine.
static ALONE: Mutex<()> = Mutex::const_new(());

/// How long something lasts: `short` in a test run, and as many times that as is asked for, up
/// to the whole.
fn seconds(short: u64, whole: u64) -> Duration {
    Duration::from_secs(whole.min(short * times()))
}

fn times() -> u64 {
    std::env::var("TOLLHOUSE_SCHEDULES").map_or(1, |it| it.parse().expect("a number"))
}

/// Whether all is played whole.
fn are_whole() -> bool {
    times() >= 15
}

fn percent(part: u64, of: u64) -> f64 {
    100.0 * part as f64 / of.max(1) as f64
}

/// Starts a batch for each.
fn begin(crowd: &Crowd, redis: &str, files: &[Files]) -> Vec<Started> {
    files.iter().map(|it| crowd.batch(redis, it)).collect()
}

/// All come to their end, and each line is answered once.
async fn nothing_is_lost(files: &[Files], children: Vec<Started>) {
    for (files, child) in files.iter().zip(children) {
        let said = || std::fs::read_to_string(&files.stderr).unwrap_or_default();
        assert_eq!(ended(child).await, Some(0), "{}", said());
        let asked: BTreeMap<_, _> = answers(&files.input)
            .into_keys()
            .map(|id| (id, 1))
            .collect();
        assert_eq!(answers(&files.output), asked, "{}", said());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_processes_use_what_one_account_allows() {
    let _alone = ALONE.lock().await;
    let long = seconds(12, 180);
    let (redis, crowd) = (
        Redis::start().await,
        Crowd::new("promise-eight", 0.01).await,
    );
    let files = work("promise-eight", long.as_secs() + 15);
    let _children = begin(&crowd, &redis.url(), &files);
    crowd.until_saturated().await;
    let (before, since) = (crowd.charged(), Instant::now());
    let asked = calls(&redis).await;
    sleep(long).await;
    let used = before.used_until(crowd.charged());
    let asked = calls(&redis).await - asked;
    // It is later by as much as the machine was busy with others.
    let took = since.elapsed().as_secs_f64();
    let each = asked as f64 / took / MANY as f64;
    // Four in the mean: by its first instant each may have saved up what it may ask at once.
    let most = 4.0 + 3.0 / took;
    judge(
        &format!("Eight processes with more to do than they may, {long:?}"),
        &[
            Row::at_most("calls refused", crowd.refused().0 as f64, 0.0),
            Row::at_least("used of the provider's limit, %", used, 97.0).in_the_long_run(),
            Row::at_most("questions to Redis, a second and process", each, most).in_the_long_run(),
        ],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_process_has_all_until_the_others_come() {
    let _alone = ALONE.lock().await;
    let (alone, together) = (seconds(8, 60), seconds(6, 20));
    let (redis, crowd) = (Redis::start().await, Crowd::new("promise-busy", 0.01).await);
    let folder = directory("promise-busy-said");
    let mut children = Vec::new();
    let mut proxies = Vec::new();
    for n in 0..MANY {
        let said = folder.join(format!("{n}"));
        let command = crowd.command(&redis.url(), &["proxy", "--listen", "127.0.0.1:0"]);
        children.push(start(command, &said));
        proxies.push(format!("http://{}/v1", crate::address(&said).await));
    }
    let clients: Vec<_> = proxies.iter().map(|it| Clients::of(it)).collect();
    clients[0].begin(100);
    crowd.until_saturated().await;
    let before = crowd.charged();
    sleep(alone).await;
    let used = before.used_until(crowd.charged());

    clients[1..].iter().for_each(|it| it.begin(40));
    sleep(Duration::from_secs(2)).await;
    let before: Vec<_> = clients.iter().map(Clients::tokens).collect();
    let at = crowd.charged();
    sleep(together).await;
    let used_together = at.used_until(crowd.charged());
    let had = clients.iter().zip(before);
    let had: Vec<_> = had.map(|(it, before)| it.tokens() - before).collect();
    let share = had.iter().sum::<u64>() / MANY as u64;
    let [least, most] = [had.iter().min(), had.iter().max()].map(|it| percent(*it.unwrap(), share));
    judge(
        &format!("One busy process of eight for {alone:?}, then all, from 2 s on for {together:?}"),
        &[
            Row::at_most("calls refused", crowd.refused().0 as f64, 0.0),
            Row::at_least("used by the one, of the provider's limit, %", used, 97.0)
                .in_the_long_run(),
            Row::at_least("then used by all, %", used_together, 97.0).in_the_long_run(),
            Row::at_least("the least that one has of its share, %", least, 90.0).in_the_long_run(),
            Row::at_most("the most that one has of its share, %", most, 110.0).in_the_long_run(),
        ],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failure_19_killed_processes_cost_little_and_refuse_nothing() {
    let _alone = ALONE.lock().await;
    let long = seconds(10, 60);
    let (redis, crowd) = (Redis::start().await, Crowd::new("promise-kill", 0.01).await);
    let files = work("promise-kill", long.as_secs() + 10);
    let mut children = begin(&crowd, &redis.url(), &files);
    crowd.until_saturated().await;
    let (before, begun) = (crowd.charged(), Instant::now());
    // Any order will do, as long as it is none.
    for victim in [5, 2, 7, 0, 3, 6, 1, 4].into_iter().cycle() {
        sleep(Duration::from_millis(2_500)).await;
        if begun.elapsed() >= long {
            break;
        }
        kill(&mut children[victim]);
        children[victim] = crowd.batch(&redis.url(), &files[victim]);
    }
    let used = before.used_until(crowd.charged());
    // One stays, for whom all the others' slots come back.
    children[1..].iter_mut().for_each(kill);
    let killed = Instant::now();
    until("all slots to be back", || holders(&redis) == Some(1)).await;
    let back = killed.elapsed();
    children.truncate(1);
    children.extend(begin(&crowd, &redis.url(), &files[1..]));
    nothing_is_lost(&files, children).await;
    judge(
        &format!("One of eight is killed every 2.5 s and started again, {long:?}"),
        &[
            Row::at_most("calls refused", crowd.refused().0 as f64, 0.0),
            Row::at_least("used of the provider's limit, %", used, 90.0).in_the_long_run(),
            Row::at_most("all slots are back, s", back.as_secs_f64(), 5.0),
        ],
    );
}

fn kill(child: &mut Started) {
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

/// How many processes have slots; `None` where it is not told in time.
fn holders(redis: &Redis) -> Option<usize> {
    let status = status(redis)?;
    let leases = status["pools"][0]["leases"].as_array()?;
    Some(leases.iter().filter(|it| it["slots"] != 0).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failure_23_a_redis_that_is_away_for_a_while_and_comes_back_empty() {
    let _alone = ALONE.lock().await;
    let (before, away, after) = (seconds(4, 20), seconds(8, 20), seconds(6, 20));
    let (mut redis, crowd) = (Redis::start().await, Crowd::new("promise-away", 0.01).await);
    let long = before + away + after;
    let files = work("promise-away", long.as_secs() + 10);
    let children = begin(&crowd, &redis.url(), &files);
    crowd.until_saturated().await;
    sleep(before).await;
    redis.kill();
    // What is leased may be spent for two seconds; the shares begin with nothing.
    sleep(Duration::from_secs(2)).await;
    let alone = crowd.charged();
    sleep(away - Duration::from_secs(2)).await;
    let used_alone = alone.used_until(crowd.charged());
    redis.revive().await;
    // It grants nothing until all have told what they hold.
    let begun = Instant::now();
    until_granted(&redis).await;
    let anew = begun.elapsed();
    let again = crowd.charged();
    sleep(after).await;
    let used_again = again.used_until(crowd.charged());
    nothing_is_lost(&files, children).await;
    judge(
        &format!("Redis is killed for {away:?} and comes back empty"),
        &[
            Row::at_most("calls refused", crowd.refused().0 as f64, 0.0),
            // Eight parts of an eighth, but for what a part is too small for at the moment.
            Row::at_least(
                "used on the shares, of the provider's limit, %",
                used_alone,
                90.0,
            )
            .in_the_long_run(),
            Row::at_most(
                "all is granted by it again after, s",
                anew.as_secs_f64(),
                8.0,
            )
            .in_the_long_run(),
            Row::at_least("used from then on, %", used_again, 97.0).in_the_long_run(),
        ],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_are_cut_off_refuse_no_more_than_the_design_says() {
    let _alone = ALONE.lock().await;
    // In the order of the guide's table.
    for (cut_off, headroom, most) in [
        (1, 0.15, 0.0),
        (2, 0.15, 4.5),
        (1, 0.0, 11.0),
        (2, 0.0, 20.0),
    ] {
        let long = seconds(6, 60);
        let test = format!("promise-cut-{cut_off}-{headroom}");
        let (redis, crowd) = (Redis::start().await, Crowd::new(&test, headroom).await);
        let way = Way::to(redis.port()).await;
        let files = work(&test, long.as_secs() + 10);
        // The ledger begins full and the provider with nothing, which eight that begin at the same
        // instant may find out by a refusal: enough for their first calls is saved up.
        sleep(Duration::from_secs(6)).await;
        let mut children = begin(&crowd, &way.url(), &files[..cut_off]);
        children.extend(begin(&crowd, &redis.url(), &files[cut_off..]));
        crowd.until_charged(2 * A_SECOND).await;
        until_known_to_all(&redis).await;
        let (refused, arrived) = crowd.refused();
        // On a machine that is so busy that Redis does not answer, others have been on shares, too.
        let alone_before = alone(&files).len();
        way.cut(true);
        sleep(long).await;
        let (refused_then, arrived_then) = crowd.refused();
        way.cut(false);
        let told_of = alone(&files[..cut_off]);
        let others_alone = alone(&files[cut_off..]).len();
        // One that was on its least share already, because no answer came in time, knew of nobody.
        let are_as_many = told_of.iter().all(|it| *it == MANY as u64) && told_of.len() == cut_off;
        let of = percent(refused_then - refused, arrived_then - arrived);
        nothing_is_lost(&files, children).await;
        judge(
            &format!("{cut_off} of eight cut off for {long:?}, headroom {headroom}"),
            &[
                Row::at_most(
                    "refused before, of all calls, %",
                    percent(refused, arrived),
                    0.0,
                )
                .only_if(alone_before == 0),
                Row::at_most("refused meanwhile, of all calls, %", of, most)
                    .only_if(others_alone == 0 && are_as_many),
                Row::at_most("went on alone before", alone_before as f64, 0.0).only_if(false),
                Row::at_most("others that did meanwhile", others_alone as f64, 0.0).only_if(false),
                Row::at_least(
                    "the least that those cut off knew of, processes",
                    told_of.into_iter().min().unwrap_or(0) as f64,
                    MANY as f64,
                )
                .only_if(false),
            ],
        );
    }
}
