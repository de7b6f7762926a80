//! A-23: names that do not resolve, resolve late, or to addresses that are dead.
//!
//! The resolver is the system's; a library of a few lines, loaded before it, answers in its place by a file.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::case::{Outcome, QUICK, Setting, figure, good};
use crate::gateway::free_port;
use crate::voices::Voice;

/// `getaddrinfo` for names under `.test`: the file named by `NAMES` has a line for each, with addresses or with
/// `fail`. Everything else is asked of the system.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
    size_t length = node ? strlen(node) : 0;
    if (length < 5 || strcmp(node + length - 5, ".test")) return real(node, service, hints, found);
    FILE *file = fopen(getenv("NAMES"), "r");
    char line[512];
    *found = NULL;
    while (file && fgets(line, sizeof line, file)) {
        char *word = strtok(line, " \n");
        if (!word || strcmp(word, node)) continue;
        struct addrinfo **end = found;
        while ((word = strtok(NULL, " \n"))) {
            if (!strcmp(word, "late")) { sleep(20); continue; }
            struct addrinfo numeric = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
            if (real(word, service, &numeric, end)) continue;
            while (*end) end = &(*end)->ai_next;
        }
    }
    if (file) fclose(file);
    return *found ? 0 : EAI_NONAME;
}
"#;

fn shim(dir: &Path) -> String {
    let (source, library) = (dir.join("names.c"), dir.join("names.so"));
    fs::write(&source, SHIM).unwrap();
    let built = Command::new("gcc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    library.display().to_string()
}

#[test]
fn a_23_names_that_fail_are_gone_around_and_the_last_good_addresses_kept() {
    let dir = tempfile::tempdir().unwrap();
    let names = dir.path().join("names");
    let (one, two) = (good(Voice::Chat), good(Voice::Messages));
    let port = one.addr.port();
    let closed = free_port();
    fs::write(&names, "good.test 127.0.0.1\nlate.test late 127.0.0.1\nmixed.test 127.0.0.2 127.0.0.3 127.0.0.1\n")
        .unwrap();
    let case = Setting::new()
        .nowhere("unknown", Voice::Chat, &format!("unknown.test:{closed}"))
        .model(", fallback: [backup]")
        .nowhere("late", Voice::Chat, &format!("late.test:{closed}"))
        .model(", fallback: [backup]")
        .at("good", Voice::Chat, &format!("good.test:{port}"), &one)
        .model(", fallback: [backup]")
        .up("backup", Voice::Messages, &two)
        .env("LD_PRELOAD", &shim(dir.path()))
        .env("NAMES", &names.display().to_string())
        .more(&QUICK.replace("total: 8s", "total: 10s"))
        .start();
    for (model, longest) in [("unknown", Duration::from_secs(1)), ("late", Duration::from_secs(8))] {
        let told = case.stream(model);
        told.whole_from("backup", 2);
        assert!(told.took < longest, "{model}: {:?}", told.took);
        figure("A-23", &format!("{model}: rescued after {:?}", told.took));
        case.keep(told);
    }
    // A name that was good and is forgotten: what was known goes on being used.
    for forgotten in [false, true] {
        if forgotten {
            fs::write(&names, "").unwrap();
        }
        for _ in 0..5 {
            let told = case.stream("good");
            told.whole_from("good", 1);
            case.keep(told);
        }
    }
    figure("A-23", "a resolver that forgets a name: 0 of 5 calls failed");
    case.close();

    // Two of three addresses are dead: a try at the next one, no call lost.
    let case = Setting::new()
        .at("alias", Voice::Chat, &format!("mixed.test:{port}"), &one)
        .env("LD_PRELOAD", &shim(dir.path()))
        .env("NAMES", &names.display().to_string())
        // Every call needs up to three attempts, for ever: the budget of attempts would end that, and here it is wanted.
        .more(&QUICK.replace("tries: 1", "tries: 3, budget: { ratio: 1, per_minute: 1000, burst: 100 }"));
    fs::write(&names, "mixed.test 127.0.0.2 127.0.0.3 127.0.0.1\n").unwrap();
    let case = case.start();
    let before = one.count();
    let mut longest = Duration::ZERO;
    for _ in 0..12 {
        let told = case.chat("alias");
        assert_eq!(told.outcome, Outcome::Whole, "{}", told.got);
        longest = longest.max(told.took);
        case.keep(told);
    }
    assert!(one.count() >= before + 12);
    figure("A-23", &format!("two of three addresses dead: 12 of 12 answered, the longest after {longest:?}"));
    drop(case);
}
