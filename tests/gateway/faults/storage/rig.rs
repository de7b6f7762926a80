//! Gateways whose disk and clock fail on demand, or whose disk is small.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Response;
use crate::gateway::{Gateway, ask};
use crate::kill9::{self, Audit, Load, Seen};
use crate::upstream::Upstream;

/// Writes and syncs of the journal's files, and the clock, as sixteen numbers in the file named by `FAULTS` say.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *say(void) {
    static volatile int64_t *found;
    if (!found) {
        int fd = openat(AT_FDCWD, getenv("FAULTS"), O_RDWR);
        void *map = mmap(NULL, 128, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        found = map;
    }
    return found;
}

static int is_journal(int fd) {
    char name[64], path[4096];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, "/journal/") != NULL;
}

static int sync_fails(int fd) {
    volatile int64_t *s = say();
    if ((!s[0] && !s[1]) || !is_journal(fd)) return 0;
    if (s[1]) usleep(s[1] * 1000);
    if (!s[0]) return 0;
    if (s[0] > 0) __sync_fetch_and_sub(&s[0], 1);
    __sync_fetch_and_add(&s[8], 1);
    errno = EIO;
    return 1;
}

int fsync(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    return sync_fails(fd) ? -1 : real(fd);
}

int fdatasync(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");
    return sync_fails(fd) ? -1 : real(fd);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    volatile int64_t *s = say();
    if ((!s[2] && !s[3] && !s[5] && !s[6]) || !is_journal(fd)) return real(fd, bytes, length);
    if (s[6]) { __sync_fetch_and_add(&s[8], 1); errno = EROFS; return -1; }
    if (s[2] && __sync_sub_and_fetch(&s[2], 1) == 0) { __sync_fetch_and_add(&s[8], 1); errno = EIO; return -1; }
    if (s[5] && __sync_sub_and_fetch(&s[5], 1) % 2 == 0) { __sync_fetch_and_add(&s[8], 1); errno = EINTR; return -1; }
    if (s[3] && length > (size_t)s[3]) { __sync_fetch_and_add(&s[8], 1); length = s[3]; }
    return real(fd, bytes, length);
}

int open64(const char *path, int flags, ...) {
    static int (*real)(const char *, int, ...);
    if (!real) real = dlsym(RTLD_NEXT, "open64");
    va_list more;
    va_start(more, flags);
    int mode = flags & O_CREAT ? va_arg(more, int) : 0;
    va_end(more);
    if ((flags & O_CREAT) && strstr(path, "/journal/") && say()[6]) { errno = EROFS; return -1; }
    return real(path, flags, mode);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += say()[4];
    return result;
}
"#;

/// Places in the shim's numbers.
pub const FAILING_SYNCS: u64 = 0;
pub const SLOW_SYNC: u64 = 1;
pub const FAILING_WRITE: u64 = 2;
pub const SHORT: u64 = 3;
pub const CLOCK: u64 = 4;
pub const INTERRUPTED: u64 = 5;
pub const READ_ONLY: u64 = 6;
pub const MET: u64 = 8;

/// A gateway whose disk and clock can be told to fail, before a provider that counts.
pub struct Rig {
    pub gateway: Gateway,
    pub upstream: Upstream,
    pub seen: Seen,
    pub next: Arc<AtomicUsize>,
    faults: File,
    _dir: tempfile::TempDir,
}

impl Rig {
    pub fn start(more: &str) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let (source, library) = (dir.path().join("faults.c"), dir.path().join("faults.so"));
        fs::write(&source, SHIM).unwrap();
        let built =
            Command::new("gcc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl").output();
        let built = built.unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let numbers = dir.path().join("numbers");
        fs::write(&numbers, [0; 128]).unwrap();
        let (upstream, seen) = kill9::provider();
        let env = [("LD_PRELOAD", library.display().to_string()), ("FAULTS", numbers.display().to_string())];
        let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
        let gateway = Gateway::start_in(&format!("{}{more}", kill9::settings(&upstream)), &env);
        let faults = File::options().read(true).write(true).open(&numbers).unwrap();
        Rig { gateway, upstream, seen, next: Arc::default(), faults, _dir: dir }
    }

    pub fn set(&self, place: u64, number: i64) {
        self.faults.write_all_at(&number.to_ne_bytes(), place * 8).unwrap();
    }

    /// Faults that were met.
    pub fn met(&self) -> i64 {
        let mut number = [0; 8];
        self.faults.read_exact_at(&mut number, MET * 8).unwrap();
        i64::from_ne_bytes(number)
    }

    pub fn load(&self) -> Load {
        Load::start(self.gateway.data, &self.next)
    }

    pub fn count(&self) -> usize {
        self.upstream.count()
    }

    /// One call.
    pub fn call(&self) -> Response {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut body = ask("alias", &format!("call {number}"));
        body["max_tokens"] = 20.into();
        self.gateway.chat_with(&[("x-portolan-tags", &format!("call={number}"))], body.to_string())
    }

    /// How long until a call succeeds again.
    #[track_caller]
    pub fn heals(&self) -> Duration {
        let started = Instant::now();
        while self.call().status != 200 {
            assert!(started.elapsed() < Duration::from_secs(10), "it does not heal:\n{}", self.gateway.logs());
            thread::sleep(Duration::from_millis(20));
        }
        started.elapsed()
    }

    /// Stops it, and holds the ledger against what the provider saw.
    #[track_caller]
    pub fn close(mut self) -> Audit {
        assert!(self.gateway.stop(Duration::from_secs(20)).success(), "{}", self.gateway.logs());
        let audit = Audit::of(&self.gateway.state(), &self.seen.lock().unwrap());
        audit.holds();
        let told = self.gateway.command(&["ledger", "verify"]);
        assert!(told.contains(" 0 wrong"), "{told}");
        assert!(!self.gateway.logs().contains("panicked"), "{}", self.gateway.logs());
        audit
    }
}

/// For how long the load runs.
pub fn run(load: Load, rig: &Rig, calls: usize) {
    let wanted = rig.count() + calls;
    let by = Instant::now() + Duration::from_secs(30);
    while rig.count() < wanted {
        assert!(Instant::now() < by, "the load has stopped:\n{}", rig.gateway.logs());
        thread::sleep(Duration::from_millis(2));
    }
    drop(load);
}

/// A gateway whose state directory is a small file system of its own; nothing where this machine does not allow that.
pub fn on_small_disk(size: &str) -> Option<(Gateway, Upstream, Seen)> {
    let allowed = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    if !allowed {
        eprintln!("skipped: no mount namespace can be made here");
        return None;
    }
    let (upstream, seen) = kill9::provider();
    let gateway = Gateway::start_on_disk(&kill9::settings(&upstream), size);
    Some((gateway, upstream, seen))
}

pub fn numbered(gateway: &Gateway, number: usize) -> Response {
    let mut body = ask("alias", &format!("call {number}"));
    body["max_tokens"] = 20.into();
    gateway.chat_with(&[("x-portolan-tags", &format!("call={number}"))], body.to_string())
}
