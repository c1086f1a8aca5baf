//! The runner and its files, in virtual time.

mod answer_bytes;
mod answers;
mod broken;
mod common;
mod deadline;
mod examples;
mod forms;
mod hopeless;
mod model;
mod outage;
mod pace;
mod plan;
mod resume;
mod run;
mod stop;
