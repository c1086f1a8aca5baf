//! `tollhouse.toml`, word for word.

use proptest::prelude::*;
use tollhouse_openai::call::Endpoint;
use tollhouse_openai::{Account, AccountConfig, Limit};

/// The file of the guide.
const FILE: &str = r#"
[defaults]
tokens_per_minute = 30000
requests_per_minute = 500
headroom = 0.15
max_concurrency = 3
stagger_seconds = 15
est_tokens_per_run = 7000
retry_max_attempts = 5
backoff_base_seconds = 2

[account]
max_concurrency = 40

[models."gpt-4o-mini*"]
tokens_per_minute = 200000

[models."gpt-4o*"]
pool = "gpt-4o"

[models."o3"]
tokens_per_minute = "auto"
requests_per_minute = "unlimited"

[models.pictures]
endpoint = "images"
images_per_minute = 5

[pools."gpt-4o"]
tokens_per_minute = 30000
requests_per_day = 10000

[callers.web]
weight = 8
[callers."batch*"]
weight = 1
"#;

#[test]
fn exact_names_go_before_endpoints_and_these_before_longer_globs() {
    let account = Account::from_toml(FILE).expect("a good file");
    for (model, pool, section) in [
        ("gpt-4o", "gpt-4o", "[models.\"gpt-4o*\"]"),
        ("gpt-4o-2024-08-06", "gpt-4o", "[models.\"gpt-4o*\"]"),
        ("gpt-4o-mini", "gpt-4o-mini*", "[models.\"gpt-4o-mini*\"]"),
        (
            "ft:gpt-4o-mini-2024-07-18:us::x",
            "gpt-4o-mini*",
            "[models.\"gpt-4o-mini*\"]",
        ),
        ("o3", "o3", "[models.\"o3\"]"),
        ("o3-2025-04-16", "o3", "[models.\"o3\"]"),
        ("o3-mini", "o3-mini", "[defaults]"),
        ("gpt-5-2025-08-07", "gpt-5", "[defaults]"),
        ("ft:gpt-5-2025-08-07:us::x", "gpt-5", "[defaults]"),
    ] {
        let told = account.explain(Some(model), None);
        assert_eq!((&*told.pool, &*told.section), (pool, section), "{model}");
    }
    let images = account.explain(Some("gpt-image-1"), Some(Endpoint::Images));
    assert_eq!(
        (&*images.pool, images.policy.images_per_minute),
        ("pictures", Some(5))
    );
    // An exact name is nearer than an endpoint.
    assert_eq!(
        account.explain(Some("o3"), Some(Endpoint::Images)).pool,
        "o3"
    );
    assert_eq!(account.explain(None, None).pool, "default");
}

#[test]
fn sections_say_what_they_say_and_all_else_is_as_in_the_defaults() {
    let account = Account::from_toml(FILE).expect("a good file");
    let shared = account.explain(Some("gpt-4o"), None).policy;
    assert_eq!(shared.tokens_per_minute, Limit::per_minute(30_000));
    assert_eq!(shared.requests_per_day, Some(10_000));
    assert_eq!(shared.requests_per_minute, Limit::per_minute(500));
    let auto = account.explain(Some("o3"), None).policy;
    assert_eq!(auto.tokens_per_minute, Limit::Auto);
    assert_eq!(auto.requests_per_minute, Limit::Unlimited);
    let config = account.config();
    assert_eq!(config.max_concurrency, Some(40));
    let callers: Vec<_> = config.callers().collect();
    assert_eq!(callers, [("batch*", 1), ("web", 8)]);
}

#[test]
fn variables_lie_over_the_defaults_and_reach_every_section() {
    let mut config = AccountConfig::from_toml(FILE).expect("a good file");
    let vars = |name: &str| match name {
        "OPENAI_TPM_LIMIT" => Some("90000".to_owned()),
        "OPENAI_TPM_HEADROOM" => Some("0.3".to_owned()),
        _ => None,
    };
    config.lay_vars(vars).expect("good values");
    let account = Account::from_config(config).expect("a good config");
    let mini = account.explain(Some("gpt-4o-mini"), None).policy;
    assert_eq!(
        (mini.tokens_per_minute.amount(), mini.headroom),
        (Some(200_000), 0.3)
    );
    let stranger = account.explain(Some("stranger"), None).policy;
    assert_eq!(stranger.tokens_per_minute.amount(), Some(90_000));
}

