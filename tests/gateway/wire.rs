//! What a network does to connections, done to a socket: no privileges, no name space, no firewall.

use std::fs;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};

fn set<T>(fd: RawFd, name: libc::c_int, value: &T) {
    // SAFETY: the descriptor is open, and pointer and length are those of one whole value.
    let set = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    assert_eq!(set, 0, "socket option {name}: {}", std::io::Error::last_os_error());
}

/// Whatever arrives for this socket is dropped before TCP sees it: nothing is accepted, acknowledged or refused. To its
/// peer that is a machine that has vanished.
pub fn deaf(socket: &impl AsRawFd) {
    // One instruction of a classic packet filter: return 0, keep nothing.
    let mut drop_all = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 };
    set(socket.as_raw_fd(), libc::SO_ATTACH_FILTER, &libc::sock_fprog { len: 1, filter: &raw mut drop_all });
}

/// Closing the socket breaks the connection with a reset.
pub fn resets(socket: &impl AsRawFd) {
    set(socket.as_raw_fd(), libc::SO_LINGER, &libc::linger { l_onoff: 1, l_linger: 0 });
}

/// The kernel takes little more than so many bytes before its peer must wait.
pub fn narrow(socket: &impl AsRawFd, bytes: libc::c_int) {
    set(socket.as_raw_fd(), libc::SO_RCVBUF, &bytes);
}

/// Whether a process lets the kernel look after its end of this connection: a keep-alive timer runs (`tr` of proc(5),
/// /proc/net/tcp).
pub fn probed(pid: u32, peer: &TcpStream) -> bool {
    let (ours, theirs) = (peer.local_addr().unwrap().port(), peer.peer_addr().unwrap().port());
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let port = |at: usize| fields[at].rsplit(':').next().and_then(|port| u16::from_str_radix(port, 16).ok());
        fields.len() > 5 && port(1) == Some(theirs) && port(2) == Some(ours) && fields[5].starts_with("02:")
    })
}
