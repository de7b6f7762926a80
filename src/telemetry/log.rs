//! The log: lines for people or JSON, to standard error, through a thread of its own. A reader that is too slow loses
//! lines; a call never waits for it.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::Metrics;
use crate::config::snapshot::{Log, tracing_level::Level};

/// Lines that may wait for their reader.
const WAITING: usize = 4_096;

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
    let (sender, lines) = sync_channel::<Vec<u8>>(WAITING);
    std::thread::Builder::new().name("log".into()).spawn(move || {
        let mut out = io::stderr();
        while let Ok(line) = lines.recv() {
            // A closed standard error is no reason to stop serving.
            let _ = out.write_all(&line);
        }
    })?;
    let writer = Lines { sender, metrics: metrics.clone() };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let done = if log.json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        builder.with_ansi(io::stderr().is_terminal()).with_target(false).try_init()
    };
    done.map_err(io::Error::other)
}

#[derive(Clone)]
struct Lines {
    sender: SyncSender<Vec<u8>>,
    metrics: Arc<Metrics>,
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
        if self.text.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(_)) = self.lines.sender.try_send(std::mem::take(&mut self.text)) {
            self.lines.metrics.log_dropped.inc();
        }
    }
}