/// FAILURES 40: everything that is wrong is named at once, with its place.
#[test]
fn of_many_problems_the_sentence_tells_the_first_and_how_many_more() {
    let wrong: String = (0..100).map(|n| format!("wrong_{n} = 1\n")).collect();
    let error = AccountConfig::from_toml(&wrong).unwrap_err();
    assert_eq!(error.problems().len(), 100);
    let said = error.to_string();
    assert!(said.starts_with("line 1: wrong_0 is not known"), "{said}");
    assert!(said.contains("line 20: wrong_19 is not known"), "{said}");
    assert!(!said.contains("wrong_20"), "{said}");
    assert!(said.ends_with("; and 80 more"), "{said}");
}

#[test]
fn failure_40_what_is_wrong_is_told_with_line_key_and_the_nearest_known() {
    for (file, said) in [
        (
            "[default]\nheadroom = 0.2",
            "line 1: default is not known: defaults is meant, perhaps",
        ),
        (
            "[defaults]\nheadrom = 0.2\nmax_concurrency = 0",
            "line 2, [defaults]: headrom is not known: headroom is meant, perhaps; \
             line 3, [defaults]: max_concurrency is 0: allowed is a whole number from 1 to 1000000",
        ),
        (
            "[defaults]\ntokens_per_minute = \"lots\"",
            "line 2, [defaults]: tokens_per_minute is \"lots\": allowed is a whole number \
             from 1 to 1000000000000, auto or unlimited",
        ),
        (
            "[defaults]\ntokens_per_minute = 30000.0\nmax_concurrency = 3e0\nretry_max_attempts = 2.5",
            "line 2, [defaults]: tokens_per_minute is 30000.0: allowed is a whole number \
             from 1 to 1000000000000, auto or unlimited; \
             line 3, [defaults]: max_concurrency is 3.0: allowed is a whole number from 1 to \
             1000000; \
             line 4, [defaults]: retry_max_attempts is 2.5: allowed is a whole number from 1 to \
             1000",
        ),
        (
            "[models.\"gpt-4o\"]\npool = \"a\"\ntokens_per_minute = 5\n[pools.a]",
            "line 2, [models.\"gpt-4o\"]: pool and tokens_per_minute exclude each other: \
             the numbers of pool \"a\" belong under [pools.\"a\"]",
        ),
        (
            "[models.x]\npool = \"gtp\"\n[pools.gpt]",
            "line 2, [models.\"x\"]: there is no [pools.\"gtp\"]: \"gpt\" is meant, perhaps",
        ),
        (
            "[models.x]\nretry_max_attempts = 3",
            "line 2, [models.\"x\"]: retry_max_attempts belongs under [defaults]: the account has one",
        ),
        (
            "[models.x]\nendpoint = \"pictures\"",
            "line 2, [models.\"x\"]: endpoint is \"pictures\": allowed is chat/completions, \
             responses, completions, embeddings, moderations, images, audio, storage, other",
        ),
        (
            "[callers.web]\nweight = 0",
            "line 2, [callers.\"web\"]: weight is 0: allowed is a whole number from 1 to 1000000",
        ),
        (
            "[models.b]\nendpoint = \"images\"\n[models.a]\nendpoint = \"images\"",
            "line 2, [models.\"b\"]: endpoint is \"images\" as in [models.\"a\"]: its calls belong \
             to one pool",
        ),
        (
            "[account]\nmax_concurency = 4",
            "line 2, [account]: max_concurency is not known: max_concurrency is meant, perhaps",
        ),
        (
            "[defaults]\nheadroom = -1\nstagger_seconds = inf\nburst_tokens = 1979-05-27",
            "line 2, [defaults]: headroom is -1: allowed is a number from 0 to 0.9; \
             line 3, [defaults]: stagger_seconds is inf: allowed is a number from 0 to 86400; \
             line 4, [defaults]: burst_tokens is datetime: allowed is a whole number from 1 \
             to 1000000000000 or unlimited",
        ),
        (
            "models = 3",
            "line 1, [models]: it is integer, and a section is meant",
        ),
        (
            "[account]\ncolour = 3",
            "line 2, [account]: colour is not known: allowed are max_concurrency, dry_run",
        ),
        (
            "[callers.web]\ncolour = 3",
            "line 2, [callers.\"web\"]: colour is not known: weight is all that is allowed",
        ),
        (
            "[models.\"gpt\\u001b[2J\"]",
            "line 1, [models.\"gpt\\u{1b}[2J\"]: a name has no control characters",
        ),
        (
            "[models.x]\npool = \"a\\tb\"",
            "line 2, [models.\"x\"]: pool is \"a\\tb\": allowed is a text that is not empty, on one line",
        ),
        (
            "[models.gpt-4.1]\nrequests_per_minute = 3",
            "line 1, [models.\"gpt-4\"]: a name with a dot in it is quoted: [models.\"gpt-4.1\"] is \
             meant, perhaps",
        ),
        (
            "[pools]\na.b.c = { requests_per_minute = 3 }",
            "line 2, [pools.\"a\"]: a name with a dot in it is quoted: [pools.\"a.b.c\"] is meant, \
             perhaps",
        ),
        (
            "[defaults]\ntpm_limit = 3\nbackoff-base-seconds = 1\nOPENAI_TPM_HEADROOM = 0",
            "line 2, [defaults]: tpm_limit is not known: tokens_per_minute is meant, perhaps; \
             line 3, [defaults]: backoff-base-seconds is not known: backoff_base_seconds is \
             meant, perhaps; \
             line 4, [defaults]: OPENAI_TPM_HEADROOM is not known: headroom is meant, perhaps",
        ),
    ] {
        let error = Account::from_toml(file).expect_err(file);
        assert_eq!(error.to_string(), said, "{file}");
    }
    let named = Account::from_toml("[defaults]\nname = \"mine\"").unwrap_err();
    let said =
        "line 2, [defaults]: name is not known: allowed are max_concurrency, stagger_seconds, ";
    assert!(named.to_string().starts_with(said), "{named}");
    let twice = Account::from_toml("[defaults]\nheadroom = 0.1\nheadroom = 0.2").unwrap_err();
    assert_eq!(twice.problems()[0].line(), Some(3), "{twice}");
}

