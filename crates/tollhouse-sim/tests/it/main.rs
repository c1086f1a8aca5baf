//! The provider as its clients see it: in the process and in virtual time,
//! but for `socket`.

mod answers;
mod bounds;
mod client;
mod config;
mod errors;
mod faults;
mod rejections;
mod report;
mod settings;
mod socket;
mod structured;
mod timing;
