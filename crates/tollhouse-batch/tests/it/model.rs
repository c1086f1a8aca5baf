//! A thousand random batches, killed and resumed at random, against a model
//! that knows only what each request's answer is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{RunBoxed, answer, by_id, id_of, input, respond};
use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tollhouse_batch::{Batch, Done, SentBody, SentLayer, Summary, Tail};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};

/// Between two attempts.
const BACKOFF: Duration = Duration::from_millis(700);

type Stack =
    BoxCloneSyncService<Request<Bytes>, Response<SentBody<crate::common::Body>>, io::Error>;

struct Random(fastrand::Rng);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0.u64(..n)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What becomes of one request, however often it is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Answered,
    /// Asked again so often before it is answered.
    Delayed(usize),
    Refused,
    Broken,
}

impl Fate {
    fn is_answered(self) -> bool {
        matches!(self, Fate::Answered | Fate::Delayed(_))
    }

    /// How often it is sent in one run.
    fn attempts(self) -> usize {
        match self {
            Fate::Delayed(times) => times + 1,
            _ => 1,
        }
    }
}

#[derive(Clone, Debug)]
struct World {
    fates: BTreeMap<String, (Fate, Duration)>,
    /// How often each was sent in this run.
    sent: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl World {
    fn new(random: &mut Random) -> Self {
        let fate = |n: u64, random: &mut Random| {
            let fate = match random.below(10) {
                0 => Fate::Refused,
                1 => Fate::Broken,
                2 | 3 => Fate::Delayed(1 + random.below(2) as usize),
                _ => Fate::Answered,
            };
            // Some at once, most later, many at the same instant.
            let takes = Duration::from_millis(random.below(4) * 500);
            (format!("id-{n}"), (fate, takes))
        };
        let count = random.below(15);
        World {
            fates: (0..count).map(|n| fate(n, random)).collect(),
            sent: Arc::default(),
        }
    }

    async fn call(self, request: Request<Bytes>) -> io::Result<Response<crate::common::Body>> {
        let id = id_of(&request);
        let (fate, takes) = self.fates[&id];
        let attempt = self.send(&id);
        sleep(takes).await;
        match fate {
            Fate::Delayed(times) if attempt <= times => Ok(respond(429, "{}")),
            Fate::Answered | Fate::Delayed(_) => Ok(answer(&id)),
            Fate::Refused => Ok(respond(400, "{}")),
            Fate::Broken => Err(io::Error::other("reset")),
        }
    }

    /// Sends it once more; how often it was sent now.
    fn send(&self, id: &str) -> usize {
        let mut sent = self.sent.lock().expect("no panic");
        let sent = sent.entry(id.to_owned()).or_default();
        *sent += 1;
        *sent
    }

    /// A transport behind what a stack is made of: slots, and retries that wait.
    fn stack(&self, slots: usize) -> Stack {
        let (world, slots) = (self.clone(), Arc::new(Semaphore::new(slots)));
        let transport = service_fn(move |request| world.clone().call(request));
        let transport = SentLayer.layer(transport);
        BoxCloneSyncService::new(service_fn(move |request: Request<Bytes>| {
            let (transport, slots) = (transport.clone(), slots.clone());
            async move {
                loop {
                    let slot = slots.acquire().await.expect("the slots stay open");
                    let answer = transport.clone().oneshot(request.clone()).await?;
                    drop(slot);
                    if answer.status() != 429 {
                        return Ok(answer);
                    }
                    drop(answer);
                    sleep(BACKOFF).await;
                }
            }
        }))
    }

    /// What was wrong with requests is mended.
    fn mend(&mut self) {
        for (fate, _) in self.fates.values_mut() {
            if !fate.is_answered() {
                *fate = Fate::Answered;
            }
        }
    }

    fn ids(&self, wanted: impl Fn(Fate) -> bool) -> BTreeSet<String> {
        let wanted = self.fates.iter().filter(|(_, (fate, _))| wanted(*fate));
        wanted.map(|(id, _)| id.clone()).collect()
    }
}

/// The files of a run, as a kill leaves them.
#[derive(Debug, Default)]
struct Disk {
    output: Vec<u8>,
    errors: Vec<u8>,
}

impl Disk {
    /// What was written last may be there in part.
    fn tear(&mut self, random: &mut Random) {
        for file in [&mut self.output, &mut self.errors] {
            let whole = file.strip_suffix(b"\n").unwrap_or(file);
            let last = whole
                .iter()
                .rposition(|&b| b == b'\n')
                .map_or(0, |at| at + 1);
            let torn = random.below((file.len() - last) as u64 + 1) as usize;
            file.truncate(file.len() - torn);
        }
    }