/// What only shows once a section is read is told beside what is no key at all.
#[test]
fn what_does_not_fit_is_told_with_what_cannot_be_read() {
    let file = "[shared]\nredis = \"http://x\"\nname = \"{}\"\n[tokens]\nweb = \"no token\"\n\
                [models.x]\npool = \"gtp\"\n[defaults]\nheadrom = 1\n[pools.gpt]\n";
    let error = Account::from_toml(file).unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 2, [shared]: redis is no URL of a Redis: redis:// is meant, perhaps; \
         line 3, [shared]: name is \"{}\": allowed is a text from 1 to 200 visible ASCII letters \
         without braces; \
         line 5, [tokens]: \"web\" has a token that cannot be sent: allowed is visible ASCII, 1 to \
         512; \
         line 7, [models.\"x\"]: there is no [pools.\"gtp\"]: \"gpt\" is meant, perhaps; \
         line 9, [defaults]: headrom is not known: headroom is meant, perhaps",
    );
    // A pool that may stand where nothing could be read is missed by nobody.
    for pools in ["[pool.gpt]", "[pools]\ngpt = 3", "[[pools]]"] {
        let error = Account::from_toml(&format!("[models.x]\npool = \"gpt\"\n{pools}\n"));
        assert_eq!(error.unwrap_err().problems().len(), 1, "{pools}");
    }
}

/// What is written in the file, and what in the environment.
#[test]
fn bad_variables_are_told_beside_a_bad_file() {
    let path = std::env::temp_dir().join(format!("tollhouse-both-{}.toml", std::process::id()));
    std::fs::write(&path, "[defaults]\nheadrom = 1").expect("a file");
    let read = AccountConfig::from_vars(|name| match name {
        "TOLLHOUSE_CONFIG" => Some(path.display().to_string()),
        "OPENAI_TPM_LIMIT" => Some("x".to_owned()),
        _ => None,
    });
    std::fs::remove_file(&path).expect("there");
    let told = read.unwrap_err();
    assert_eq!(told.problems().len(), 2, "{told}");
    assert!(
        told.to_string()
            .contains("OPENAI_TPM_LIMIT=\"x\": allowed is "),
        "{told}"
    );
}

