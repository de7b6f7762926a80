//! `portolan run`: everything put together, in the order in which it must exist.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use pingora::listeners::{ListenerConfig, TcpSocketOptions};
use pingora::protocols::TcpKeepalive;
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::server::configuration::ServerConf;
use pingora::server::{ListenFds, RunArgs, Server, ShutdownWatch};
use pingora::services::background::background_service;
use pingora::services::listening::Service;

use super::load;
use super::succession::{self, Ends, Predecessor, Succession};
use super::vigil::Vigil;
use crate::admin::{Admin, View};
use crate::config::Snapshot;
use crate::config::directory::{Administrator, Directory};
use crate::policy::role::Denied;
use crate::policy::route::Gate;
use crate::policy::{Live, Moment};
use crate::proxy::alerts::Teller;
use crate::proxy::bearers::{self, KeyHolder};
use crate::proxy::budgets::{self, Keeper};
use crate::proxy::heartbeat::Prober;
use crate::proxy::keeping::Keeping;
use crate::proxy::lingering::Lingering;
use crate::proxy::tokens::Holder;
use crate::proxy::upkeep::{Drain, Following, Reloader, Resolver, Retention, Source};
use crate::proxy::{Gateway, Shared};
use crate::sandbox;
use crate::store::alerts::Alerts;
use crate::store::directory::{Follower, Sqlite};
use crate::store::journal::Journal;
use crate::store::ledger::Ledger;
use crate::store::responses::Responses;
use crate::telemetry::{self, Metrics, Supervisor};
use crate::wire::writer;

/// Bytes read ahead from a client's connection. Bodies come in reads longer than that, which then need no copy on their way
/// (Pingora's own 64 KiB are as long as its longest read, and every body is copied through them); and an idle connection
/// holds less.
const READ: usize = 16 << 10;
/// How long past the drain Pingora waits before it ends the process itself, should the drain be stuck.
const PAST_DRAIN: Duration = Duration::from_secs(10);

