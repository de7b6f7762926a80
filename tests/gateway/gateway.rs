//! The real binary, started for one test with a state directory and ports of its own.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::client::{self, Connection, Response};

/// Secrets of the two callers that [`keys`] lets in.
pub const SECRET: &str = "pk-test-Jb3vQ0cZr7Hn2LwXs9Ty";
pub const OTHER_SECRET: &str = "pk-test-other-K4mPd8Fq1Ga6";
/// The key of the scripted providers.
pub const PROVIDER_KEY: &str = "sk-provider-5Tz8Vn3Rk0";

pub const BINARY: &str = env!("CARGO_BIN_EXE_portolan");

/// How long a gateway may take to be ready, on a busy machine.
const READY: Duration = Duration::from_secs(30);

pub fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The `keys` section of a configuration: `main` may use everything, `other` only models called `open*`.
pub fn keys() -> String {
    format!(
        "keys:\n  - {{ id: main, secret_sha256: \"{}\", models: [\"*\"] }}\n  \
         - {{ id: other, secret_sha256: \"{}\", models: [\"open*\"] }}\n",
        sha256(SECRET),
        sha256(OTHER_SECRET)
    )
}

/// The row of a provider that speaks OpenAI's dialect at that base URL.
pub fn provider(name: &str, base_url: &str) -> String {
    format!("  {name}: {{ dialect: openai_chat, base_url: \"{base_url}\", api_key: \"{PROVIDER_KEY}\" }}\n")
}

/// A configuration with one model for each name and base URL: provider `NAME-provider`, target model `NAME-real`.
pub fn config(models: &[(&str, &str)], more: &str) -> String {
    let providers: String = models.iter().map(|(name, url)| provider(&format!("{name}-provider"), url)).collect();
    let rows: String = models
        .iter()
        .map(|(name, _)| format!("  {name}: {{ targets: [{{ provider: {name}-provider, model: {name}-real }}] }}\n"))
        .collect();
    format!("providers:\n{providers}models:\n{rows}{}{more}", keys())
}

