//! Cases 17 to 25 of the failures: what a server can do to a process.
