//! What the compiler says where `.until_response()` was forgotten.
//!
//! Wherever a service is asked for, as here, it says what to do. Only a method
//! that is called on the gated service itself hides that behind "method cannot
//! be called": then the compiler looks for a method and not for a bound.

#[test]
fn a_forgotten_until_response_says_what_to_do() {
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}
