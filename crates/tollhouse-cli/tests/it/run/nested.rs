//! A run inside another one's COMMAND.

use super::*;

/// A COMMAND that is started by another run's shares that one's account, and puts no limits of its
/// own in front: a run's defaults are far below many accounts.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_inside_a_run_is_the_same_one() {
    let provider = Provider::start(Sim::builder()).await;
    let user = User::new("run_nested");
    let files = [0, 1].map(|n| Files::new(&format!("run_nested_{n}"), lines(3, 20)));
    let inside = |n: usize| {
        let command = batch(&files[n], "--stagger-seconds 0");
        let script = format!("env > environment-{n}; {command}");
        fs::write(user.file(&format!("script-{n}")), script).unwrap();
    };
    inside(0);
    inside(1);
    let script = "unset OPENAI_STAGGER_SECONDS; env > environment; \
                  \"$TOLLHOUSE\" run -- sh script-0 2> said-0 || exit 1; \
                  \"$TOLLHOUSE\" run --caller inner --tpm-limit 5000 -- sh script-1 2> said-1 || exit 2; \
                  ls -d tollhouse/*/ > rooms; cat tollhouse/*/log > log; exit 3";
    let mut command = user.run(&provider, &["--caller", "outer", "--weight", "3"], script);
    command.env("RUST_LOG", "tollhouse_proxy=info");
    let began = Instant::now();
    let ran = run(command);
    let text = |name: &str| fs::read_to_string(user.file(name)).unwrap_or_default();
    assert_eq!(ran.code, Some(3), "{ran:?} {}", text("said-0"));
    for files in &files {
        assert_each_once(&files.output, 3);
    }
    assert!(began.elapsed() < Duration::from_secs(15), "a run's spacing");
    assert_eq!(text("rooms").lines().count(), 1, "one daemon");

    let value = |file: &str, name: &str| {
        let environment = text(file);
        let mut lines = environment.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.expect(name).to_owned()
    };
    let outer = |name| value("environment", name);
    for name in ["OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_KEY"] {
        assert_eq!(value("environment-0", name), outer(name));
    }
    assert_eq!(
        value("environment-1", "OPENAI_BASE_URL"),
        outer("OPENAI_BASE_URL")
    );
    assert_ne!(
        value("environment-1", "OPENAI_API_KEY"),
        outer("OPENAI_API_KEY")
    );
    let calls_of = |caller: &str| {
        let log = text("log");
        log.lines().filter(|line| line.contains(caller)).count()
    };
    assert_eq!(
        (calls_of("outer"), calls_of("inner")),
        (3, 3),
        "{}",
        text("log")
    );

    // Who has no token of its own leaves it to the one around it to tell.
    assert_eq!(text("said-0"), "");
    assert!(
        ran.stderr.starts_with("tollhouse: 3 calls waited "),
        "{ran:?}"
    );
    let said = text("said-1");
    let lines: Vec<_> = said.lines().collect();
    assert!(
        matches!(&lines[..], [not_minded, waited]
            if not_minded.contains("--tpm-limit") && waited.contains("3 calls waited")),
        "{said}"
    );
    user.is_left().await;
}

/// Another address is another provider, whatever is inside.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_inside_a_run_that_goes_elsewhere_is_one_of_its_own() {
    let provider = Provider::start(Sim::builder()).await;
    let user = User::new("run_nested_elsewhere");
    let script = format!(
        "\"$TOLLHOUSE\" run --base-url {} -- sh -c 'ls -d tollhouse/*/ > rooms'",
        provider.url()
    );
    let ran = run(user.run(&provider, &[], &script));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let rooms = fs::read_to_string(user.file("rooms")).unwrap();
    assert_eq!(rooms.lines().count(), 2, "{rooms}");
    user.is_left().await;
}

/// Its daemon, which was told to end and lets a call end first, is waited for.
#[tokio::test]
async fn a_run_inside_a_run_waits_for_a_daemon_that_ends() {
    let slow = Sim::builder().latency(Duration::from_secs(7), Duration::ZERO);
    let provider = Provider::start(slow).await;
    let user = User::new("run_nested_ends");
    let files = Files::new("run_nested_ends", lines(1, 20));
    let script = format!(
        "{} & while ! test -e go; do sleep 0.02; done; export OUTER=$OPENAI_BASE_URL; \
         \"$TOLLHOUSE\" run -- sh -c 'test \"$OUTER\" = \"$OPENAI_BASE_URL\"'; echo $? > inner; wait",
        batch(&files, "--stagger-seconds 0")
    );
    let child = start(user.run(&provider, &[], &script), &user.file("said"));
    until("a call in flight", || provider.sim.report().in_flight == 1).await;
    kill(&user.daemon().await, "-TERM");
    fs::write(user.file("go"), "").unwrap();
    let said = || fs::read_to_string(user.file("said")).unwrap();
    assert_eq!(ended(child).await, Some(0), "{}", said());
    let inner = fs::read_to_string(user.file("inner")).unwrap();
    assert_eq!(inner, "0\n", "{}", said());
    assert_each_once(&files.output, 1);
    user.is_left().await;
}
