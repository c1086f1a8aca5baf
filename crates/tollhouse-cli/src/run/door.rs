//! The port that COMMAND sees: bytes go to the daemon and come back, unread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::seat::Seat;
use crate::failure::{self, BoxError};
use crate::logging;

/// Before the next try where no connection can be accepted, for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens on loopback until it is closed.
pub(super) struct Door {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Door {
    /// # Errors
    ///
    /// No port of this machine's is free.
    pub(super) async fn open(seat: Arc<Seat>) -> Result<Self, BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener =
            listener.map_err(|error| failure::because("cannot listen on loopback", error))?;
        Ok(Door {
            address: listener.local_addr()?,
            accepting: tokio::spawn(accept(listener, seat)),
        })
    }

    /// Cuts off whoever is still there, and waits until all of it is gone.
    pub(super) async fn close(self) {
        self.accepting.abort();
        let _ = self.accepting.await;
    }

    /// The base URL for clients.
    pub(super) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

async fn accept(listener: TcpListener, seat: Arc<Seat>) {
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            // Those that ended are forgotten.
            Some(_) = open.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => drop(open.spawn(pass(socket, Arc::clone(&seat)))),
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Until one side is done, and the other has heard of it.
async fn pass(mut here: TcpStream, seat: Arc<Seat>) {
    let mut there = match seat.connect().await {
        Ok(there) => there,
        Err(error) => {
            logging::say(format_args!("tollhouse: {}", failure::with_causes(&*error)));
            return;
        }
    };
    // Events are short and must not wait for each other.
    let quick = here.set_nodelay(true).and(there.set_nodelay(true));
    if quick.is_ok() {
        // Whoever broke off has been told of no error, and is told of none.
        let _ = copy_bidirectional(&mut here, &mut there).await;
    }
}