/// One of them would win, and nobody could see which.
#[test]
fn an_endpoint_is_of_one_pool() {
    let two = "[models.\"gpt-4o\"]\nendpoint = \"chat/completions\"\ntokens_per_minute = 1000\n\
               [models.aaa]\nendpoint = \"chat/completions\"\ntokens_per_minute = 9000\n";
    let error = Account::from_toml(two).unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 2, [models.\"gpt-4o\"]: endpoint is \"chat/completions\" as in [models.\"aaa\"]: \
         its calls belong to one pool",
    );
    let shared = "[models.a]\nendpoint = \"images\"\npool = \"p\"\n\
                  [models.b]\nendpoint = \"images\"\npool = \"p\"\n[pools.p]\n";
    let account = Account::from_toml(shared).expect("they are one pool");
    assert_eq!(account.explain(None, Some(Endpoint::Images)).pool, "p");
}

#[test]
fn of_globs_as_long_the_one_with_fewer_stars_is_nearer() {
    for (globs, model, pool) in [
        (["gpt-4*", "gpt-4?"], "gpt-4o", "gpt-4?"),
        (["gpt-4*", "gpt-4?"], "gpt-4o-mini", "gpt-4*"),
        (["*-mini", "gpt-4*"], "gpt-4-mini", "*-mini"),
    ] {
        let [a, b] = globs;
        for (a, b) in [(a, b), (b, a)] {
            let file = format!("[models.{a:?}]\n[models.{b:?}]\n");
            let account = Account::from_toml(&file).expect("a good file");
            assert_eq!(account.explain(Some(model), None).pool, pool, "{file}");
        }
    }
}

#[test]
fn a_file_is_named_in_its_errors() {
    let error = Account::open("/nowhere/tollhouse.toml").unwrap_err();
    assert!(
        error.to_string().starts_with("/nowhere/tollhouse.toml: "),
        "{error}"
    );
    let path = std::env::temp_dir().join(format!("tollhouse-{}.toml", std::process::id()));
    std::fs::write(&path, "[defaults]\nheadrom = 1").expect("a file");
    let error = Account::open(&path).unwrap_err();
    std::fs::remove_file(&path).expect("there");
    let said = format!(
        "{}: line 2, [defaults]: headrom is not known",
        path.display()
    );
    assert!(error.to_string().starts_with(&said), "{error}");
}

#[test]
fn variables_may_name_the_file() {
    let path = std::env::temp_dir().join(format!("tollhouse-vars-{}.toml", std::process::id()));
    std::fs::write(&path, FILE).expect("a file");
    let vars = |name: &str| match name {
        "TOLLHOUSE_CONFIG" => Some(path.display().to_string()),
        "OPENAI_MAX_CONCURRENCY" => Some("9".to_owned()),
        _ => None,
    };
    let read = AccountConfig::from_vars(vars);
    std::fs::remove_file(&path).expect("there");
    let config = read.expect("a good file");
    assert_eq!(
        (config.defaults.max_concurrency, config.max_concurrency),
        (9, Some(40))
    );
    let bad = AccountConfig::from_vars(|name| (name == "OPENAI_TPM_LIMIT").then(|| "x".into()));
    let said = bad.unwrap_err().to_string();
    assert!(
        said.starts_with("OPENAI_TPM_LIMIT=\"x\": allowed is "),
        "{said}"
    );
}

