//! What is printed: sections of lines, and the targets at the end.

/// Begins a section.
pub(crate) fn section(title: &str, columns: &str) {
    println!("\n{title}\n  {columns}");
}

/// What was promised, beside what was measured.
#[derive(Default)]
pub(crate) struct Targets(Vec<Target>);

struct Target {
    name: String,
    measured: f64,
    at_most: f64,
    unit: &'static str,
}

impl Targets {
    pub(crate) fn add(
        &mut self,
        name: impl Into<String>,
        measured: f64,
        at_most: f64,
        unit: &'static str,
    ) {
        self.0.push(Target {
            name: name.into(),
            measured,
            at_most,
            unit,
        });
    }

    /// The last table. A quick run shows only that everything runs.
    pub(crate) fn print(&self, quick: bool) {
        let columns = format!("{:<46}{:>10}{:>14}", "", "measured", "at most");
        section("targets", &columns);
        for target in &self.0 {
            let Target {
                name,
                measured,
                at_most,
                unit,
            } = target;
            let verdict = match measured <= at_most {
                _ if quick => "",
                true => "met",
                false => "MISSED",
            };
            println!("  {name:<46}{measured:>10.2}{at_most:>8.1} {unit:<5}  {verdict}");
        }
        if quick {
            println!("  a quick run: too short for its numbers to mean anything");
        }
    }
}

/// Whether this is a smoke test: asked for by `--quick`, or run by anything
/// but `cargo bench`.
pub(crate) fn quick() -> bool {
    is_asked("--quick") || !is_asked("--bench")
}

pub(crate) fn is_asked(flag: &str) -> bool {
    std::env::args().any(|argument| argument == flag)
}
