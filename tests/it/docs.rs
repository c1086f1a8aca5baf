//! The documents against the code: links, pages, variables, flags, metrics.
//! (Their Rust is compiled by the crates' own documentation tests.)

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tollhouse_openai::{Limit, Policy};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page of the repository, by its path from the root.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            if path.is_dir() && name != "target" && name != "data" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".md") {
                let text = fs::read_to_string(&path).expect("a page");
                let from_root = path.strip_prefix(root()).expect("inside").to_owned();
                pages.push((from_root, text));
            }
        }
    }
    assert!(pages.len() > 25, "{pages:?}");
    pages
}

/// The lines outside of code blocks, numbered.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        (!inside && !fence).then_some((number + 1, line))
    })
}

/// What is between `(` and `)` after a `]`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
}

/// As GitHub makes a heading's anchor.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for (page, text) in pages() {
        for (number, line) in prose(&text) {
            for link in links(line).filter(|link| !link.contains("://")) {
                let (path, place) = link.split_once('#').unwrap_or((link, ""));
                let folder = root().join(&page).parent().expect("a folder").to_owned();
                let target = match path {
                    "" => root().join(&page),
                    path => folder.join(path),
                };
                let has = |text: String| {
                    let mut headings = prose(&text).filter(|(_, line)| line.starts_with('#'));
                    headings.any(|(_, line)| anchor(line) == place)
                };
                let found = match place {
                    "" => target.exists(),
                    _ => fs::read_to_string(&target).is_ok_and(has),
                };
                if !found {
                    broken.push(format!("{}:{number}: {link}", page.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_page_of_the_documents_is_in_an_index() {
    for index in ["docs/README.md", "docs/decisions/README.md"] {
        let folder = Path::new(index).parent().expect("a folder");
        let text = fs::read_to_string(root().join(index)).expect("an index");
        let named: BTreeSet<_> = prose(&text).flat_map(|(_, line)| links(line)).collect();
        for (page, _) in pages() {
            let Ok(inside) = page.strip_prefix(folder) else {
                continue;
            };
            let own = page == Path::new(index);
            let other = folder == Path::new("docs") && inside.starts_with("decisions");
            let name = inside.to_str().expect("text");
            assert!(
                own || other || named.contains(name),
                "{index} does not name {name}"
            );
        }
    }
}

/// The rows `| `NAME` ... | default |` of the first table that has variables.
fn variables(page: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join(page)).expect("a page");
    let row = |line: &str| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let name = cells
            .next()?
            .strip_prefix('`')?
            .strip_suffix('`')?
            .to_owned();
        let is_one = name.starts_with("OPENAI_") && !name.contains('`');
        is_one.then(|| (name, cells.next().unwrap_or_default().to_owned()))
    };
    text.lines().filter_map(row).collect()
}

/// The tables name every variable, and a policy with their defaults is the
/// default policy.
#[test]
fn tables_of_variables_are_the_policys() {
    let error = Policy::from_vars(|_| Some("wrong".to_owned())).expect_err("nothing is good");
    let known: Vec<_> = error
        .settings()
        .iter()
        .map(|v| v.name().to_owned())
        .collect();
    for page in ["README.md", "docs/guide/policy.md"] {
        let told = variables(page);
        let names: Vec<_> = told.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names, known, "{page}");
        let told = Policy::from_vars(|name| {
            let (_, default) = told.iter().find(|(told, _)| told == name)?;
            (default != "unset").then(|| default.clone())
        });
        let (told, default) = (told.expect("good values"), Policy::default());
        assert_eq!(
            told.config().max_concurrency,
            default.config().max_concurrency
        );
        assert_eq!(told.config().stagger, default.config().stagger);
        assert_eq!(
            told.config().tokens_per_minute,
            default.config().tokens_per_minute
        );
        assert_eq!(
            told.config().requests_per_minute,
            default.config().requests_per_minute
        );
        assert_eq!(told.config().headroom, default.config().headroom);
        assert_eq!(
            told.config().est_tokens_per_run,
            default.config().est_tokens_per_run
        );
        assert_eq!(
            told.config().retry_max_attempts,
            default.config().retry_max_attempts
        );
        assert_eq!(told.config().backoff_base, default.config().backoff_base);
    }
}

type Set = fn(Policy) -> Policy;

/// Every setter of a policy is in one of the guide's two tables, and sets what its
/// variable sets.
#[test]
fn tables_of_setters_are_the_policys() {
    let by_variable: [(&str, &str, Set); 8] = [
        ("max_concurrency", "7", |p| p.max_concurrency(7)),
        ("stagger", "1.5", |p| {
            p.stagger(Duration::from_millis(1_500))
        }),
        ("tpm_limit", "auto", |p| p.tpm_limit(Limit::Auto)),
        ("rpm_limit", "60", |p| p.rpm_limit(Limit::per_minute(60))),
        ("headroom", "0.25", |p| p.headroom(0.25)),
        ("est_tokens", "900", |p| p.est_tokens(900)),
        ("max_attempts", "2", |p| p.max_attempts(2)),
        ("backoff_base", "0.5", |p| {
            p.backoff_base(Duration::from_millis(500))
        }),
    ];
    let page = fs::read_to_string(root().join("docs/guide/policy.md")).expect("a page");
    let numbers = |p: &Policy| {
        (
            (
                p.config().max_concurrency,
                p.config().stagger,
                p.config().tokens_per_minute,
            ),
            (
                p.config().requests_per_minute,
                p.config().headroom,
                p.config().est_tokens_per_run,
            ),
            (p.config().retry_max_attempts, p.config().backoff_base),
        )
    };
    for (setter, value, set) in by_variable {
        let row = page
            .lines()
            .find(|line| line.contains(&format!("| `{setter}` |")));
        let row = row.unwrap_or_else(|| panic!("no row tells of `{setter}`"));
        let variable = row.split('`').nth(1).expect("a variable");
        let read = Policy::from_vars(|name| (name == variable).then(|| value.to_owned()));
        let read = read.expect("a good value");
        assert_eq!(numbers(&read), numbers(&set(Policy::default())), "{setter}");
        assert_ne!(numbers(&read), numbers(&Policy::default()), "{setter}");
    }
    let path = root().join("crates/tollhouse-openai/src/policy/builder.rs");
    let code = fs::read_to_string(path).expect("a source file");
    let setters = code.split("    pub fn ").skip(1);
    let setters = setters.filter_map(|rest| rest.split_once("(self"));
    let setters: Vec<_> = setters.map(|(name, _)| name).collect();
    assert!(setters.len() > 15, "{setters:?}");
    for setter in setters {
        assert!(
            page.contains(&format!("`{setter}`")),
            "{setter} is in no table"
        );
    }
}

/// The account's page has every key of a policy, with its default.
#[test]
fn tables_of_keys_are_the_files() {
    let page = fs::read_to_string(root().join("docs/guide/account.md")).expect("a page");
    let defaults = serde_json::to_value(Policy::default().config()).expect("plain data");
    let defaults = defaults.as_object().expect("an object");
    assert!(defaults.len() > 20, "{defaults:?}");
    for (key, default) in defaults {
        let mut rows = page.lines().filter(|line| line.starts_with('|'));
        let row = rows.find(|line| line.contains(&format!("`{key}`")));
        let row = row.unwrap_or_else(|| panic!("no row tells of `{key}`"));
        let told = row.split('|').nth(2).expect("a default").trim();
        let told = told.trim_matches('`');
        let told: serde_json::Value = serde_json::from_str(told).expect(key);
        let same = told == *default || told.as_f64().is_some_and(|n| Some(n) == default.as_f64());
        assert!(same, "{key}: {told} and {default}");
    }
}

/// docs.rs shows the crates, not the repository: their front pages name the guide by
/// absolute addresses, and name only pages that are there.
#[test]
fn front_pages_lead_to_the_guide() {
    const REPOSITORY: &str = "https://github.com/tollhouse-rs/tollhouse/blob/main/";
    for front in ["tollhouse", "tollhouse-openai"] {
        let path = root().join("crates").join(front).join("src/lib.rs");
        let text = fs::read_to_string(path).expect("a front page");
        let named = text.split(REPOSITORY).skip(1);
        let named = named.filter_map(|rest| rest.split([')', '>', '#']).next());
        let named: BTreeSet<_> = named.collect();
        assert!(named.len() >= 4, "{front}: {named:?}");
        for page in &named {
            assert!(root().join(page).exists(), "{front} names {page}");
        }
        assert!(named.contains("docs/README.md"), "{front}: {named:?}"); // the index
    }
}

/// `cargo` commands that the documents tell to run name what is there.
#[test]
fn commands_name_targets_that_exist() {
    let manifests: String = ["Cargo.toml", "crates/tollhouse-cli/Cargo.toml"]
        .iter()
        .chain(&[
            "crates/tollhouse/Cargo.toml",
            "crates/tollhouse-openai/Cargo.toml",
        ])
        .map(|path| fs::read_to_string(root().join(path)).expect("a manifest"))
        .collect();
    let mut seen = 0;
    for (page, text) in pages() {
        let words: Vec<_> = text.split_whitespace().collect();
        for pair in words.windows(2) {
            let name = pair[1].trim_matches(|c: char| !c.is_alphanumeric() && c != '_');
            let found = match pair[0] {
                "--bench" => manifests.contains(&format!("name = \"{name}\"")),
                "--example" => root().join(format!("examples/{name}.rs")).exists(),
                _ => continue,
            };
            seen += 1;
            assert!(found, "{}: {} {name}", page.display(), pair[0]);
        }
    }
    assert!(seen > 0, "no command was found");
}

/// The words of a text that are metrics of ours.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("tollhouse_") && !word.starts_with("tollhouse_openai"))
        .map(|word| word.trim_end_matches("_bucket").to_owned())
        .collect()
}

/// The page and the dashboard know the metrics that the code has, and no other.
#[test]
fn the_dashboard_and_its_page_show_every_metric() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a file");
    let code = metrics(&read("crates/tollhouse/src/telemetry/on.rs"));
    assert_eq!(code.len(), 19);
    assert_eq!(metrics(&read("docs/guide/observability.md")), code);
    let dashboard = read("docs/grafana/tollhouse.json");
    let json: serde_json::Value = serde_json::from_str(&dashboard).expect("JSON");
    assert_eq!(json["title"], "Tollhouse");
    assert_eq!(metrics(&dashboard), code);
}

