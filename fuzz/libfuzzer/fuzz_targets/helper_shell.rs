#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runbook_fuzz::target("helper_shell")(data));
