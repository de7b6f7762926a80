#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| portolan::wire::laws::event_stream(input));