/// The settings of a simulator by their paths, with their values as JSON.
fn settings(path: &str, value: &serde_json::Value, found: &mut Vec<(String, String)>) {
    match value.as_object().filter(|members| !members.is_empty()) {
        None => found.push((path.to_owned(), value.to_string())),
        Some(members) => {
            for (name, value) in members {
                let dot = if path.is_empty() { "" } else { "." };
                settings(&format!("{path}{dot}{name}"), value, found);
            }
        }
    }
}

/// The simulator's page has every setting, its true default, and no other.
#[test]
fn the_simulators_page_has_every_setting() {
    let read = |text| serde_json::from_str::<tollhouse_sim::Config>(text).expect("settings");
    let defaults = read(r#"{"storm": {"until": 1}}"#);
    let mut known = Vec::new();
    let defaults = serde_json::to_value(defaults).expect("JSON");
    settings("", &defaults, &mut known);
    assert!(known.len() > 30, "{known:?}");
    // It has no default.
    let until = known.iter_mut().find(|(path, _)| path == "storm.until");
    until.expect("a storm's end").1 = "needed".to_owned();
    known.sort();

    let page = fs::read_to_string(root().join("docs/guide/simulator.md")).expect("a page");
    let (_, table) = page.split_once("| setting |").expect("a table");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let cell = |cell: &str| cell.trim().trim_matches('`').to_owned();
    let row = |line: &str| {
        let cells: Vec<_> = line.split(" | ").collect();
        assert_eq!(cells.len(), 4, "{line}");
        (cell(cells[0].trim_start_matches('|')), cell(cells[2]))
    };
    let mut told: Vec<_> = table.lines().skip(2).map(row).collect();
    told.sort();
    assert_eq!(told, known);
}

/// A path in backticks that is a link is the end of where it leads: what a reader
/// copies from the page is what they would have clicked.
#[test]
fn links_lead_to_the_path_that_they_name() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (page, text) in pages() {
        for (number, line) in prose(&text) {
            for (label, target) in named_paths(line) {
                seen += 1;
                if !target.ends_with(label) {
                    wrong.push(format!("{}:{number}: {label} is {target}", page.display()));
                }
            }
        }
    }
    assert!(seen > 20, "{seen}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The labels of the links that are Rust files, and their targets.
fn named_paths(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split("[`").skip(1).filter_map(|rest| {
        let (label, rest) = rest.split_once("`](")?;
        let (target, _) = rest.split_once(')')?;
        label.ends_with(".rs").then_some((label, target))
    })
}

/// The names in backquotes that a page's tables begin their lines with.
fn first_cells(page: &str) -> BTreeSet<String> {
    let lines = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = lines.filter_map(|line| line.split_once("` |"));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// Every bound that has a flag and every header of the proxy's stands on its page.
#[test]
fn the_proxys_page_has_its_flags_and_headers() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a file");
    let page = read("docs/guide/proxy.md");
    let cells = first_cells(&page);
    let headers = read("crates/tollhouse-proxy/src/headers.rs");
    let headers: Vec<_> = headers
        .split("from_static(\"")
        .filter_map(|rest| rest.split('"').next())
        .filter(|name| name.starts_with("x-tollhouse-"))
        .collect();
    assert!(headers.len() >= 6, "{headers:?}");
    for header in headers {
        assert!(cells.contains(header), "{header}: {cells:?}");
    }
    let command = read("crates/tollhouse-cli/src/proxy.rs");
    let code = command.split("struct Args").nth(1).expect("the flags");
    let fields = code.split("\n}").next().expect("an end").lines();
    let flags: Vec<_> = fields
        .filter_map(|line| line.trim().split_once(": Option<")?.0.rsplit(' ').next())
        .map(|field| format!("--{}", field.replace('_', "-")))
        .collect();
    assert!(flags.len() >= 4, "{flags:?}");
    for flag in flags {
        assert!(cells.contains(&flag), "{flag}: {cells:?}");
    }
}