/// A free port below the range from which the system gives ports away by itself: nobody takes it meanwhile.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 10_000 + u16::try_from(std::process::id() % 200).unwrap() * 100;
    for _ in 0..20_000 {
        let port = 10_000 + (start - 10_000 + NEXT.fetch_add(1, Ordering::SeqCst)) % 20_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

pub struct Gateway {
    pub data: SocketAddr,
    pub admin: SocketAddr,
    child: Child,
    /// Holds configuration, log and, below `state`, what it keeps.
    pub dir: Arc<tempfile::TempDir>,
    /// Command line of the next start.
    file: PathBuf,
    head: String,
    env: Vec<(String, String)>,
}

impl Gateway {
    /// Starts a gateway; the configuration lacks `listen`, `admin` and `state_dir`, which are put before it.
    #[track_caller]
    pub fn start(config: &str) -> Gateway {
        Gateway::start_in(config, &[])
    }

    /// The same, with these environment variables.
    #[track_caller]
    pub fn start_in(config: &str, env: &[(&str, &str)]) -> Gateway {
        Gateway::start_with(config, env, "")
    }

    /// The same, with more fields of `admin`, each with a comma before it.
    #[track_caller]
    pub fn start_with(config: &str, env: &[(&str, &str)], admin_fields: &str) -> Gateway {
        let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (data, admin) = (local(free_port()), local(free_port()));
        let dir = tempfile::tempdir().unwrap();
        let head = format!(
            "listen: {data}\nadmin: {{ listen: \"{admin}\"{admin_fields} }}\nstate_dir: {}\n",
            dir.path().join("state").display()
        );
        fs::create_dir(dir.path().join("state")).unwrap();
        let file = dir.path().join("portolan.yaml");
        fs::write(&file, format!("{head}{config}")).unwrap();
        let dir = Arc::new(dir);
        let child = spawn(&file, dir.path(), &env);
        let mut gateway = Gateway { data, admin, child, dir, file, head, env };
        gateway.wait_ready();
        gateway
    }

    /// Another gateway on the same state directory, with ports of its own.
    #[track_caller]
    pub fn beside(&self, config: &str) -> Gateway {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (data, admin) = (local(free_port()), local(free_port()));
        let head = format!("listen: {data}\nadmin: {{ listen: \"{admin}\" }}\nstate_dir: {}\n", self.state().display());
        let file = self.dir.path().join(format!("beside-{}.yaml", data.port()));
        fs::write(&file, format!("{head}{config}")).unwrap();
        let child = spawn(&file, self.dir.path(), &self.env);
        let mut other = Gateway { data, admin, child, dir: self.dir.clone(), file, head, env: self.env.clone() };
        other.wait_ready();
        other
    }

    /// Starts this program, which is the binary or another one in its place.
    #[track_caller]
    pub fn start_program(
        program: impl FnOnce(&Path) -> PathBuf,
        config: &str,
        env: impl FnOnce(&Path) -> Vec<(String, String)>,
    ) -> Gateway {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (data, admin) = (local(free_port()), local(free_port()));
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        let head = format!("listen: {data}\nadmin: {{ listen: \"{admin}\" }}\nstate_dir: {}\n", state.display());
        let file = dir.path().join("portolan.yaml");
        fs::write(&file, format!("{head}{config}")).unwrap();
        let (program, env) = (program(dir.path()), env(dir.path()));
        let child = spawn_as(&[&program.to_string_lossy()], &file, dir.path(), &env);
        let mut gateway = Gateway { data, admin, child, dir: Arc::new(dir), file, head, env };
        gateway.wait_ready();
        gateway
    }

    /// Starts a gateway whose state directory is a file system of that size, in a mount namespace of its own.
    #[track_caller]
    pub fn start_on_disk(config: &str, size: &str) -> Gateway {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (data, admin) = (local(free_port()), local(free_port()));
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        let head = format!("listen: {data}\nadmin: {{ listen: \"{admin}\" }}\nstate_dir: {}\n", state.display());
        let file = dir.path().join("portolan.yaml");
        fs::write(&file, format!("{head}{config}")).unwrap();
        let mount = format!("mount -t tmpfs -o size={size} tmpfs '{}' && exec \"$@\"", state.display());
        let child = spawn_as(&["unshare", "-m", "sh", "-c", &mount, "sh", BINARY], &file, dir.path(), &[]);
        let mut gateway = Gateway { data, admin, child, dir: Arc::new(dir), file, head, env: Vec::new() };
        gateway.wait_ready();
        gateway
    }

    /// The state directory as the process sees it.
    pub fn disk(&self) -> PathBuf {
        let state = self.state();
        Path::new("/proc").join(self.pid().to_string()).join("root").join(state.strip_prefix("/").unwrap())
    }

    /// Starts again a gateway that is not going to be ready.
    #[cfg(feature = "failpoints")]
    pub fn start_doomed(&mut self, env: &[(&str, &str)]) {
        assert!(self.child.try_wait().unwrap().is_some(), "it still runs");
        let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.child = spawn(&self.file, self.dir.path(), &env);
    }

    /// A variable of the environment from the next start on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Starts again, on the same ports and the same state, after a stop or a kill.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.child.try_wait().unwrap().is_some(), "it still runs");
        self.child = spawn(&self.file, self.dir.path(), &self.env);
        self.wait_ready();
    }

    #[track_caller]
    fn wait_ready(&mut self) {
        let deadline = Instant::now() + READY;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the gateway ended at its start ({status}):\n{}", self.logs());
            }
            let connects = |to| TcpStream::connect_timeout(to, Duration::from_millis(200)).is_ok();
            let up = connects(&self.data) && connects(&self.admin);
            if up && client::get(self.data, "/health/ready", &[("connection", "close")]).status == 200 {
                return;
            }
            assert!(Instant::now() < deadline, "the gateway is not ready:\n{}", self.logs());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Writes another configuration, without any signal.
    pub fn rewrite(&self, config: &str) {
        // Replaced whole, as editors and configuration tools do.
        let next = self.dir.path().join("next.yaml");
        fs::write(&next, format!("{}{config}", self.head)).unwrap();
        fs::rename(next, &self.file).unwrap();
    }

    /// Writes another configuration and tells the gateway to read it.
    pub fn reload(&self, config: &str) {
        self.rewrite(config);
        self.signal(libc::SIGHUP);
    }

    pub fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.child.id()).unwrap();
        // SAFETY: no memory is involved, and the child was not waited for, so that its id is its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "signal {signal} to {pid}");
    }

    /// Asks it to stop and waits for its end.
    #[track_caller]
    pub fn stop(&mut self, time: Duration) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.wait_end(time)
    }

    #[track_caller]
    pub fn wait_end(&mut self, time: Duration) -> ExitStatus {
        let deadline = Instant::now() + time;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the gateway does not end:\n{}", self.logs());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it without a chance to do anything.
    pub fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its state directory.
    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Everything it wrote so far, over all its starts.
    pub fn logs(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// A chat completion as the caller `main`.
    #[track_caller]
    pub fn chat(&self, body: &Value) -> Response {
        self.chat_with(&[], body.to_string())
    }

    #[track_caller]
    pub fn chat_with(&self, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Response {
        let bearer = format!("Bearer {SECRET}");
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        client::post(self.data, "/v1/chat/completions", &all, body)
    }

    /// The text of a request for a chat completion on a connection that is kept.
    pub fn chat_request(&self, body: &Value) -> Vec<u8> {
        let bearer = format!("Bearer {SECRET}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        client::request("POST", "/v1/chat/completions", &headers, body.to_string().as_bytes())
    }

    /// The token that the first start printed.
    pub fn token(&self) -> String {
        let logs = self.logs();
        let shown = logs.split_whitespace().find(|word| word.starts_with("pa-"));
        shown.unwrap_or_else(|| panic!("no token was printed:\n{logs}")).to_owned()
    }

    /// A request to the admin API with a token; an empty one sends none. A body of `null` is none.
    #[track_caller]
    pub fn admin(&self, token: &str, method: &str, path: &str, body: &Value) -> Response {
        self.admin_with(token, method, path, &[], body)
    }

    #[track_caller]
    pub fn admin_with(&self, token: &str, method: &str, path: &str, more: &[(&str, &str)], body: &Value) -> Response {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("connection", "close")];
        if !token.is_empty() {
            headers.push(("authorization", &bearer));
        }
        let text = if body.is_null() { String::new() } else { body.to_string() };
        if !text.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        headers.extend_from_slice(more);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/admin/v1/{path}") };
        Connection::open(self.admin).exchange(&client::request(method, &path, &headers, text.as_bytes()))
    }

    /// Makes a key by the admin API and gives its secret.
    #[track_caller]
    pub fn make_key(&self, token: &str, body: &Value) -> String {
        let got = self.admin(token, "POST", "keys", body);
        assert_eq!(got.status, 201, "{got}");
        got.json()["secret"].as_str().unwrap().to_owned()
    }

    /// The status of a chat completion with this secret.
    pub fn status_of(&self, secret: &str, model: &str) -> u16 {
        let bearer = format!("Bearer {secret}");
        let headers = [("authorization", bearer.as_str()), ("connection", "close")];
        client::post(self.data, "/v1/chat/completions", &headers, ask(model, "x").to_string()).status
    }

    /// The caller's own usage.
    #[track_caller]
    pub fn usage(&self, secret: &str) -> Value {
        let bearer = format!("Bearer {secret}");
        let got = client::get(self.data, "/v1/usage", &[("authorization", &bearer), ("connection", "close")]);
        assert_eq!(got.status, 200, "{got}");
        got.json()
    }

    /// Waits until that many attempts of `main` are counted and no call is under way, and gives the total usage. An
    /// attempt is counted when it begins; its tokens are known when it is over, a moment after the caller has the end.
    #[track_caller]
    pub fn settled(&self, attempts: u64) -> Value {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let total = self.usage(SECRET)["total"].clone();
            let enough = total["attempts"].as_u64().is_some_and(|now| now >= attempts);
            if enough && self.metric("portolan_requests_in_flight", &[]) == 0.0 {
                return self.usage(SECRET)["total"].clone();
            }
            assert!(Instant::now() < deadline, "never {attempts} attempts, all over: {total}\n{}", self.logs());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs a command of the binary with this gateway's configuration.
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let output = command.args(arguments).arg("--config").arg(&self.file).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same as an administrator.
    #[track_caller]
    pub fn command_as(&self, token: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
        command.env("PORTOLAN_ADMIN_TOKEN", token);
        let output = command.args(arguments).arg("--config").arg(&self.file).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The ledger's attempts by these columns, a line each, values with a space between: "main ok 2".
    #[track_caller]
    pub fn ledger(&self, by: &str) -> Vec<String> {
        // What is in the journal is in the ledger once the caller's usage was read.
        self.usage(SECRET);
        let table: Value = serde_json::from_str(&self.command(&["usage", "--json", "--by", by])).unwrap();
        let mut rows: Vec<String> = table["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let value = |name: &str| row[name].as_str().filter(|value| !value.is_empty()).unwrap_or("-").to_owned();
                let values: Vec<_> = by.split(',').map(value).collect();
                format!("{} {}", values.join(" "), row["attempts"])
            })
            .collect();
        rows.sort_unstable();
        rows
    }

    #[track_caller]
    pub fn metrics(&self) -> String {
        let got = client::get(self.admin, "/metrics", &[("connection", "close")]);
        assert_eq!(got.status, 200, "{got}");
        got.text().to_owned()
    }

    /// Sum of a metric over all series whose labels contain each of these texts.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.metrics();
        assert!(text.contains(&format!("# TYPE {name} ")), "no metric {name}:\n{text}");
        let series = text.lines().filter(|line| {
            let rest = line.strip_prefix(name).unwrap_or("x");
            rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label))
        });
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

fn spawn(file: &Path, dir: &Path, env: &[(String, String)]) -> Child {
    spawn_as(&[BINARY], file, dir, env)
}

/// Starts this command, which ends in the binary.
fn spawn_as(words: &[&str], file: &Path, dir: &Path, env: &[(String, String)]) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("log")).unwrap();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    // A developer's own keys must not bring providers to life.
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("RUST_BACKTRACE", "1");
    command.envs(env.iter().map(|(name, value)| (name, value)));
    command.args(["run", "--config"]).arg(file).current_dir(dir);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- what the gateway wrote ---\n{}---", self.logs());
        }
    }
}

/// A request for a chat completion.
pub fn ask(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}]})
}

/// The same, streamed.
pub fn ask_stream(model: &str, text: &str) -> Value {
    json!({"model": model, "stream": true, "messages": [{"role": "user", "content": text}]})
}
