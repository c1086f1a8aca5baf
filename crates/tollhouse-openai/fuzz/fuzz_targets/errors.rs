#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tollhouse_openai_fuzz::errors(input));
