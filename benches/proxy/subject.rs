//! What is measured: a process of its own, alone on its core.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::Result;
use super::load::TOKEN;

/// The core of what is measured; everything else is on the other.
pub(crate) const CORE: &str = "0";
pub(crate) const OTHER_CORE: &str = "1";

/// A process that listens.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) address: String,
    child: Child,
}

impl Subject {
    /// Starts it, and waits until it takes connections. Its log goes to that file, or
    /// nowhere.
    pub(crate) async fn start(
        name: &'static str,
        address: &str,
        core: &str,
        command: &Command,
        log: Option<&Path>,
    ) -> Result<Self> {
        let log = log.map(fs::File::create).transpose()?;
        let child = pinned(core, command)
            .stderr(log.map_or_else(Stdio::null, Stdio::from))
            .spawn()
            .map_err(|error| format!("{name} does not start: {error}"))?;
        let mut subject = Subject {
            name,
            address: address.to_owned(),
            child,
        };
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = subject.child.try_wait()? {
                return Err(format!("{name} ended at once: {status}").into());
            }
            if Instant::now() > until {
                return Err(format!("{name} does not listen at {address}").into());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(subject)
    }

    /// What all its threads have used of a core so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let spent = text.split_whitespace().next();
            nanos += spent
                .and_then(|text| text.parse::<u64>().ok())
                .ok_or("no schedstat")?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// What of it is in memory, in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.ok_or("no VmRSS")?.parse::<u64>()? * 1024)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same command on one core, with as many descriptors as this process may have.
fn pinned(core: &str, command: &Command) -> Command {
    let mut pinned = Command::new("taskset");
    pinned.args(["-c", core]).arg(command.get_program());
    pinned.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => pinned.env(name, value),
            None => pinned.env_remove(name),
        };
    }
    pinned.stdin(Stdio::null()).stdout(Stdio::null());
    pinned
}

/// This bench in another role.
pub(crate) fn ourselves(role: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(role).args(arguments);
    Ok(command)
}

/// `tollhouse proxy` with all its gates, far from their limits. A turn to launch is over sooner
/// than its task can be polled, so each call that waits stands in line a second time.
pub(crate) fn tollhouse(command: &Path, address: &str, upstream: &str, slots: u32) -> Command {
    let mut proxy = Command::new(command);
    proxy
        .args(["proxy", "--listen", address, "--max-connections", "20000"])
        .args(["--base-url", &format!("http://{upstream}/v1")])
        .args(["--tpm-limit", "1000000000000", "--rpm-limit", "1000000000"])
        .args(["--stagger-seconds", "0.000001"])
        .args(["--max-concurrency", &slots.to_string()])
        .env("OPENAI_API_KEY", "sk-of-the-account")
        .env("TOLLHOUSE_TOKEN", TOKEN)
        .env_remove("TOLLHOUSE_CONFIG");
    proxy
}

/// nginx as one process without a file around it; its log, where it has one, has a line
/// for each request.
pub(crate) fn nginx(directory: &Path, address: &str, upstream: &str, log: &str) -> Result<Command> {
    let config = directory.join(format!("nginx-{}.conf", address.replace([':', '.'], "-")));
    let at = |name: &str| -> PathBuf { directory.join(name) };
    fs::write(
        &config,
        format!(
            "daemon off; master_process off; pid {pid};
            error_log /dev/null;
            events {{ worker_connections 20000; }}
            http {{
                access_log {log};
                keepalive_requests 1000000000;
                client_body_temp_path {body}; proxy_temp_path {proxy};
                fastcgi_temp_path {body}; uwsgi_temp_path {body}; scgi_temp_path {body};
                tcp_nodelay on;
                upstream provider {{
                    server {upstream}; keepalive 1024; keepalive_requests 1000000000;
                }}
                server {{
                    listen {address};
                    location / {{
                        proxy_pass http://provider;
                        proxy_http_version 1.1;
                        proxy_set_header Connection \"\";
                        proxy_buffering off;
                    }}
                }}
            }}\n",
            pid = at("nginx.pid").display(),
            body = at("body").display(),
            proxy = at("temp").display(),
        ),
    )?;
    let mut command = Command::new("nginx");
    command.args(["-c", &config.display().to_string()]);
    command.args(["-p", &directory.display().to_string()]);
    Ok(command)
}
