//! How a process hands its listeners to a newer one, and how that one takes them: no connection is refused meanwhile.
//!
//! On SIGUSR2 or SIGQUIT, and on SIGHUP when the program on disk is another one than runs, the process starts the program on disk
//! as its successor, with the same configuration file. The successor does all that can fail first: reads the configuration,
//! opens what is stored. Then it is sent the listeners, which both have from then on, by Pingora's means (a Unix socket whose
//! name only the two know). Only when it has answered a call of its own does the predecessor stop taking new ones; it goes on
//! with those it has, and leaves. A successor that ends, hangs or cannot read its configuration is ended, and nothing else
//! has happened.
//!
//! Not Pingora's own order of things, in which the old process leaves as soon as it has sent the listeners, whatever became of
//! them, and also where nobody was there to take them.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{Fds, ListenFds, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::Service;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::telemetry::{Metrics, Supervisor, events};

/// How long a successor may take to serve.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(20);
/// What a successor says when it serves.
const SERVING: u8 = b's';
/// What it is told when it is the one that counts.
const YOURS: u8 = b'y';

/// Waits for the order to hand over.
pub struct Succession {
    pub program: PathBuf,
    /// The configuration.
    pub file: PathBuf,
    /// Where the socket is made.
    pub state_dir: PathBuf,
    pub supervisor: Arc<Supervisor>,
    pub metrics: Arc<Metrics>,
    /// Turns true when another process has taken over.
    pub succeeded: watch::Sender<bool>,
    identity: Option<Identity>,
}

/// What tells one program on disk from another.
type Identity = (u64, u64, i64, i64);

fn identity(program: &Path) -> Option<Identity> {
    let found = fs::metadata(program).ok()?;
    Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec()))
}

impl Succession {
    /// # Errors
    /// It is not known which program this is.
    pub fn new(
        file: &Path,
        state_dir: &Path,
        supervisor: Arc<Supervisor>,
        metrics: Arc<Metrics>,
        succeeded: watch::Sender<bool>,
    ) -> io::Result<Succession> {
        let program = std::env::current_exe()?;
        let identity = identity(&program);
        Ok(Succession {
            program,
            file: file.to_owned(),
            state_dir: state_dir.to_owned(),
            supervisor,
            metrics,
            succeeded,
            identity,
        })
    }

    fn is_replaced(&self) -> bool {
        let now = identity(&self.program);
        now.is_some() && now != self.identity
    }

    /// Starts a successor, and gives its process id when it serves.
    async fn hand_over(&self, fds: &ListenFds) -> Result<u32, String> {
        if std::process::id() == 1 {
            return Err(
                "this process is the first of its container, which would end with it: replace the container".into()
            );
        }
        let socket = self.state_dir.join(format!("upgrade-{}.sock", std::process::id()));
        let _ = fs::remove_file(&socket);
        let (ours, mut successor) = Successor::start(&self.program, &self.file, &socket)
            .map_err(|error| format!("{} cannot be started: {error}", self.program.display()))?;
        let by = Instant::now() + PATIENCE;
        while !socket.exists() {
            successor.runs(by)?;
            sleep(LOOK).await;
        }
        // It is there before it is listened on.
        sleep(LOOK).await;
        let mut sent = Fds::new();
        let (binds, all) = fds.lock().serialize();
        sent.deserialize(binds, all);
        let path = socket.clone();
        let sending = tokio::task::spawn_blocking(move || sent.send_to_sock(path.to_string_lossy().as_ref()));
        let sent = timeout_at(by, sending).await.map_err(|_| "it takes no listeners".to_owned())?;
        sent.map_err(|_| "the listeners cannot be sent".to_owned())?
            .map_err(|error| format!("the listeners cannot be sent: {error}"))?;
        let mut ours = UnixStream::from_std(ours).map_err(|error| error.to_string())?;
        let mut said = [0];
        match timeout_at(by, ours.read_exact(&mut said)).await {
            Ok(Ok(_)) if said == [SERVING] => {}
            Ok(_) => return Err("it ended before it served: the log above says why".to_owned()),
            Err(_) => return Err(format!("it did not serve within {} seconds", PATIENCE.as_secs())),
        }
        let pid = successor.released();
        self.supervisor.followed_by(pid);
        let _ = ours.write_all(&[YOURS]).await;
        Ok(pid)
    }
}

/// A successor that is ended if it is dropped before it is [released](Successor::released).
struct Successor {
    child: Option<Child>,
    socket: PathBuf,
}

