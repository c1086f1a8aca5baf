//! Which accounts a thread is changing.
//!
//! A change is made again where another one came in between, and one that makes another
//! change of the same account would always find that one has.

use std::cell::RefCell;

thread_local! {
    /// Where their pools are, the one begun last being the last.
    static UPDATING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The mark of a change that this thread is making, as long as it lives.
pub(super) struct Updating(());

impl Updating {
    /// `None` where this thread is changing the same account already.
    pub(super) fn begin<T>(pools: &T) -> Option<Self> {
        let whose = std::ptr::from_ref(pools).addr();
        UPDATING.with_borrow_mut(|updating| {
            let is_new = !updating.contains(&whose);
            is_new.then(|| {
                updating.push(whose);
                Updating(())
            })
        })
    }
}

impl Drop for Updating {
    fn drop(&mut self) {
        UPDATING.with_borrow_mut(|updating| updating.pop());
    }
}
