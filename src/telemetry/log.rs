//! The log: lines for people or JSON, to standard error, through a thread of its own. A reader that is too slow loses
//! lines; a call never waits for it.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::Metrics;
use super::events::clean;
use crate::config::snapshot::{Log, tracing_level::Level};

/// Lines that may wait for their reader.
const WAITING: usize = 4_096;
/// Bytes that may wait for their reader.
const WAITING_BYTES: usize = 8 << 20;

/// Bytes that wait, of the one log that a process has.
static WAITS: AtomicUsize = AtomicUsize::new(0);

/// Sets up the log of this process. `PORTOLAN_LOG` (for example `debug,pingora=warn`) wins over the configuration.
///
/// # Errors
/// The thread cannot be started, or there is a log already.
pub fn init(log: &Log, metrics: &Arc<Metrics>) -> io::Result<()> {
    let level = match log.level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    // Pingora's own lines are about sockets: at the operator's level only from a warning on.
    let quiet = format!("{level},pingora=error,pingora_core=error,pingora_proxy=error,h2=warn,rustls=warn");
    let filter = std::env::var("PORTOLAN_LOG").ok().and_then(|asked| EnvFilter::try_new(asked).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(quiet));
    let ansi = !log.json && io::stderr().is_terminal();
    let writer = Lines::start(io::stderr(), &WAITS, ansi, metrics)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let done = if log.json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        builder.with_ansi(ansi).with_target(false).try_init()
    };
    done.map_err(io::Error::other)?;
    watch_panics(metrics);
    Ok(())
}

/// Waits until what was logged is written, or the time is over: the last words of a process that exits.
pub fn flush(within: Duration) {
    let by = Instant::now() + within;
    while WAITS.load(Ordering::Acquire) > 0 && Instant::now() < by {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Counts panics and logs where they were: as one line, and through the log's own thread.
fn watch_panics(metrics: &Arc<Metrics>) {
    let metrics = Arc::clone(metrics);
    std::panic::set_hook(Box::new(move |panic| {
        metrics.panics.inc();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let said = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        let said = said.map(clean).unwrap_or_default();
        tracing::error!(place, said, thread = std::thread::current().name(), "a panic: this is a bug of ours");
    }));
}

/// Where lines go: to a thread that writes them, as far as it keeps up.
#[derive(Clone)]
struct Lines {
    sender: SyncSender<Vec<u8>>,
    /// Bytes that wait.
    waits: &'static AtomicUsize,
    /// Escape sequences are ours (the formatter takes them out of values).
    ansi: bool,
    metrics: Arc<Metrics>,
}

impl Lines {
    fn start(
        mut out: impl Write + Send + 'static,
        waits: &'static AtomicUsize,
        ansi: bool,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Lines> {
        let (sender, lines) = sync_channel::<Vec<u8>>(WAITING);
        std::thread::Builder::new().name("log".into()).spawn(move || {
            while let Ok(line) = lines.recv() {
                // A closed standard error is no reason to stop serving.
                let _ = out.write_all(&line);
                waits.fetch_sub(line.len(), Ordering::AcqRel);
            }
        })?;
        Ok(Lines { sender, waits, ansi, metrics: Arc::clone(metrics) })
    }

    fn send(&self, line: Vec<u8>) {
        let length = line.len();
        let fits = self.waits.fetch_add(length, Ordering::AcqRel) + length <= WAITING_BYTES;
        if !fits || self.sender.try_send(line).is_err() {
            self.waits.fetch_sub(length, Ordering::AcqRel);
            self.metrics.log_dropped.inc();
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { text: Vec::with_capacity(512), lines: self.clone() }
    }
}

/// One line being written; sent when it is dropped.
struct Line {
    text: Vec<u8>,
    lines: Lines,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            let line = one_line(std::mem::take(&mut self.text), self.lines.ansi);
            self.lines.send(line);
        }
    }
}

/// Whatever was logged, and by whatever library, it is one line: a value can neither begin a line of its own nor reach
/// the terminal that shows it.
fn one_line(text: Vec<u8>, ansi: bool) -> Vec<u8> {
    const ESCAPE: u8 = 0x1b;
    let inner = text.strip_suffix(b"\n").unwrap_or(&text);
    let foreign = |byte: u8| byte.is_ascii_control() && byte != b'\t' && !(ansi && byte == ESCAPE);
    if !inner.iter().any(|byte| foreign(*byte)) {
        return text;
    }
    let mut line = Vec::with_capacity(text.len() + 16);
    for &byte in inner {
        if foreign(byte) {
            line.extend(std::ascii::escape_default(byte));
        } else {
            line.push(byte);
        }
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// A reader that takes a line only when told to.
    struct Slow {
        go: Receiver<()>,
        read: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.go.recv();
            self.read.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn c_11_a_reader_that_is_stuck_costs_lines_and_no_time() {
        static HERE: AtomicUsize = AtomicUsize::new(0);
        let (told, go) = channel();
        let read = Arc::new(Mutex::new(Vec::new()));
        let metrics = Metrics::new();
        let lines = Lines::start(Slow { go, read: Arc::clone(&read) }, &HERE, false, &metrics).unwrap();
        let subscriber = tracing_subscriber::fmt().with_writer(lines).with_ansi(false).finish();
        let start = Instant::now();
        tracing::subscriber::with_default(subscriber, || {
            for n in 0..WAITING + 1_000 {
                tracing::info!(n, "line");
            }
        });
        assert!(start.elapsed() < Duration::from_secs(5));
        let dropped = usize::try_from(metrics.log_dropped.get()).unwrap();
        assert!((998..=1_000).contains(&dropped), "{dropped}");
        for _ in 0..WAITING + 1_000 - dropped {
            told.send(()).unwrap();
        }
        let by = Instant::now() + Duration::from_secs(10);
        while HERE.load(Ordering::Acquire) > 0 && Instant::now() < by {
            std::thread::sleep(Duration::from_millis(1));
        }
        let read = String::from_utf8(read.lock().unwrap().clone()).unwrap();
        assert_eq!(read.lines().count(), WAITING + 1_000 - dropped);
        assert!(read.starts_with("20") && read.lines().next().unwrap().ends_with("line n=0"), "{read:.100}");
    }

    #[test]
    fn lines_that_wait_are_bounded_in_bytes() {
        static HERE: AtomicUsize = AtomicUsize::new(0);
        let (_told, go) = channel();
        let metrics = Metrics::new();
        let lines = Lines::start(Slow { go, read: Arc::default() }, &HERE, false, &metrics).unwrap();
        for _ in 0..20 {
            lines.send(vec![b'x'; 1 << 20]);
        }
        assert_eq!(HERE.load(Ordering::Acquire), WAITING_BYTES);
        assert_eq!(metrics.log_dropped.get(), 12);
    }

    #[test]
    fn values_forge_no_lines_and_reach_no_terminal() {
        let text = "a\tb\nFORGED \x1b[2J\r\u{7f}é\n";
        let plain = one_line(text.into(), false);
        assert_eq!(String::from_utf8(plain).unwrap(), "a\tb\\nFORGED \\x1b[2J\\r\\x7fé\n");
        let coloured = one_line(text.into(), true);
        assert_eq!(String::from_utf8(coloured).unwrap(), "a\tb\\nFORGED \x1b[2J\\r\\x7fé\n");
        assert_eq!(one_line(b"{\"json\":1}\n".to_vec(), false), b"{\"json\":1}\n");
    }
}
