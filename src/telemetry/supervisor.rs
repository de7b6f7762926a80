//! What the service manager is told: that we serve, reload, end, live, and who follows us (sd_notify(3), seen 2026-11-21).
//!
//! Datagrams to the socket that `NOTIFY_SOCKET` names. Nobody waits for them: one that cannot be sent is not sent, and where
//! no manager asked for any, nothing is done. The variables stay in the environment, since whoever follows us needs them too.

use std::ffi::OsStr;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// The service manager, if there is one that wants to know.
#[derive(Debug, Default)]
pub struct Supervisor {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The one that this process was started by.
    ///
    /// `NOTIFY_SOCKET`: a path, or a name after `@`. `WATCHDOG_USEC`: how long it waits for a sign of life; `WATCHDOG_PID`: whose.
    ///
    /// # Errors
    /// There is one that cannot be reached.
    pub fn of(variable: &dyn Fn(&str) -> Option<String>) -> io::Result<Supervisor> {
        let socket = match variable("NOTIFY_SOCKET").filter(|address| !address.is_empty()) {
            Some(address) => Some(connected(&address)?),
            None => None,
        };
        let ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let patience = variable("WATCHDOG_USEC").and_then(|micros| micros.parse().ok()).filter(|micros| *micros > 0);
        Ok(Supervisor { socket, watchdog: patience.filter(|_| ours).map(Duration::from_micros) })
    }

    /// How long it waits for a sign of life before it ends this process; `None`: for ever.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Calls are served, by the configuration in force.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", line(status)));
    }

    /// The configuration is read anew, or another process takes over; ended by [`ready`](Self::ready).
    pub fn reloading(&self, status: &str) {
        self.tell(&format!("RELOADING=1\nSTATUS={}", line(status)));
    }

    /// No new calls are taken.
    pub fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={}", line(status)));
    }

    /// Another process, which serves already, is the one to watch from now on.
    pub fn followed_by(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}\nREADY=1\nSTATUS=serving"));
    }

    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, message: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(message.as_bytes())
        {
            tracing::debug!(%error, "the service manager cannot be told");
        }
    }
}

/// A state is one line.
fn line(status: &str) -> String {
    super::events::clean(status)
}

fn connected(address: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match address.strip_prefix('@') {
        None => socket.connect(OsStr::new(address))?,
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        }
        #[cfg(not(target_os = "linux"))]
        Some(_) => return Err(io::ErrorKind::Unsupported.into()),
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_told_in_its_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let pid = std::process::id().to_string();
        let of = |pid: &str| {
            let all = [
                ("NOTIFY_SOCKET", path.to_str().unwrap().to_owned()),
                ("WATCHDOG_USEC", "3000000".to_owned()),
                ("WATCHDOG_PID", pid.to_owned()),
            ];
            Supervisor::of(&|name| all.iter().find(|(own, _)| *own == name).map(|(_, value)| value.clone())).unwrap()
        };
        let supervisor = of(&pid);
        assert_eq!(supervisor.watchdog(), Some(Duration::from_secs(3)));
        assert_eq!(of("1").watchdog(), None, "somebody else's");
        supervisor.ready("serving");
        supervisor.reloading("two\nlines");
        supervisor.stopping("waiting");
        supervisor.followed_by(7);
        supervisor.alive();
        let told: Vec<String> = (0..5)
            .map(|_| {
                let mut buffer = [0; 256];
                let length = manager.recv(&mut buffer).unwrap();
                String::from_utf8(buffer[..length].to_vec()).unwrap()
            })
            .collect();
        assert_eq!(
            told,
            [
                "READY=1\nSTATUS=serving",
                "RELOADING=1\nSTATUS=two\\nlines",
                "STOPPING=1\nSTATUS=waiting",
                "MAINPID=7\nREADY=1\nSTATUS=serving",
                "WATCHDOG=1"
            ]
        );
        drop(manager);
        supervisor.alive();
        let none = Supervisor::of(&|_| None).unwrap();
        none.ready("nobody listens");
        assert_eq!(none.watchdog(), None);
        assert!(Supervisor::of(&|_| Some("/nowhere/at/all".to_owned())).is_err());
    }
}
