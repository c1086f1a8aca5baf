//! The custom ids that were met, remembered in flat memory.

use http::Uri;

/// Stands for the line of an id that an earlier run has answered.
const EARLIER_RUN: u32 = 0;

/// Among so many the ids are divided, by the last 12 bits of their hash.
const SHARDS: usize = 4_096;

/// Stands for the request of an id that has no answer, or has not failed.
const NONE: u32 = 0;

/// Stands for the request of an id that an earlier run has answered without
/// telling what it asked.
const UNKNOWN: u32 = 1;

/// Every `custom_id` that was met: a hash of it and the line where it stood, or
/// what was asked by it in an earlier run.
///
/// A million ids take about 20 MB however long they are. They lie sorted in
/// many small vectors, because those grow evenly: one hash table of this size
/// doubles at once, and for a moment holds its old half as well.
#[derive(Clone, Debug)]
pub(crate) struct Ids {
    shards: Box<[Vec<Entry>]>,
    len: usize,
}

/// 20 bytes. Among a million ids the chance that any two agree in these 64 bits
/// and in the 12 of their shard is about 10^-11.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: [u32; 2],
    /// Of the request that was answered, or [`UNKNOWN`] or [`NONE`].
    answered: u32,
    /// Of the request that failed: a line may have been edited in between.
    failed: u32,
    line: u32,
}

/// What is known of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It was never met.
    New,
    /// An earlier run has answered it, or it failed there.
    Answered { failed: bool },
    /// An earlier run has answered another request of this id, or that failed.
    Changed { failed: bool },
    /// An earlier line has it.
    Before {
        /// The number of that line.
        line: u64,
    },
}

impl Default for Ids {
    fn default() -> Self {
        Self {
            shards: vec![Vec::new(); SHARDS].into(),
            len: 0,
        }
    }
}

impl Ids {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Remembers that an earlier run has answered `custom_id`, and the hash of
    /// what was asked, where that is known. The last answer counts.
    pub(crate) fn insert_answered(&mut self, custom_id: &str, request: Option<u64>) {
        let entry = self.entry(custom_id).0;
        entry.line = EARLIER_RUN;
        entry.answered = request.map_or(UNKNOWN, shortened);
    }

    /// Remembers the same of a failure. It takes nothing away from an answer, nor an answer
    /// from it: in two files nobody sees which came last.
    pub(crate) fn insert_failed(&mut self, custom_id: &str, request: Option<u64>) {
        let entry = self.entry(custom_id).0;
        entry.line = EARLIER_RUN;
        entry.failed = request.map_or(UNKNOWN, shortened);
    }

    /// Whether that is remembered: of `custom_id` that it was answered, or that it failed, when
    /// this was asked.
    pub(crate) fn has(&self, custom_id: &str, request: Option<u64>, failed: bool) -> bool {
        let (shard, hash) = place(custom_id);
        let shard = &self.shards[shard];
        let found = shard.binary_search_by(|entry| entry.hash.cmp(&hash));
        found.is_ok_and(|at| {
            let known = match failed {
                true => shard[at].failed,
                false => shard[at].answered,
            };
            known == request.map_or(UNKNOWN, shortened)
        })
    }

    /// Remembers that `custom_id` stands in `line` with a request of this hash, and
    /// says what was known of it before.
    pub(crate) fn meet(&mut self, custom_id: &str, line: u64, request: u64) -> Seen {
        // More lines than this do not fit in memory.
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        let (entry, known) = self.entry(custom_id);
        match entry.line {
            first if known && first != EARLIER_RUN => Seen::Before {
                line: u64::from(first),
            },
            _ => {
                entry.line = line;
                let is_it = |done| done == UNKNOWN || done == shortened(request);
                let failed = !is_it(entry.answered) && is_it(entry.failed);
                match is_it(entry.answered) || failed {
                    _ if !known => Seen::New,
                    true => Seen::Answered { failed },
                    false => Seen::Changed {
                        failed: entry.answered == NONE,
                    },
                }
            }
        }
    }

    /// The entry of an id, and whether it was there before.
    fn entry(&mut self, custom_id: &str) -> (&mut Entry, bool) {
        let (shard, hash) = place(custom_id);
        let shard = &mut self.shards[shard];
        let found = shard.binary_search_by(|entry| entry.hash.cmp(&hash));
        let at = found.unwrap_or_else(|at| {
            if shard.len() == shard.capacity() {
                // By an eighth: doubling would leave half of it empty.
                shard.reserve_exact(shard.len() / 8 + 4);
            }
            let new = Entry {
                hash,
                answered: NONE,
                failed: NONE,
                line: EARLIER_RUN,
            };
            shard.insert(at, new);
            self.len += 1;
            at
        });
        (&mut shard[at], found.is_ok())
    }
}

