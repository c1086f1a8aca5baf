//! Whose turn it is, against an oracle with exact fractions: in a line that never ends,
//! and in random schedules in which everything may change at any moment.

mod backlog;
mod changing;
mod fraction;
mod oracle;
mod play;