    /// What a resumed run learns, the ends repaired.
    async fn reopen(&mut self) -> Done {
        let mut done = Done::new();
        for file in [&mut self.output, &mut self.errors] {
            match done.read(&file[..]).await.expect("an output") {
                Tail::Whole => {}
                Tail::Unended => file.push(b'\n'),
                Tail::Torn { whole_bytes } => file.truncate(whole_bytes as usize),
            }
        }
        done
    }
}

/// One run; `None` where it was killed.
async fn run(world: &World, disk: &mut Disk, random: &mut Random, lines: &str) -> Option<Summary> {
    let done = disk.reopen().await;
    let known: BTreeSet<String> = by_id(&disk.output)
        .into_keys()
        .chain(by_id(&disk.errors).into_keys())
        .collect();
    assert_eq!(done.len(), known.len());
    world.sent.lock().expect("no panic").clear();
    let batch = Batch::new(world.stack(1 + random.below(4) as usize))
        .look_ahead(1 + random.below(5) as usize)
        .ordered(random.chance(50))
        .withdraw_unsent(random.chance(50))
        .resume(done);
    let stop = batch.stop_handle();
    let (kill, halt) = (random.chance(60), random.chance(30));
    let life = Duration::from_millis(if kill { random.below(2_000) } else { 1 << 40 });
    let patience = Duration::from_millis(random.below(5_000));
    let halting = tokio::spawn(async move {
        sleep(patience).await;
        if halt {
            stop.stop();
        }
    });
    let running = batch.run_boxed(lines.as_bytes(), &mut disk.output, &mut disk.errors);
    let ended = timeout(life, running).await;
    halting.abort();
    for (id, &sent) in world.sent.lock().expect("no panic").iter() {
        let fate = world.fates[id].0;
        let most = if known.contains(id) {
            0
        } else {
            fate.attempts()
        };
        assert!(sent <= most, "{id}, {fate:?}: sent {sent} times");
    }
    match ended {
        Ok(summary) => Some(summary.expect("memory can be read and written")),
        Err(_) => {
            disk.tear(random);
            None
        }
    }
}

/// Runs until a run comes to its end; how often one was killed.
async fn run_to_the_end(
    world: &World,
    disk: &mut Disk,
    random: &mut Random,
    lines: &str,
) -> (Summary, usize) {
    let mut kills = 0;
    loop {
        match run(world, disk, random, lines).await {
            Some(summary) if !summary.interrupted => return (summary, kills),
            Some(_) => {}
            None => kills += 1,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_killed_and_resumed_each_request_ends_once() {
    let mut kills = 0;
    for seed in 0..1_000 {
        let mut random = Random(fastrand::Rng::with_seed(seed));
        let mut world = World::new(&mut random);
        let lines = input(world.fates.keys());
        let mut disk = Disk::default();
        let ended = run_to_the_end(&world, &mut disk, &mut random, &lines).await;
        kills += ended.1;
        let count = world.fates.len() as u64;
        assert_eq!(ended.0.total, count, "seed {seed}");
        check(&world, &disk, seed);

        // As `--retry-errors` does, once the cause is mended.
        disk.errors.clear();
        world.mend();
        let ended = run_to_the_end(&world, &mut disk, &mut random, &lines).await;
        kills += ended.1;
        assert_eq!((ended.0.total, ended.0.failed), (count, 0), "seed {seed}");
        check(&world, &disk, seed);
    }
    assert!(kills > 1_000, "{kills}");
}

fn check(world: &World, disk: &Disk, seed: u64) {
    let (answered, failed) = (by_id(&disk.output), by_id(&disk.errors));
    let ids = |map: &BTreeMap<String, _>| map.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(ids(&answered), world.ids(Fate::is_answered), "seed {seed}");
    assert_eq!(
        ids(&failed),
        world.ids(|fate| !fate.is_answered()),
        "seed {seed}"
    );
    for (id, record) in answered {
        assert_eq!(record["response"]["body"]["echo"], *id, "seed {seed}");
    }
}
