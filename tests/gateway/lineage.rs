//! A gateway and those that follow it, before a scripted service manager that hears what they say (sd_notify(3)).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::gateway::{BINARY, Gateway};

/// How long a successor may take to serve, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

pub struct Lineage {
    /// The first of them; all have its ports, its files and its log.
    pub gateway: Gateway,
    /// What is started as a successor lies here.
    pub program: PathBuf,
    /// The process that the manager watches.
    main: Arc<AtomicU32>,
    told: Arc<Mutex<Vec<(Instant, String)>>>,
    over: Arc<AtomicBool>,
}

impl Lineage {
    #[track_caller]
    pub fn start(config: &str) -> Lineage {
        Lineage::start_watched(config, None)
    }

    /// The same, of whom the manager wants a sign of life in such a time.
    #[track_caller]
    pub fn start_watched(config: &str, watchdog: Option<Duration>) -> Lineage {
        let (told, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let main = Arc::new(AtomicU32::new(0));
        let env = |dir: &Path| {
            let path = dir.join("notify");
            listen(UnixDatagram::bind(&path).unwrap(), told.clone(), main.clone(), over.clone());
            let mut env = vec![("NOTIFY_SOCKET".to_owned(), path.display().to_string())];
            env.extend(watchdog.map(|time| ("WATCHDOG_USEC".to_owned(), time.as_micros().to_string())));
            env
        };
        let program = |dir: &Path| {
            let program = dir.join("portolan");
            // Linked where it can be: it is large.
            if fs::hard_link(BINARY, &program).is_err() {
                fs::copy(BINARY, &program).unwrap();
            }
            program
        };
        let gateway = Gateway::start_program(program, config, env);
        let program = gateway.dir.path().join("portolan");
        main.store(gateway.pid(), Ordering::SeqCst);
        Lineage { gateway, program, main, told, over }
    }

    /// The process that is in charge.
    pub fn pid(&self) -> u32 {
        self.main.load(Ordering::SeqCst)
    }

    /// What the manager was told so far.
    pub fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().iter().map(|(_, text)| text.clone()).collect()
    }

    /// Waits until the manager was told this often something that begins so.
    #[track_caller]
    pub fn wait_told(&self, start: &str, times: usize) {
        let begun = Instant::now();
        while self.told().iter().filter(|told| told.starts_with(start)).count() < times {
            assert!(
                begun.elapsed() < PATIENCE,
                "never {times} times {start}: {:?}\n{}",
                self.told(),
                self.gateway.logs()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// When the manager was told so last.
    pub fn last(&self, start: &str) -> Option<Instant> {
        let told = self.told.lock().unwrap();
        told.iter().rev().find(|(_, text)| text.starts_with(start)).map(|(at, _)| *at)
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: no memory is involved.
        unsafe { libc::kill(libc::pid_t::try_from(self.pid()).unwrap(), signal) };
    }

    /// Has the one in charge hand over, and gives the process that follows.
    #[track_caller]
    pub fn upgrade(&self) -> u32 {
        let before = self.pid();
        self.signal(libc::SIGUSR2);
        let begun = Instant::now();
        while self.pid() == before {
            assert!(begun.elapsed() < PATIENCE, "nobody follows: {:?}\n{}", self.told(), self.gateway.logs());
            thread::sleep(Duration::from_millis(10));
        }
        self.pid()
    }

    /// Puts another program in the place of the binary, as package managers do.
    pub fn plant(&self, script: &str) {
        let next = self.gateway.dir.path().join("next");
        fs::write(&next, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&next, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(next, &self.program).unwrap();
    }

    /// Puts the binary back, as a file of its own.
    pub fn plant_binary(&self) {
        let next = self.gateway.dir.path().join("next");
        fs::copy(BINARY, &next).unwrap();
        fs::rename(next, &self.program).unwrap();
    }

    /// The processes that live.
    pub fn processes(&self) -> Vec<u32> {
        processes(self.gateway.dir.path())
    }

    /// Waits until a process has gone, and says how long that took.
    #[track_caller]
    pub fn wait_gone(&mut self, pid: u32, time: Duration) -> Duration {
        let begun = Instant::now();
        // The first one is a child of this process: it must be asked for, or stays as a shadow.
        while (pid == self.gateway.pid() && self.gateway.is_running())
            || (pid != self.gateway.pid() && self.processes().contains(&pid))
        {
            assert!(begun.elapsed() < time, "{pid} does not go:\n{}", self.gateway.logs());
            thread::sleep(Duration::from_millis(10));
        }
        begun.elapsed()
    }
}

impl Drop for Lineage {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        for pid in self.processes() {
            // SAFETY: no memory is involved, and its command line names this test's own directory.
            unsafe { libc::kill(libc::pid_t::try_from(pid).unwrap(), libc::SIGKILL) };
        }
    }
}

fn listen(socket: UnixDatagram, told: Arc<Mutex<Vec<(Instant, String)>>>, main: Arc<AtomicU32>, over: Arc<AtomicBool>) {
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 1_024];
        while !over.load(Ordering::SeqCst) {
            let Ok(length) = socket.recv(&mut buffer) else { continue };
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let follows = text.lines().find_map(|line| line.strip_prefix("MAINPID=")?.parse().ok());
            told.lock().unwrap().push((Instant::now(), text));
            if let Some(pid) = follows {
                main.store(pid, Ordering::SeqCst);
            }
        }
    });
}

fn processes(dir: &Path) -> Vec<u32> {
    let dir = dir.display().to_string();
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let ours = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&dir)
    };
    all.filter(ours).collect()
}