/// The shard of an id, and what tells it from others there.
fn place(custom_id: &str) -> (usize, [u32; 2]) {
    let hash = hash(custom_id);
    // The low bits are those that every byte of an id has a part in.
    let shard = hash as usize % SHARDS;
    (shard, [hash >> 96, hash >> 64].map(|part| part as u32))
}

/// FNV-1a with 128 bits: the same on every machine and in every version, so
/// that an output's ids never change. Among a million ids the chance that any
/// two agree is about 10^-27.
///
/// Source: draft-eastlake-fnv.
pub(crate) fn hash(custom_id: &str) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    extended(OFFSET, custom_id.as_bytes())
}

/// What tells a request from another of the same id: a hash of where it goes and
/// of its body, byte for byte. The same in every version, since output files
/// hold it.
pub(crate) fn request_hash(uri: &Uri, body: &[u8]) -> u64 {
    let place = hash(&uri.to_string());
    // No uri holds a line feed.
    let whole = extended(extended(place, b"\n"), body);
    (whole >> 64) as u64 ^ whole as u64
}

/// Neither [`NONE`] nor [`UNKNOWN`].
fn shortened(request: u64) -> u32 {
    ((request >> 32) as u32 ^ request as u32).max(UNKNOWN + 1)
}

fn extended(hash: u128, bytes: &[u8]) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(hash, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERED: Seen = Seen::Answered { failed: false };
    const FAILED: Seen = Seen::Answered { failed: true };

    #[test]
    fn id_is_new_once() {
        let mut ids = Ids::default();
        ids.insert_answered("old", None);
        assert_eq!(ids.meet("old", 1, 7), ANSWERED);
        assert_eq!(ids.meet("new", 2, 7), Seen::New);
        assert_eq!(ids.meet("new", 3, 7), Seen::Before { line: 2 });
        assert_eq!(ids.meet("old", 4, 7), Seen::Before { line: 1 });
        assert_eq!(ids.len(), 2);
    }

    #[test]
    fn changed_request_is_told_from_the_one_that_was_answered() {
        let mut ids = Ids::default();
        for (id, request) in [("same", 7), ("changed", 7), ("twice", 7), ("twice", 8)] {
            ids.insert_answered(id, Some(request));
        }
        assert_eq!(ids.meet("same", 1, 7), ANSWERED);
        assert_eq!(ids.meet("changed", 2, 8), Seen::Changed { failed: false });
        assert_eq!(ids.meet("twice", 3, 8), ANSWERED);

        let [one, other] = ["/v1/a", "/v1/b"].map(Uri::from_static);
        let hash = request_hash(&one, b"{}");
        assert_eq!(hash, request_hash(&one, b"{}"));
        assert_ne!(hash, request_hash(&other, b"{}"));
        assert_ne!(hash, request_hash(&one, b"{ }"));
    }

    #[test]
    fn answer_and_failure_of_one_id_are_both_remembered() {
        let mut ids = Ids::default();
        ids.insert_answered("both", Some(7));
        ids.insert_failed("both", Some(8));
        ids.insert_failed("failed", Some(7));
        assert!(ids.has("both", Some(7), false) && ids.has("both", Some(8), true));
        assert!(!ids.has("both", Some(8), false) && !ids.has("failed", Some(7), false));
        assert_eq!(ids.clone().meet("both", 1, 7), ANSWERED);
        assert_eq!(ids.clone().meet("both", 1, 8), FAILED);
        assert_eq!(ids.meet("both", 1, 9), Seen::Changed { failed: false });
        assert_eq!(ids.clone().meet("failed", 2, 7), FAILED);
        assert_eq!(ids.meet("failed", 2, 8), Seen::Changed { failed: true });
    }

    #[test]
    fn hash_is_fnv_1a() {
        // The published test vectors.
        assert_eq!(hash(""), 0x6c62272e07bb014262b821756295c58d);
        assert_eq!(hash("a"), 0xd228cb696f1a8caf78912b704e4a8964);
        assert_eq!(hash("foobar"), 0x343e1662793c64bf6f0d3597ba446f18);
    }

    #[test]
    fn alike_ids_stay_apart() {
        let mut ids = Ids::default();
        for n in 0..100_000_u64 {
            assert_eq!(ids.meet(&format!("request-{n}"), n + 1, n), Seen::New);
        }
    }
}
