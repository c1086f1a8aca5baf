//! The custom ids that were met, remembered in flat memory.

/// Stands for the line of an id that an earlier run has answered.
const EARLIER_RUN: u32 = 0;

/// Among so many the ids are divided, by the last 12 bits of their hash.
const SHARDS: usize = 4_096;

/// Every `custom_id` that was met: a hash of it and the line where it stood.
///
/// A million ids take about 20 MB however long they are. They lie sorted in
/// many small vectors, because those grow evenly: one hash table of this size
/// doubles at once, and for a moment holds its old half as well.
#[derive(Clone, Debug)]
pub(crate) struct Ids {
    shards: Box<[Vec<Entry>]>,
    len: usize,
}

/// 16 bytes. Among a million ids the chance that any two agree in 96 bits is
/// about 10^-17.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: [u32; 3],
    line: u32,
}

/// What is known of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It was never met.
    New,
    /// An earlier run has answered it.
    Answered,
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

    /// Remembers that an earlier run has answered `custom_id`.
    pub(crate) fn insert_answered(&mut self, custom_id: &str) {
        self.entry(custom_id).0.line = EARLIER_RUN;
    }

    /// Remembers that `custom_id` stands in `line`, and says what was known of
    /// it before.
    pub(crate) fn meet(&mut self, custom_id: &str, line: u64) -> Seen {
        // More lines than this do not fit in memory.
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        let (entry, known) = self.entry(custom_id);
        match entry.line {
            first if known && first != EARLIER_RUN => Seen::Before {
                line: u64::from(first),
            },
            _ => {
                entry.line = line;
                if known { Seen::Answered } else { Seen::New }
            }
        }
    }

    /// The entry of an id, and whether it was there before.
    fn entry(&mut self, custom_id: &str) -> (&mut Entry, bool) {
        let hash = hash(custom_id);
        // The low bits are those that every byte of an id has a part in.
        let shard = &mut self.shards[hash as usize % SHARDS];
        let hash = [hash >> 96, hash >> 64, hash >> 32].map(|part| part as u32);
        let found = shard.binary_search_by(|entry| entry.hash.cmp(&hash));
        let at = found.unwrap_or_else(|at| {
            if shard.len() == shard.capacity() {
                // By an eighth: doubling would leave half of it empty.
                shard.reserve_exact(shard.len() / 8 + 4);
            }
            let line = EARLIER_RUN;
            shard.insert(at, Entry { hash, line });
            self.len += 1;
            at
        });
        (&mut shard[at], found.is_ok())
    }
}

/// FNV-1a with 128 bits: the same on every machine and in every version, so
/// that an output's ids never change. Among a million ids the chance that any
/// two agree is about 10^-27.
///
/// Source: draft-eastlake-fnv.
pub(crate) fn hash(custom_id: &str) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    custom_id.bytes().fold(OFFSET, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_new_once() {
        let mut ids = Ids::default();
        ids.insert_answered("old");
        assert_eq!(ids.meet("old", 1), Seen::Answered);
        assert_eq!(ids.meet("new", 2), Seen::New);
        assert_eq!(ids.meet("new", 3), Seen::Before { line: 2 });
        assert_eq!(ids.meet("old", 4), Seen::Before { line: 1 });
        assert_eq!(ids.len(), 2);
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
            assert_eq!(ids.meet(&format!("request-{n}"), n + 1), Seen::New);
        }
    }
}
