//! A line of entries in the order they joined, from whose middle any can step
//! out.
//!
//! Entries live in one slab and are linked by index, so joining, leaving and
//! taking the first all cost the same however long the line is, and a long
//! line is one allocation. An entry may also be in the slab without standing
//! in line: one that was served stays until its owner has fetched it. Several
//! lines may share a slab: each but the first has its [`Ends`] somewhere else.

use std::fmt;
use std::num::NonZeroU32;

/// Names an entry until it is removed.
///
/// Its place in the slab is kept with all bits turned, so that it is never 0 and a key
/// that may be missing is no larger than one that is there.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Key(NonZeroU32);

impl Key {
    /// `None` of [`NONE`].
    #[inline]
    fn at(place: u32) -> Option<Key> {
        NonZeroU32::new(!place).map(Key)
    }

    #[inline]
    const fn place(self) -> u32 {
        !self.0.get()
    }

    /// Its place in the slab, for whoever keeps something beside it.
    #[inline]
    pub(crate) fn index(self) -> usize {
        self.place() as usize
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.place()).finish()
    }
}

/// "No entry", so that a link takes four bytes.
const NONE: u32 = u32::MAX;

/// The links of an entry that does not stand in line: it follows itself, as nobody can
/// who stands.
const fn aside(key: Key) -> Links {
    Links {
        before: NONE,
        after: key.place(),
    }
}

#[derive(Clone, Copy)]
struct Links {
    before: u32,
    after: u32,
}

/// The links come first and the entry as a whole after them, so that it can be written
/// where it stays.
#[cfg_attr(test, derive(Clone))]
struct Slot<T> {
    /// Of one that is free, the next free one is what comes after it, or [`NONE`].
    links: Links,
    entry: Option<T>,
}

/// Where a line begins and ends, and how many stand in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    first: u32,
    last: u32,
    standing: usize,
}

impl Ends {
    pub(crate) const EMPTY: Ends = Ends {
        first: NONE,
        last: NONE,
        standing: 0,
    };

    /// The first in line.
    #[inline]
    pub(crate) fn first(&self) -> Option<Key> {
        Key::at(self.first)
    }

    /// The last in line.
    #[inline]
    pub(crate) fn last(&self) -> Option<Key> {
        Key::at(self.last)
    }
}

/// See the [module's documentation](self).
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Line<T> {
    slots: Vec<Slot<T>>,
    free: u32,
    ends: Ends,
}

impl<T> Line<T> {
    pub(crate) const fn new() -> Self {
        Line {
            slots: Vec::new(),
            free: NONE,
            ends: Ends::EMPTY,
        }
    }

    /// How many stand in line.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.ends.standing
    }

    /// Whether nobody stands in line.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.standing == 0
    }

    /// The first in line.
    #[inline]
    pub(crate) fn first(&self) -> Option<Key> {
        self.ends.first()
    }

    /// Keeps an entry that does not stand in line.
    ///
    /// # Panics
    ///
    /// With four billion entries, which no memory holds.
    #[inline]
    pub(crate) fn insert(&mut self, entry: T) -> Key {
        self.insert_with(|| entry)
    }

    /// The same, made where it stays.
    #[inline]
    pub(crate) fn insert_with(&mut self, entry: impl FnOnce() -> T) -> Key {
        let Some(key) = Key::at(self.free) else {
            return self.push(entry());
        };
        let slot = &mut self.slots[key.index()];
        self.free = slot.links.after;
        slot.links = aside(key);
        slot.entry = Some(entry());
        key
    }

    /// There is no free slot.
    fn push(&mut self, entry: T) -> Key {
        let place = u32::try_from(self.slots.len()).ok();
        let key = place.and_then(Key::at).expect("under four billion entries");
        if self.slots.len() == self.slots.capacity() {
            // By a quarter, so that no more than that is there for nobody.
            self.slots.reserve_exact(self.slots.len() / 4 + 4);
        }
        self.slots.push(Slot {
            links: aside(key),
            entry: Some(entry),
        });
        key
    }

    /// Lets an entry that stands aside join the end of the line.
    #[inline]
    pub(crate) fn stand(&mut self, key: Key) {
        let mut ends = self.ends;
        self.append(&mut ends, key);
        self.ends = ends;
    }

    /// Takes an entry out of the line, if it stands there, and keeps it aside.
    #[inline]
    pub(crate) fn step_aside(&mut self, key: Key) {
        let mut ends = self.ends;
        self.unlink(&mut ends, key);
        self.ends = ends;
    }

    /// Lets an entry that stands aside join the end of a line of its slab.
    #[inline]
    pub(crate) fn append(&mut self, ends: &mut Ends, key: Key) {
        let last = ends.last();
        let links = self.links(key);
        debug_assert_eq!(links.after, key.place(), "it stands aside");
        *links = Links {
            before: ends.last,
            after: NONE,
        };
        match last {
            None => ends.first = key.place(),
            Some(last) => self.links(last).after = key.place(),
        }
        ends.last = key.place();
        ends.standing += 1;
    }

    /// Takes an entry out of the line in which it stands, and keeps it aside; says
    /// whether it stood.
    #[inline]
    pub(crate) fn unlink(&mut self, ends: &mut Ends, key: Key) -> bool {
        let links = self.links(key);
        let Links { before, after } = std::mem::replace(links, aside(key));
        if after == key.place() {
            return false;
        }
        match Key::at(before) {
            None => ends.first = after,
            Some(before) => self.links(before).after = after,
        }
        match Key::at(after) {
            None => ends.last = before,
            Some(after) => self.links(after).before = before,
        }
        ends.standing -= 1;
        true
    }

    /// Takes an entry out of the line and the slab.
    #[inline]
    pub(crate) fn remove(&mut self, key: Key) -> T {
        self.step_aside(key);
        let entry = self.slots[key.index()].entry.take().expect(NAMED);
        self.free(key);
        entry
    }

    /// The same where nobody needs the entry.
    #[inline]
    pub(crate) fn forget(&mut self, key: Key) {
        self.step_aside(key);
        self.slots[key.index()].entry = None;
        self.free(key);
    }

    #[inline]
    fn free(&mut self, key: Key) {
        self.links(key).after = self.free;
        self.free = key.place();
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> &T {
        self.slots[key.index()].entry.as_ref().expect(NAMED)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> &mut T {
        self.slots[key.index()].entry.as_mut().expect(NAMED)
    }

    /// Who stands after this one, which stands in some line of the slab.
    pub(crate) fn next(&mut self, key: Key) -> Option<Key> {
        let after = self.links(key).after;
        Key::at(after)
    }

    /// Everything in the slab, standing or not.
    pub(crate) fn entries_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        let keys = (0..).map_while(Key::at);
        keys.zip(&mut self.slots)
            .filter_map(|(key, slot)| Some((key, slot.entry.as_mut()?)))
    }

    /// Whether it stands in a line of its slab.
    #[inline]
    pub(crate) fn is_standing(&self, key: Key) -> bool {
        self.slots[key.index()].links.after != key.place()
    }

    #[inline]
    fn links(&mut self, key: Key) -> &mut Links {
        &mut self.slots[key.index()].links
    }
}

