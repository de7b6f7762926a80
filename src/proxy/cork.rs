//! Head and body of a request to a provider in one packet.
//!
//! Pingora writes the head, flushes it, and then writes the body: two system calls that both go down to the wire, and a
//! provider that wakes up for a head without a body. Between the two the socket is corked (tcp(7), `TCP_CORK`): what is
//! written waits in the kernel until the body is there, at most for 200 ms. Pingora has no hook after the body was
//! written, but it lets go of the body then, so that is when the cork comes off.

use std::os::fd::RawFd;

use bytes::Bytes;

/// The socket of a connection that was corked before a head is written to it.
pub struct Cork(RawFd);

impl Cork {
    /// Corks the socket of a connection to a provider.
    pub fn put(socket: RawFd) -> Option<Cork> {
        set(socket, true).then_some(Cork(socket))
    }

    /// The body, which takes the cork off when it is dropped: written, or not to be written any more.
    pub fn until_written(self, body: Bytes) -> Bytes {
        Bytes::from_owner(Corked { body, socket: self.0 })
    }
}

struct Corked {
    body: Bytes,
    socket: RawFd,
}

impl AsRef<[u8]> for Corked {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for Corked {
    fn drop(&mut self) {
        set(self.socket, false);
    }
}

#[cfg(target_os = "linux")]
fn set(socket: RawFd, on: bool) -> bool {
    // SAFETY: asked for by Pingora's hook for a connection that is open, and by the drop of a body, which Pingora moves
    // through its two halves of that connection and drops with them, before it gives the connection up.
    let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(socket) };
    rustix::net::sockopt::set_tcp_cork(socket, on).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn set(_: RawFd, _: bool) -> bool {
    false
}
