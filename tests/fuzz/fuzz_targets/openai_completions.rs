#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| portolan_fuzz::dialect("openai_completions", input));
