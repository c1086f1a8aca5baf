//! A thousand random batches, killed and resumed at random, against a model
//! that knows only what each request's answer is.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use bytes::Bytes;
use common::{Log, answer, by_id, id_of, input, respond};
use http::{Request, Response};
use tokio::time::{sleep, timeout};
use tollgate_batch::{Batch, Done, SentLayer, Summary, Tail};
use tower::{Layer, service_fn};

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What becomes of one request, however often it is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Answered,
    Refused,
    Broken,
}

#[derive(Clone, Debug)]
struct World {
    fates: BTreeMap<String, (Fate, Duration)>,
    sent: Log<String>,
}

impl World {
    fn new(random: &mut Random) -> Self {
        let fate = |n: u64, random: &mut Random| {
            let fate = match random.below(10) {
                0 => Fate::Refused,
                1 => Fate::Broken,
                _ => Fate::Answered,
            };
            // Some at once, most later, many at the same instant.
            let takes = Duration::from_millis(random.below(4) * 500);
            (format!("id-{n}"), (fate, takes))
        };
        let count = random.below(15);
        World {
            fates: (0..count).map(|n| fate(n, random)).collect(),
            sent: Log::new(),
        }
    }

    async fn call(self, request: Request<Bytes>) -> io::Result<Response<common::Body>> {
        let id = id_of(&request);
        self.sent.push(id.clone());
        let (fate, takes) = self.fates[&id];
        sleep(takes).await;
        match fate {
            Fate::Answered => Ok(answer(&id)),
            Fate::Refused => Ok(respond(400, "{}")),
            Fate::Broken => Err(io::Error::other("reset")),
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
    world.sent.take();
    let service = service_fn({
        let world = world.clone();
        move |request| world.clone().call(request)
    });
    let batch = Batch::new(SentLayer.layer(service))
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
    let running = batch.run(lines.as_bytes(), &mut disk.output, &mut disk.errors);
    let ended = timeout(life, running).await;
    halting.abort();
    let again: Vec<_> = world.sent.take();
    assert!(
        again.iter().all(|id| !known.contains(id)),
        "{again:?} of {known:?}"
    );
    match ended {
        Ok(summary) => Some(summary.expect("memory can be read and written")),
        Err(_) => {
            disk.tear(random);
            None
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_killed_and_resumed_each_request_ends_once() {
    let mut kills = 0;
    for seed in 0..1_000 {
        let mut random = Random(seed);
        let world = World::new(&mut random);
        let lines = input(world.fates.keys());
        let mut disk = Disk::default();
        let summary = loop {
            match run(&world, &mut disk, &mut random, &lines).await {
                Some(summary) if !summary.interrupted => break summary,
                Some(_) => {}
                None => kills += 1,
            }
        };
        assert_eq!(summary.total, world.fates.len() as u64, "seed {seed}");
        let answered = by_id(&disk.output);
        let failed = by_id(&disk.errors);
        let ids = |map: &BTreeMap<String, _>| map.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(
            ids(&answered),
            world.ids(|f| f == Fate::Answered),
            "seed {seed}"
        );
        assert_eq!(
            ids(&failed),
            world.ids(|f| f != Fate::Answered),
            "seed {seed}"
        );
        for (id, record) in answered {
            assert_eq!(record["response"]["body"]["echo"], *id, "seed {seed}");
        }
    }
    assert!(kills > 500, "{kills}");
}