impl Successor {
    /// Its standard input is the other end of what is returned.
    fn start(program: &Path, file: &Path, socket: &Path) -> io::Result<(StdStream, Successor)> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new(program);
        command.args(["run", "--config"]).arg(file).arg("--successor").arg(socket);
        // The manager's watchdog is the one of whoever is the main process.
        command.env_remove("WATCHDOG_PID").stdin(Stdio::from(OwnedFd::from(theirs)));
        let child = command.spawn()?;
        Ok((ours, Successor { child: Some(child), socket: socket.to_owned() }))
    }

    fn runs(&mut self, by: Instant) -> Result<(), String> {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) if Instant::now() < by => Ok(()),
            Some(Ok(None)) => Err(format!("it was not ready to take over within {} seconds", PATIENCE.as_secs())),
            Some(Ok(Some(status))) => Err(format!("it ended at its start ({status}): the log above says why")),
            _ => Err("nothing is known of it".to_owned()),
        }
    }

    fn released(mut self) -> u32 {
        self.child.take().map_or(0, |child| child.id())
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[async_trait]
impl Service for Succession {
    async fn start_service(&mut self, fds: Option<ListenFds>, mut shutdown: ShutdownWatch, _: usize) {
        let signals = (signal(SignalKind::user_defined2()), signal(SignalKind::quit()), signal(SignalKind::hangup()));
        let (Some(fds), (Ok(mut wanted), Ok(mut quit), Ok(mut hangup))) = (fds, signals) else {
            tracing::error!("signals cannot be listened for: no other process can take over");
            return;
        };
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = wanted.recv() => {}
                _ = quit.recv() => {}
                _ = hangup.recv() => if !self.is_replaced() { continue },
            }
            self.supervisor.reloading("handing over to another process");
            events::HandingOver { program: &self.program }.emit();
            match self.hand_over(&fds).await {
                Ok(pid) => {
                    events::HandedOver { pid, failed: None }.emit(&self.metrics);
                    self.succeeded.send_replace(true);
                    return;
                }
                Err(cause) => {
                    events::HandedOver { pid: 0, failed: Some(&cause) }.emit(&self.metrics);
                    self.supervisor.ready(&format!("serving; another process could not take over: {cause}"));
                }
            }
        }
    }

    fn name(&self) -> &'static str {
        "succession"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        Some(Vec::new())
    }
}

/// When this process is to end: when it is told to, or when another one has taken over.
pub struct Ends {
    pub succeeded: watch::Receiver<bool>,
}

#[async_trait]
impl ShutdownSignalWatch for Ends {
    async fn recv(&self) -> ShutdownSignal {
        async fn told(signal: io::Result<Signal>) {
            match signal {
                Ok(mut signal) => drop(signal.recv().await),
                Err(_) => std::future::pending().await,
            }
        }
        let mut succeeded = self.succeeded.clone();
        tokio::select! {
            () = told(signal(SignalKind::terminate())) => ShutdownSignal::GracefulTerminate,
            () = told(signal(SignalKind::interrupt())) => ShutdownSignal::FastShutdown,
            Ok(_) = succeeded.wait_for(|done| *done) => ShutdownSignal::GracefulTerminate,
        }
    }
}

/// The process that this one follows, at the other end of its standard input.
pub struct Predecessor(StdStream);

impl Predecessor {
    /// # Errors
    /// The standard input is no socket.
    pub fn of_input() -> io::Result<Predecessor> {
        let end = StdStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        end.peer_addr()?;
        end.set_nonblocking(true)?;
        Ok(Predecessor(end))
    }

    /// Says that this process serves, and waits until it is the one that counts.
    pub async fn relieve(self) -> io::Result<()> {
        let mut end = UnixStream::from_std(self.0)?;
        end.write_all(&[SERVING]).await?;
        let mut said = [0];
        // That it is gone means the same.
        let _ = end.read(&mut said).await?;
        Ok(())
    }
}

/// The listener of that name: taken over, or made. It can be taken over from then on.
///
/// # Errors
/// It cannot be made.
pub fn listener(
    fds: Option<&ListenFds>,
    name: &str,
    make: impl FnOnce() -> io::Result<TcpListener>,
) -> io::Result<TcpListener> {
    let inherited = fds.and_then(|fds| fds.lock().get(name).copied());
    let Some(fd) = inherited else {
        let made = make()?;
        if let Some(fds) = fds {
            fds.lock().add(name.to_owned(), made.as_raw_fd());
        }
        return Ok(made);
    };
    // SAFETY: sent to this process under this name, which nobody else asks for, and asked for once.
    Ok(unsafe { TcpListener::from_raw_fd(fd) })
}
