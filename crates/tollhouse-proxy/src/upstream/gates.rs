//! The account's gates around the client: the only place that knows of what an account
//! is made.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::uri::Scheme;
use tollhouse_openai::account::{AccountSnapshot, Place};
use tollhouse_openai::client::StreamingOpenAi;
use tollhouse_openai::policy::{Limited, LimitedBody};
use tollhouse_openai::shared::Sharing;
use tollhouse_openai::spans::{SpanLayer, Spanned, SpannedBody};
use tollhouse_openai::{Account, AccountConfig, OpenAi, RequestBody};
use tower::{Layer, Service};

use super::launches::Noting;
use super::proof::Proof;
use super::session::AnswerBody;

/// The body of an answer that came through the gates.
pub(crate) type Body = SpannedBody<LimitedBody<AnswerBody>>;

/// One account.
///
/// # Cloning
///
/// Clones are the same account.
#[derive(Clone)]
pub(crate) struct Gates {
    account: Account,
    /// Shared, and cloned for a call that is sent: it is large, and thousands may wait.
    client: Arc<Client>,
    proof: Proof,
    base_path: Arc<str>,
    has_tasks: bool,
}

type Client = Spanned<Limited<Noting<StreamingOpenAi>>>;

/// Somebody who uses an account.
pub(crate) struct InUse(#[expect(dead_code, reason = "it is counted")] Arc<Client>);

/// A call on its way through the gates and to the provider's answer.
pub(crate) type Calling = <Client as Service<Request<RequestBody>>>::Future;

/// What it comes to.
pub(crate) type Ended = <Calling as Future>::Output;

/// How long a call would wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// How many go before it.
    pub(crate) waiting: usize,
    pub(crate) expected_wait: Duration,
}

impl Outlook {
    /// Of who comes to this place now.
    pub(crate) fn of(place: &Place) -> Self {
        Outlook {
            waiting: place.ahead(),
            expected_wait: place.expected_wait(),
        }
    }
}

impl Gates {
    pub(crate) fn new(account: Account, openai: OpenAi) -> Self {
        let base_path = openai.base_url().path().trim_end_matches('/').into();
        let has_tasks = openai.base_url().scheme() != Some(&Scheme::HTTP);
        let proof = Proof::default();
        let noting = Noting::new(openai.streaming(), proof.clone());
        Gates {
            // Around the gates: a call's span has its waiting in it.
            client: Arc::new(SpanLayer::new("openai").layer(account.layer().layer(noting))),
            account,
            proof,
            base_path,
            has_tasks,
        }
    }

    /// The same limits with a state of their own, and a name by this number, by which metrics
    /// tell it.
    pub(crate) fn apart(&self, number: usize, openai: OpenAi) -> Self {
        let mut config = AccountConfig::clone(&self.account.config());
        let of = config.defaults.name.map_or(String::new(), |of| of + "-");
        config.defaults.name = Some(format!("{of}key-{number}"));
        let account = Account::from_config(config).expect("it was checked");
        Gates::new(account, openai)
    }

    /// The path before every other at the provider, without a slash at its end.
    pub(crate) fn base_path(&self) -> &str {
        &self.base_path
    }

    /// Whether the connections to the provider have tasks of their own, as the client's with
    /// TLS have.
    pub(crate) fn has_tasks(&self) -> bool {
        self.has_tasks
    }

    /// Has the account say this, which another one of the same rules says.
    pub(crate) fn go_by(&self, config: &AccountConfig) {
        let changes = self.account.update(|own| own.clone_from(config));
        changes.expect("it was checked");
    }

    /// What the account says now.
    pub(crate) fn config(&self) -> Arc<AccountConfig> {
        self.account.config()
    }

    /// The weight that the account gives a name.
    pub(crate) fn weight_of(&self, caller: &str) -> Option<u32> {
        self.account.weight_of(caller)
    }

    /// Has the account in use for as long as it is kept: a call between two attempts neither
    /// waits nor is in flight.
    pub(crate) fn in_use(&self) -> InUse {
        InUse(Arc::clone(&self.client))
    }

    /// Waits, and sends.
    pub(crate) fn call(&self, request: Request<RequestBody>) -> Calling {
        Client::clone(&self.client).call(request)
    }

    /// Where a call belongs, and what it will be charged.
    pub(crate) fn place(&self, request: &Request<RequestBody>) -> Place {
        self.account.place(request)
    }

    /// Nobody is about to call, nobody waits and nothing is in flight; asked of the only clone
    /// that is kept.
    pub(crate) fn is_idle(&self) -> bool {
        if Arc::strong_count(&self.client) > 1 {
            return false;
        }
        let now = self.account.snapshot();
        now.waiting == 0 && now.in_flight == 0
    }

    /// Whether the provider knows whose calls these are.
    pub(crate) fn are_proven(&self) -> bool {
        self.proof.is_given()
    }

    #[cfg(test)]
    pub(crate) fn prove(&self) {
        self.proof.hear(http::StatusCode::OK);
    }

    /// Turns away whoever waits, and whoever comes.
    pub(crate) fn close(&self) {
        self.account.close();
    }

    pub(crate) fn sharing(&self) -> Option<Sharing> {
        self.account.sharing()
    }

    pub(crate) fn snapshot(&self) -> AccountSnapshot {
        self.account.snapshot()
    }
}

impl fmt::Debug for Gates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gates")
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}
