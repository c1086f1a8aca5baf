//! What a run leaves behind: a record for each request, in whole lines, in two
//! files that a later run learns from.

pub(crate) mod completed;
pub(crate) mod journal;
pub(crate) mod order;
pub(crate) mod outcome;
pub(crate) mod record;
