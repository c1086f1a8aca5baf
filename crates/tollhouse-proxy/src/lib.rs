//! The same account for every language: a reverse proxy that keeps every call to an
//! OpenAI-style API inside the account's limits.
//!
//! A client needs nothing but another base URL. It waits where it would have got a 429.
//!
//! ```text
//! socket -> check -> keys -> body -> gates (wait) -> provider
//!                                                       |
//! client <------------- answer, as it comes <-----------+
//! ```
//!
//! # Parts
//!
//! * [`Proxy`]: what it is made of; a [`router`](Proxy::router), or a server of its own
//!   ([`serve`](Proxy::serve)).
//! * [`Served`]: that server, until it is [drained](Served::drain).
//! * [`Bounds`]: what clients may make it hold.
//! * [`names`]: of callers and hosts, which of them are taken.
//! * [`page`]: what it shows to a browser, of use to others, too.
//!
//! # Examples
//!
//! ```
//! use http_body_util::BodyExt;
//! use tokio::net::TcpListener;
//! use tollhouse_openai::{Account, OpenAi};
//! use tollhouse_proxy::Proxy;
//! use tollhouse_sim::Sim;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A simulated provider; for OpenAI itself, `OpenAi::from_env()?` is enough.
//! let provider = Sim::builder().build()?.spawn("127.0.0.1:0").await?;
//! let openai = OpenAi::builder().base_url(provider.url()).build()?;
//!
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let served = Proxy::new(Account::from_env()?, openai).serve(listener)?;
//! println!("export OPENAI_BASE_URL={}", served.url());
//! # served.drain(std::time::Duration::from_secs(1)).await;
//! # Ok(())
//! # }
//! ```

mod bounds;
mod call;
mod check;
mod counts;
mod error;
mod headers;
mod keys;
pub mod names;
pub mod page;
mod proxy;
mod serve;
mod shared;
mod upstream;

pub use bounds::Bounds;
pub use proxy::{Proxy, ProxyError};
pub use serve::{Drained, Served};