/// What somebody keeps beside the entries of a line, by their keys.
///
/// There is always one: of an entry that nobody kept anything of, what was kept of another
/// one in its place, or else the default.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(crate) struct Beside<T>(Vec<T>);

impl<T: Default> Beside<T> {
    pub(crate) const fn new() -> Self {
        Beside(Vec::new())
    }

    #[inline]
    pub(crate) fn of(&mut self, key: Key) -> &mut T {
        let index = key.index();
        if index >= self.0.len() {
            self.0.resize_with(index + 1, T::default);
        }
        &mut self.0[index]
    }
}

const NAMED: &str = "a key names its entry until it is removed";

impl<T> fmt::Debug for Line<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("standing", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Any mix of joining, stepping aside, coming back and leaving keeps
        /// the order that a plain list would.
        #[test]
        fn line_is_a_list_with_names(steps in prop::collection::vec((0u8..5, any::<usize>()), 0..400)) {
            let mut line = Line::new();
            let mut standing: Vec<(Key, u32)> = Vec::new();
            let mut aside: Vec<(Key, u32)> = Vec::new();
            for (n, (step, which)) in (0u32..).zip(steps) {
                match step {
                    0 => {
                        let key = line.insert(n);
                        line.stand(key);
                        standing.push((key, n));
                    },
                    1 => aside.push((line.insert(n), n)),
                    2 if !standing.is_empty() => {
                        let (key, n) = standing.remove(which % standing.len());
                        line.step_aside(key);
                        line.step_aside(key);
                        aside.push((key, n));
                    }
                    3 if !aside.is_empty() => {
                        let (key, n) = aside.remove(which % aside.len());
                        line.stand(key);
                        standing.push((key, n));
                    }
                    4 if !standing.is_empty() => {
                        let (key, n) = standing.remove(which % standing.len());
                        prop_assert_eq!(line.remove(key), n);
                    }
                    _ => {}
                }
                prop_assert_eq!(line.len(), standing.len());
                prop_assert_eq!(line.is_empty(), standing.is_empty());
                prop_assert_eq!(line.first(), standing.first().map(|s| s.0));
                for (key, n) in standing.iter().chain(&aside) {
                    prop_assert_eq!(*line.get_mut(*key), *n);
                }
            }
            while let Some(key) = line.first() {
                prop_assert_eq!(line.remove(key), standing.remove(0).1);
            }
            prop_assert!(standing.is_empty());
        }
    }

    #[test]
    fn what_is_free_is_used_again() {
        let mut line = Line::new();
        let [first, second, third] = [1, 2, 3].map(|n| line.insert(n));
        assert_eq!(line.remove(second), 2);
        line.forget(first);
        assert_eq!([line.insert(4), line.insert(5)], [first, second]);
        assert_eq!([first, second, third].map(|key| *line.get(key)), [4, 5, 3]);
        assert_eq!(line.insert(6).index(), 3);
    }
}
