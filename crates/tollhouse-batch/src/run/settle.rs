//! What becomes of a request that came back: it is over, or it is sent again.

use tokio::time::Instant;

use crate::event::Event;
use crate::output::record::{Record, in_words};
use crate::run::files::Run;
use crate::run::health::Recovered;
use crate::run::judge::Judgement;
use crate::run::parked::Parked;
use crate::run::request::task::{Back, Came, Resolved};

impl<S, W, X> Run<S, W, X> {
    /// `None` where it is to be sent again.
    pub(crate) fn settle(&mut self, mut back: Back, now: Instant) -> Option<Resolved> {
        let (record, judgement) = match back.take() {
            Came::Nothing => return self.called_back(back, now),
            Came::Answer(record) => {
                self.good(&back, now);
                return Some(back.finish(Some(record)));
            }
            Came::Failure(record, judgement) => (record, judgement),
        };
        match judgement {
            Judgement::Outage | Judgement::Unclear => self.doubt(back, record, &judgement, now),
            Judgement::Hopeless(reason) => {
                self.give_up(&reason);
                // Were it written, a later run would take it for done.
                Some(back.finish(None))
            }
            Judgement::Failed => {
                match record.status {
                    Some(_) => self.good(&back, now),
                    None => self.probe_again(&back, now),
                }
                Some(back.finish(Some(record)))
            }
        }
    }

    /// An answer, good or not, shows that the provider is there.
    fn good(&mut self, back: &Back, now: Instant) {
        let Some(recovered) = self.health.good(back.left(), back.probe, now) else {
            return;
        };
        let Recovered { lasted, suspect } = recovered;
        if let Some(line) = suspect {
            self.parking.blame(line, now);
        }
        tracing::info!(?lasted, "the provider answers again");
        self.tell(Event::Recovered { lasted });
    }

    /// A probe that told nothing.
    fn probe_again(&mut self, back: &Back, now: Instant) {
        if let Some(outage) = self.health.outage.as_mut().filter(|_| back.probe) {
            outage.probe_untold(now);
        }
    }

    fn called_back(&mut self, back: Back, now: Instant) -> Option<Resolved> {
        if self.stopping {
            return Some(back.finish(None));
        }
        if back.probe {
            match back.round().and_then(|round| round.status) {
                Some(status) if !status.is_server_error() => self.good(&back, now),
                Some(status) => self.probe_failed(&in_words(status), now),
                None => {
                    let silence = self.health.pulse.silence();
                    let reason = silence.map_or_else(String::new, |silence| silence.reason);
                    self.probe_failed(&reason, now);
                }
            }
        }
        self.park(back, now);
        None
    }

    /// The provider may be away, or this request to blame.
    fn doubt(
        &mut self,
        mut back: Back,
        record: Record,
        judgement: &Judgement,
        now: Instant,
    ) -> Option<Resolved> {
        if self.stopping {
            return Some(back.finish(None));
        }
        let contradicted = self.health.was_good_since(back.first_left());
        if contradicted {
            back.case.add(back.round());
        }
        let proven = back.case.is_proven(judgement, self.settings.attempts);
        if proven || self.is_stuck(&back, &record, judgement, now) {
            self.probe_again(&back, now);
            return Some(back.finish(Some(record)));
        }
        let reason = record.reason();
        if back.probe {
            self.probe_failed(&reason, now);
        } else if !contradicted {
            let suspect = (*judgement == Judgement::Unclear).then_some(back.line.number);
            if self.health.begin(&reason, suspect, back.round(), now) {
                self.hold(back.round().is_some());
            }
        }
        self.park(back, now);
        None
    }

    /// Whether what a probe drew is its own fault after all: an answer that may be,
    /// for long, and there is no other line to ask with.
    fn is_stuck(&self, back: &Back, record: &Record, judgement: &Judgement, now: Instant) -> bool {
        let open = 1 + self.in_flight.len() + self.parking.len();
        back.probe
            && *judgement == Judgement::Unclear
            && record.status.is_some()
            && self.health.is_stuck(now)
            && !self.may_read_probe(open)
    }

    fn probe_failed(&mut self, reason: &str, now: Instant) {
        if let Some(outage) = &mut self.health.outage {
            outage.probe_failed(reason, now);
            self.tell_outage();
        }
    }

    fn park(&mut self, back: Back, now: Instant) {
        self.tell(Event::PutBack(back.line.name()));
        self.parking.put(Parked::again(back, now));
    }

    /// An outage has begun. Where it is known what is under way, the rest is
    /// called back: it would fail, and be in a probe's way at the gates.
    fn hold(&mut self, marked: bool) {
        if marked {
            self.recall.unsent();
        }
        self.tell_outage();
    }

    fn tell_outage(&mut self) {
        let Some(outage) = &self.health.outage else {
            return;
        };
        let (since, reason) = (outage.since, outage.reason.clone());
        tracing::info!(%reason, "waiting for the provider");
        self.tell(Event::Outage { since, reason });
    }

    /// An attempt drew no answer.
    pub(crate) fn look_at_silence(&mut self) {
        if self.health.begin_if_silent(Instant::now()) {
            self.hold(true);
        }
    }

    /// When to look at the clock again, if there is a reason.
    pub(crate) fn alarm(&self) -> Option<Instant> {
        if !self.waits_out() {
            return None;
        }
        let parked = match &self.health.outage {
            None => self.parking.first_due(),
            Some(outage) => outage.next_probe().filter(|_| !self.parking.is_empty()),
        };
        let deadline = self.health.deadline().map(|(at, _)| at);
        [parked, deadline].into_iter().flatten().min()
    }

    /// Gives up what has been waited for long enough.
    pub(crate) fn look_at_clock(&mut self) {
        match self.health.deadline() {
            Some((at, reason)) if at <= Instant::now() => {
                self.give_up(&reason);
                // Whatever is still under way is not going to be answered.
                self.recall.all();
            }
            _ => {}
        }
    }
}