/// Serves until told to stop; comes back only if it cannot begin.
#[expect(clippy::print_stderr, reason = "there is no log yet, or none that would still be written")]
pub fn command(file: &Path, successor: Option<&Path>) -> ExitCode {
    match serve(file, successor) {
        Ok(never) => match never {},
        Err(lines) => {
            for line in lines {
                eprintln!("portolan: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

/// # Errors
/// A line for each thing that stands in the way.
fn serve(file: &Path, successor: Option<&Path>) -> Result<Infallible, Vec<String>> {
    let supervisor = Supervisor::of(&|name| std::env::var(name).ok());
    let predecessor = successor.map(|_| Predecessor::of_input()).transpose();
    let predecessor =
        predecessor.map_err(|error| vec![format!("a successor is started by the process that it follows: {error}")])?;
    let live = Arc::new(Live::default());
    let loaded = load::snapshot(file, &live)?;
    let snapshot = Arc::new(loaded);
    let metrics = Metrics::new();
    telemetry::log::init(&snapshot.log, &metrics)
        .map_err(|error| vec![format!("the log cannot be set up: {error}")])?;
    telemetry::events::in_force(&metrics, &snapshot.version);
    let supervisor = Arc::new(supervisor.unwrap_or_else(|error| {
        tracing::warn!(%error, "NOTIFY_SOCKET leads to nobody: no service manager is told anything");
        Supervisor::default()
    }));
    let journal = Journal::open(&snapshot.state_dir)
        .map_err(|error| vec![format!("the journal in {} cannot be opened: {error}", snapshot.state_dir.display())])?;
    let journal = Arc::new(journal);
    let ledger = Ledger::open(&snapshot.state_dir, journal.clone())
        .map_err(|error| vec![format!("the ledger in {} cannot be opened: {error}", snapshot.state_dir.display())])?;
    let responses = Responses::open(&snapshot.state_dir).map_err(|error| {
        vec![format!("the kept responses in {} cannot be opened: {error}", snapshot.state_dir.display())]
    })?;
    let responses = Arc::new(responses);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let now = u64::try_from(now).unwrap_or(u64::MAX);
    let given = super::admin_token::given(&super::outside()).map_err(|message| vec![message])?;
    let (follower, first) = register(&snapshot, given.is_some(), now)?;
    let directory = follower.directory.clone();
    let shared =
        Shared::new(snapshot.clone(), live.clone(), directory.clone(), journal, Arc::new(ledger), responses, metrics);

    // Before anybody is listened to: no budget is forgotten for a moment, and nothing is late for having to be made.
    budgets::restore(&shared);
    shared.sides.prepare(&snapshot);

    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = snapshot.threads.unwrap_or(cores);
    let grace = (snapshot.drain + PAST_DRAIN).as_secs();
    let conf = ServerConf {
        threads,
        grace_period_seconds: Some(grace),
        graceful_shutdown_timeout_seconds: Some(1),
        upgrade_sock: successor.unwrap_or(Path::new("")).display().to_string(),
        pid_file: snapshot.state_dir.join("portolan.pid").display().to_string(),
        // The plan of each call is the real limit.
        max_retries: 64,
        upstream_keepalive_pool_size: 512,
        ..ServerConf::default()
    };
    let options = pingora::server::configuration::Opt { upgrade: successor.is_some(), ..Default::default() };
    let mut server = Server::new_with_opt_and_conf(Some(options), conf);
    // A successor is given the listeners here: all that can fail before has not.
    server.bootstrap();

    // No HTTP/2 with prior knowledge on the plain port: Pingora would read 24 bytes of each connection, without a bound in
    // time, to look for its preface.
    let gateway = Lingering::new(&server.configuration, Gateway::new(shared.clone()));
    let mut data = Service::new("data".to_owned(), gateway);
    for address in &snapshot.listen {
        let mut options = TcpSocketOptions::default();
        options.tcp_keepalive = Some(probes());
        let listener = ListenerConfig::tcp(address.to_string()).tcp_socket_options(options);
        data.add_listener(listener.l4_buffer(L4BufferSettings::default().read(READ)));
    }
    server.add_service(data);

    let mut admin = Service::new(
        "admin".to_owned(),
        Admin::new(
            Arc::new(Window(shared.clone())),
            directory.clone(),
            follower.clone(),
            shared.ledger.clone(),
            snapshot.admin,
            given,
        ),
    );
    admin.threads = Some(1);
    admin.add_tcp(&snapshot.admin.to_string());
    server.add_service(admin);

    server.add_service(background_service("drain", Drain { shared: shared.clone(), supervisor: supervisor.clone() }));
    server.add_service(background_service("following", Following { shared: shared.clone(), follower }));
    server.add_service(background_service("retention", Retention { shared: shared.clone() }));
    server.add_service(background_service("resolver", Resolver { shared: shared.clone() }));
    server.add_service(background_service("tokens", Keeping::<Holder>::new(shared.clone())));
    server.add_service(background_service("issuers", Keeping::<KeyHolder>::new(shared.clone())));
    server.add_service(background_service("prober", Prober { shared: shared.clone() }));
    server.add_service(background_service("budgets", Keeper { shared: shared.clone() }));
    let told = Alerts::open(&snapshot.state_dir).map_err(|error| {
        vec![format!("what alerts were told in {} cannot be opened: {error}", snapshot.state_dir.display())]
    })?;
    server.add_service(background_service("alerts", Teller::new(shared.clone(), Arc::new(told))));
    let source = Arc::new(Files::new(file, &snapshot, live));
    server.add_service(background_service(
        "reloader",
        Reloader { shared: shared.clone(), source, supervisor: supervisor.clone() },
    ));
    if let Some(address) = snapshot.sandbox {
        // A predecessor listens there: it gives its own.
        let listener = if successor.is_some() { None } else { Some(std::net::TcpListener::bind(address)) };
        let listener =
            listener.transpose().map_err(|error| vec![format!("the sandbox cannot listen on {address}: {error}")])?;
        server.add_service(Sandbox { address, listener });
    }
    let succession = Succession::new(
        file,
        &snapshot.state_dir,
        supervisor.clone(),
        shared.metrics.clone(),
        shared.succeeded.clone(),
    );
    match succession {
        Ok(succession) => drop(server.add_service(succession)),
        Err(error) => tracing::warn!(%error, "which program this is cannot be found out: no other can take over"),
    }
    if let Some(address) = snapshot.listen.first().copied() {
        let vigil = Vigil { shared: shared.clone(), supervisor, address, predecessor: predecessor.into() };
        server.add_service(background_service("vigil", vigil));
    }
    let ends = Ends { succeeded: shared.succeeded.subscribe() };
    super::greeting::say(&snapshot, file, directory.len(), first.as_deref());
    // What it holds is given up when another one is in force.
    drop(snapshot);
    server.run(RunArgs { shutdown_signal: Box::new(ends) });
    std::process::exit(0)
}

/// Opens what is stored of keys and administrators, reads it, and makes the first administrator's token where there is
/// none: the second value, to be shown.
fn register(snapshot: &Arc<Snapshot>, given: bool, now: u64) -> Result<(Arc<Follower>, Option<String>), Vec<String>> {
    let fail = |what: &dyn std::fmt::Display| {
        vec![format!("the register of keys in {} cannot be used: {what}", snapshot.state_dir.display())]
    };
    let (register, aside) = Sqlite::open(&snapshot.state_dir, now / 1_000).map_err(|error| fail(&error))?;
    if let Some(aside) = aside {
        tracing::error!(
            aside = %aside.display(),
            "the register of keys was damaged: it was moved aside, and its keys are refused until a good copy is put back"
        );
    }
    let first =
        if given { None } else { super::admin_token::bootstrap(&register, now).map_err(|error| fail(&error))? };
    let directory = Arc::new(Directory::new(snapshot.clone()));
    let follower = Arc::new(Follower::new(Arc::new(register), directory));
    follower.catch_up(now / 1_000).map_err(|error| fail(&error))?;
    Ok((follower, first))
}

/// What the kernel does about a caller whose machine has vanished: two minutes of silence end its connection.
fn probes() -> TcpKeepalive {
    TcpKeepalive {
        idle: Duration::from_secs(60),
        interval: Duration::from_secs(15),
        count: 4,
        #[cfg(target_os = "linux")]
        user_timeout: Duration::from_secs(120),
    }
}

/// The configuration's files.
struct Files {
    file: PathBuf,
    all: std::sync::Mutex<Vec<PathBuf>>,
    /// Unix seconds from which a model costs something else.
    repriced: std::sync::Mutex<Option<u64>>,
    live: Arc<Live>,
}

impl Files {
    fn new(file: &Path, snapshot: &Snapshot, live: Arc<Live>) -> Files {
        let (files, repriced) = (snapshot.index.files.clone(), snapshot.index.repriced);
        Files {
            file: file.to_owned(),
            all: std::sync::Mutex::new(files),
            repriced: std::sync::Mutex::new(repriced),
            live,
        }
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<PathBuf>> {
        self.all.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Source for Files {
    fn fingerprint(&self) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        for file in self.all().iter() {
            let meta = std::fs::metadata(file).ok()?;
            meta.len().hash(&mut hasher);
            meta.modified().ok()?.hash(&mut hasher);
        }
        // The day on which a model costs something else is a change too.
        let repriced = *self.repriced.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        repriced.is_some_and(|from| load::now() >= from).hash(&mut hasher);
        Some(hasher.finish())
    }

    fn load(&self) -> Result<Snapshot, Vec<String>> {
        let snapshot = load::snapshot(&self.file, &self.live)?;
        *self.all() = snapshot.index.files.clone();
        *self.repriced.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = snapshot.index.repriced;
        Ok(snapshot)
    }
}

/// What the admin port sees of the data plane.
struct Window(Arc<Shared>);

#[async_trait]
impl View for Window {
    fn metrics(&self) -> String {
        let shared = &self.0;
        shared.metrics.set_in_flight(shared.in_flight());
        shared.metrics.set_waiting(shared.lines.waiting());
        shared.metrics.set_buffered(shared.buffered.bytes());
        shared.metrics.set_ledger_lag(shared.ledger.lag());
        let (journal, ledger) = (shared.journal.figures(), shared.ledger.figures());
        shared.metrics.set_store(&telemetry::StoreSeen {
            appended: journal.appended,
            failed: journal.errors,
            lost: journal.lost,
            kept: journal.kept,
            healthy: shared.journal.healthy(),
            ledger_failures: ledger.errors,
            orphaned: ledger.orphaned,
            damaged: ledger.damaged,
            rebuilt: ledger.rebuilt,
        });
        let spendings = shared.live.spendings().all();
        shared.metrics.set_budgets(spendings.iter().map(|spending| &**spending), shared.now().unix_ms);
        let now = shared.now().mono;
        for model in shared.served().snapshot.models.values() {
            for target in &model.targets {
                let cooling = matches!(target.vitals.breaker.gate(now), Gate::Open { .. });
                shared.metrics.set_target_state(&target.target.id, cooling);
            }
        }
        shared.metrics.render()
    }

    fn targets(&self) -> Vec<u8> {
        let shared = &self.0;
        let now = shared.now();
        let served = shared.served();
        let mut models: Vec<_> = served.snapshot.models.values().collect();
        models.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut out = Vec::new();
        writer::object(&mut out, |o| {
            o.string("config_version", &served.snapshot.version);
            o.array("targets", |a| {
                for model in models {
                    for target in &model.targets {
                        a.object(|o| {
                            o.string("model", &model.name);
                            super::targets::write(target, now, o);
                        });
                    }
                }
            });
        });
        out
    }

    fn request(&self, id: &str) -> Option<Vec<u8>> {
        let explanations = &self.0.explanations;
        if self.0.served().snapshot.explain.is_none() {
            explanations.clear();
            return None;
        }
        // As `x-portolan-request-id` has it.
        let digits: String = id.chars().filter(|c| *c != '-').take(33).collect();
        explanations.find(u128::from_str_radix(&digits, 16).ok()?)
    }

    fn now(&self) -> Moment {
        self.0.now()
    }

    fn new_id(&self) -> String {
        self.0.new_id(self.0.now()).to_string()
    }

    async fn administrator(&self, credential: &str) -> Result<Administrator, Denied> {
        bearers::administrator(&self.0, credential).await
    }

    fn ready(&self) -> Result<(), &'static str> {
        if *self.0.stopping.borrow() {
            return Err("draining");
        }
        if self.0.journal.healthy() { Ok(()) } else { Err("ledger_unavailable") }
    }
}

/// The sandbox provider, in this process.
struct Sandbox {
    address: SocketAddr,
    listener: Option<std::net::TcpListener>,
}

impl Sandbox {
    /// As it is known to who takes it over.
    fn name(&self) -> String {
        format!("sandbox/{}", self.address)
    }
}

#[async_trait]
impl pingora::services::Service for Sandbox {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        Some(vec![self.name()])
    }

    async fn start_service(&mut self, fds: Option<ListenFds>, mut shutdown: ShutdownWatch, _: usize) {
        let (address, own) = (self.address, self.listener.take());
        let make = || own.map_or_else(|| std::net::TcpListener::bind(address), Ok);
        let listener = succession::listener(fds.as_ref(), &Sandbox::name(self), make)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .and_then(tokio::net::TcpListener::from_std);
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(address = %self.address, %error, "the sandbox cannot listen");
                return;
            }
        };
        sandbox::serve(listener, async move {
            // It goes on serving while the gateway drains: its streams are among those waited for.
            let _ = shutdown.wait_for(|stop| *stop).await;
            std::future::pending::<()>().await;
        })
        .await;
    }
}
