//! The runner and its files, in virtual time.

mod answers;
mod broken;
mod common;
mod examples;
mod forms;
mod hopeless;
mod model;
mod pace;
mod plan;
mod resume;
mod run;
mod stop;
