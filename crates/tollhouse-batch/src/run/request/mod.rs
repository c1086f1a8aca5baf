//! One request on its way: it goes as a [`task`] through one [`call`] of the
//! [`client`]; its [`tracker`] knows whether it is under way, as [`sent`] tells, and
//! a [`recall`] ends it early. There is [`room`] for so many bytes of answers.

mod call;
pub(crate) mod client;
pub(crate) mod recall;
pub(crate) mod room;
pub(crate) mod sent;
pub(crate) mod task;
pub(crate) mod tracker;