fn line() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "[defaults]",
        "[models.\"a*\"]",
        "[pools.a]",
        "[callers.b]",
        "[account]",
        "[[models]]",
        "tokens_per_minute",
        "pool",
        "endpoint",
        "weight",
        "max_concurrency",
        "=",
        "= 0x1F",
        "= 1e400",
        "= -5",
        "= \"auto\"",
        "= true",
        "= { a = 1 }",
        "= [1, 2]",
        "\"",
        ".",
        "é",
        "headroom = 0.2",
        "stagger_seconds = 1.5",
        "= 99999999999999999999",
    ]);
    prop::collection::vec(
        prop_oneof![4 => words.prop_map(str::to_owned), 1 => "\\PC{0,8}"],
        0..4,
    )
    .prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn hostile_files_never_panic(lines in prop::collection::vec(line(), 0..20)) {
        let file = lines.join("\n");
        match Account::from_toml(&file) {
            Ok(account) => drop(account.explain(Some("a"), None)),
            Err(error) => {
                prop_assert!(!error.problems().is_empty());
                let last = file.lines().count().max(1) + 1;
                for problem in error.problems() {
                    prop_assert!(problem.line().is_none_or(|line| (1..=last).contains(&line)));
                }
            }
        }
    }
}

/// Tokens stand beside their callers, and nothing that is told of them has one in it.
#[test]
fn tokens_are_read_and_never_told() {
    let text = "[tokens]\nweb = \"t-PLANTED-1\"\nnight = [\"t-PLANTED-2\", \"t-PLANTED-3\"]\n";
    let config = AccountConfig::from_toml(text).expect("a good file");
    let tokens: Vec<_> = config.tokens().collect();
    assert_eq!(
        tokens,
        [
            ("night", "t-PLANTED-2"),
            ("night", "t-PLANTED-3"),
            ("web", "t-PLANTED-1")
        ]
    );
    assert!(!format!("{config:?}").contains("PLANTED"), "{config:?}");

    let account = Account::from_config(config).expect("it was checked");
    let next = "[tokens]\nweb = \"t-PLANTED-4\"\nnight = \"t-PLANTED-2\"\nme = \"t-PLANTED-5\"\n";
    let changes = account.reload_toml(next).expect("a good file");
    assert_eq!(
        changes.to_string(),
        "[tokens] night: 1 token, until now 2 tokens\n\
         [tokens] web: another, until now 1 token\n\
         [tokens] me: 1 token, until now not said",
    );
    let gone = account.reload_toml("").expect("a good file").to_string();
    assert!(
        gone.contains("[tokens] web: not said, until now 1 token"),
        "{gone}"
    );
}

#[test]
fn tokens_that_cannot_be_are_named_by_line_and_caller_alone() {
    let cases = [
        (
            "web = 5",
            "line 2, [tokens]: \"web\" is integer: a token or a list of tokens is meant, each in quotes",
        ),
        (
            "web = []",
            "line 2, [tokens]: \"web\" is an empty list: a token or a list of tokens is meant, each in quotes",
        ),
        (
            "\"\" = \"PLANTED\"",
            "line 2, [tokens]: \"\": a name is not empty",
        ),
        (
            "\"a\\nb\" = \"PLANTED\"",
            "line 2, [tokens]: \"a\\nb\": a name has no control characters",
        ),
        (
            "web = [\"PLANTED\", 5]",
            "line 2, [tokens]: \"web\" is a list with something else in it: a token or a list of tokens is meant, each in quotes",
        ),
        (
            "web = \"PLANTED token\"",
            "line 2, [tokens]: \"web\" has a token that cannot be sent: allowed is visible ASCII, 1 to 512",
        ),
        (
            "web = \"\"",
            "line 2, [tokens]: \"web\" has a token that cannot be sent: allowed is visible ASCII, 1 to 512",
        ),
        (
            "a = \"PLANTED\"\nb = \"PLANTED\"",
            "line 3, [tokens]: \"b\" has the token of \"a\": each names one caller",
        ),
    ];
    for (lines, told) in cases {
        let error = AccountConfig::from_toml(&format!("[tokens]\n{lines}\n")).unwrap_err();
        assert_eq!(error.to_string(), told);
    }
    // The parser's own words repeat none, either.
    for broken in [
        "web = PLANTED",
        "web = \"PLANTED",
        "web = \"PLANTED\" x",
        "web.PLANTED = 1\nweb = 1",
    ] {
        let error = AccountConfig::from_toml(&format!("[tokens]\n{broken}\n")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("PLANTED"), "{error}");
    }
}
