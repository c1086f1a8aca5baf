//! Keeps a typed `^C` off the screen while bars are drawn on it: it would move
//! them, and they would be cleared in the wrong place.

/// Control characters are not echoed until this is dropped.
#[derive(Debug)]
pub(super) struct NoEcho {
    #[cfg(unix)]
    before: Option<rustix::termios::Termios>,
}

#[cfg(unix)]
impl NoEcho {
    /// Where there is no terminal, or it belongs to another job, all stays as it
    /// is.
    pub(super) fn begin() -> Self {
        use rustix::termios::{LocalModes, tcgetattr};

        let before = tcgetattr(std::io::stdin()).ok().filter(|_| is_ours());
        if let Some(before) = &before {
            let mut quiet = before.clone();
            quiet.local_modes.remove(LocalModes::ECHOCTL);
            set(&quiet);
        }
        Self { before }
    }
}

#[cfg(unix)]
impl Drop for NoEcho {
    fn drop(&mut self) {
        if let Some(before) = self.before.as_ref().filter(|_| is_ours()) {
            set(before);
        }
    }
}

/// Whether this job is in the foreground; a job in the background that touches
/// the terminal is stopped.
#[cfg(unix)]
fn is_ours() -> bool {
    let foreground = rustix::termios::tcgetpgrp(std::io::stdin());
    foreground == Ok(rustix::process::getpgrp())
}

/// A terminal that does not let itself be set only looks less tidy.
#[cfg(unix)]
fn set(modes: &rustix::termios::Termios) {
    use rustix::termios::{OptionalActions, tcsetattr};

    let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, modes);
}

#[cfg(not(unix))]
impl NoEcho {
    pub(super) fn begin() -> Self {
        Self {}
    }
}
