//! What COMMAND hears of signals, wherever they come from.

use super::*;

/// What makes signals again what they are to a program that a shell starts in the foreground:
/// whoever runs these tests in the background has some of them ignored, and what they start
/// would inherit that.
const UNIGNORED: [&str; 2] = ["env", "--default-signal=HUP,INT,QUIT"];

/// The same command, with no signal ignored.
fn unignored(command: &Command) -> Command {
    let mut unignored = Command::new(UNIGNORED[0]);
    let variables = command.get_envs();
    unignored
        .arg(UNIGNORED[1])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(variables.filter_map(|(name, value)| Some((name, value?))))
        .current_dir(command.get_current_dir().expect("a user's own"))
        .stdin(Stdio::null());
    unignored
}

#[tokio::test]
async fn signals_are_passed_on() {
    let provider = Provider::start(Sim::builder()).await;
    for (name, code) in [
        ("HUP", 11),
        ("INT", 12),
        ("QUIT", 13),
        ("TERM", 14),
        ("USR1", 15),
        ("USR2", 16),
    ] {
        let user = User::new(&format!("run_signal_{name}"));
        let script =
            format!("trap 'exit {code}' {name}; touch ready; while :; do sleep 0.02; done");
        let command = unignored(&user.run(&provider, &[], &script));
        let child = start(command, &user.file("said"));
        until("COMMAND", || user.file("ready").exists()).await;
        signal(&child, &format!("-{name}"));
        assert_eq!(ended(child).await, Some(code), "{name}");
        user.is_left().await;
    }
}

/// Whoever starts it with `nohup`, or in the background of a script, has signals ignored: by
/// COMMAND too, as by any other program that is started so.
#[tokio::test]
async fn what_was_ignored_before_is_ignored_by_the_command() {
    let provider = Provider::start(Sim::builder()).await;
    let user = User::new("run_ignored");
    let look = "grep SigIgn /proc/self/status";
    let ignored = |before: &str, run: &str| {
        let ran = run_shell(&user, &provider, &format!("{before} exec {run} {look}"));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let mask = ran.stdout.trim().rsplit('\t').next().expect("a mask");
        // What is above is the C library's own.
        u64::from_str_radix(mask, 16).expect("hex") & 0x7fff_ffff
    };
    for before in ["", "trap '' HUP INT QUIT;", "trap '' TERM USR1 USR2;"] {
        let as_ever = ignored(before, "");
        assert_eq!(
            ignored(before, "\"$TOLLHOUSE\" run --"),
            as_ever,
            "{before}"
        );
    }
    user.is_left().await;
}

fn run_shell(user: &User, provider: &Provider, script: &str) -> Ran {
    run(user.shell(provider, script))
}

/// A shell in a terminal, in whose foreground a COMMAND counts the interrupts that it hears.
struct Terminal {
    user: User,
    shell: Started,
    keys: ChildStdin,
}

impl Terminal {
    /// COMMAND is started through the program `before`, if it is named.
    async fn start(test: &str, provider: &Provider, before: &str) -> Self {
        let user = User::new(test);
        // It is never in a command of another program's, so that it hears at once.
        let script = "trap 'echo heard >> heard' INT; : > ready; \
                      until test -e done; do :; done; exit 9";
        fs::write(user.file("script"), script).unwrap();
        // A shell that goes on.
        let typed = format!(
            "trap : INT; sh -c 'echo $$ > process; exec \"$TOLLHOUSE\" run -- {before} sh script'; \
             echo $? > code"
        );
        let mut command = Command::new(UNIGNORED[0]);
        let plain = provider.tollhouse(&[]);
        let variables = plain.get_envs();
        let said = fs::File::create(user.file("said")).unwrap();
        command
            .args([UNIGNORED[1], "script"])
            .args(["--quiet", "--command", &typed, "/dev/null"])
            .env_clear()
            .envs(variables.filter_map(|(name, value)| Some((name, value?))))
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(said.try_clone().unwrap())
            .stderr(said);
        user.is(&mut command);
        let mut shell = command.spawn().expect("script is there");
        let keys = shell.stdin.take().unwrap();
        until("COMMAND", || user.file("ready").exists()).await;
        Terminal {
            user,
            shell: shell.into(),
            keys,
        }
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.user.file(name)).unwrap_or_default()
    }

    async fn types_interrupt(&mut self) {
        self.keys.write_all(b"\x03").unwrap();
        until("the terminal", || self.text("said").contains("^C")).await;
    }

    /// How many it heard, once it is over.
    async fn heard(self) -> usize {
        // One that is sent on is heard by now.
        tokio::time::sleep(Duration::from_millis(200)).await;
        fs::write(self.user.file("done"), "").unwrap();
        until("its end", || self.text("code").ends_with('\n')).await;
        let (code, said) = (self.text("code"), self.text("said"));
        let heard = self.text("heard").lines().count();
        drop(self.keys);
        ended(self.shell).await;
        assert_eq!(code.trim(), "9", "{said}");
        self.user.is_left().await;
        heard
    }
}

/// What is typed in a terminal reaches COMMAND by itself, and is not sent on: one that has left
/// the terminal hears nothing of it.
#[tokio::test]
async fn a_terminals_interrupt_is_not_sent_on() {
    let provider = Provider::start(Sim::builder()).await;
    for (before, heard) in [("", 1), ("setsid", 0)] {
        let test = format!("run_terminal_{heard}");
        let mut terminal = Terminal::start(&test, &provider, before).await;
        terminal.types_interrupt().await;
        assert_eq!(terminal.heard().await, heard, "{before}");
    }
}

/// The same signal that somebody sends to the run alone is no terminal's.
#[tokio::test]
async fn an_interrupt_that_is_sent_is_sent_on_in_a_terminals_foreground_too() {
    let provider = Provider::start(Sim::builder()).await;
    for before in ["", "setsid"] {
        let test = format!("run_terminal_sent_{before}");
        let terminal = Terminal::start(&test, &provider, before).await;
        kill(terminal.text("process").trim(), "-INT");
        assert_eq!(terminal.heard().await, 1, "{before}");
    }
}

/// What COMMAND sends to all of its group, it has heard itself.
#[tokio::test]
async fn what_the_command_sends_does_not_come_back_to_it() {
    let provider = Provider::start(Sim::builder()).await;
    let user = User::new("run_own_signal");
    let script = "trap 'echo heard >> heard' USR1; kill -USR1 $PPID; sleep 0.2; exit 3";
    let ran = run(user.run(&provider, &[], script));
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(!user.file("heard").exists());
    user.is_left().await;
}
