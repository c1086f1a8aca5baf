//! A request whose body a policy cannot take.

use tollhouse_openai::call::CallBody;

fn call(_: impl CallBody) {}

fn main() {
    call(String::from("{}"));
}
