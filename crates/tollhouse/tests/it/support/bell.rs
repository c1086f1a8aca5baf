//! Tells who was woken, so that one loop can drive many futures in order.

use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

/// Who was woken, in order.
#[derive(Default)]
pub(crate) struct Bell(Mutex<(Vec<usize>, Option<Waker>)>);

impl Bell {
    /// By which this one rings.
    pub(crate) fn waker(self: &Arc<Self>, id: usize) -> Waker {
        let bell = Arc::clone(self);
        Waker::from(Arc::new(Ring { id, bell }))
    }

    /// Whom it wakes whenever somebody rings.
    pub(crate) fn answer_to(&self, waker: &Waker) {
        self.0.lock().unwrap().1 = Some(waker.clone());
    }

    /// Who rang next.
    pub(crate) fn next(&self) -> Option<usize> {
        let rung = &mut self.0.lock().unwrap().0;
        (!rung.is_empty()).then(|| rung.remove(0))
    }
}

struct Ring {
    id: usize,
    bell: Arc<Bell>,
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        let mut bell = self.bell.0.lock().unwrap();
        bell.0.push(self.id);
        if let Some(waker) = &bell.1 {
            waker.wake_by_ref();
        }
    }
}
