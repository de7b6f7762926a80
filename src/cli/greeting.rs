//! What a person sees at start: where it listens, which providers are live, which lack a key, and that it is ready.

use std::path::Path;

use crate::config::Snapshot;

#[expect(clippy::print_stderr, reason = "this is the command line speaking to the person who started it")]
pub fn say(snapshot: &Snapshot, file: &Path, stored: usize, first: Option<&str>) {
    let listen: Vec<_> = snapshot.listen.iter().map(|address| format!("http://{address}")).collect();
    eprintln!("portolan {} with {} (version {})", env!("CARGO_PKG_VERSION"), file.display(), snapshot.version);
    eprintln!("  serving    {}", listen.join(", "));
    eprintln!("  admin      http://{} (/metrics, /health/ready, /admin/targets)", snapshot.admin);
    if let Some(sandbox) = snapshot.sandbox {
        eprintln!("  sandbox    http://{sandbox} (a scripted provider, no key needed)");
    }
    for provider in &snapshot.providers {
        let models = snapshot
            .models
            .values()
            .filter(|model| model.targets.iter().any(|target| target.target.provider.id == provider.id))
            .count();
        eprintln!("  live       {} ({}, {models} models)", provider.id, provider.dialect.name);
    }
    for (provider, variable) in &snapshot.asleep {
        eprintln!("  no key     {provider}: set {variable} to bring it to life");
    }
    for remark in &snapshot.index.remarks {
        eprintln!("  note       {remark}");
    }
    if let Some(token) = first {
        eprintln!("  token      {token}");
        eprintln!(
            "             (the first administrator's, an owner; shown only now: make others with `portolan tokens create`)"
        );
    }
    eprintln!("  ready      {} models, {} keys", snapshot.models.len(), snapshot.keys.len() + stored);
}
