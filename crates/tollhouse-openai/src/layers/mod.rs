//! Middleware around the client, each for itself.

/// The accessors that every service around another one has, of its field `inner`.
macro_rules! inner_accessors {
    () => {
        /// The wrapped service.
        pub fn get_ref(&self) -> &S {
            &self.inner
        }

        /// The wrapped service.
        pub fn get_mut(&mut self) -> &mut S {
            &mut self.inner
        }

        /// The wrapped service, unwrapped.
        pub fn into_inner(self) -> S {
            self.inner
        }
    };
}

pub mod include_usage;
#[cfg(feature = "spans")]
pub mod spans;
pub mod verdict;
