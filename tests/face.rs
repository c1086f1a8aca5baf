//! The public names that other people's code compiles against.
