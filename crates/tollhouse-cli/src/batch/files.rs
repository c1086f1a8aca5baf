//! The files of a batch: where they are, and what earlier runs left in them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncSeekExt, AsyncWrite, AsyncWriteExt};
use tollhouse_batch::Done;

use crate::failure::{self, BoxError};

/// A file, or the standard stream that `-` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Standard,
    File(PathBuf),
}

/// The requests: a file that can be read more than once.
#[derive(Debug)]
pub(crate) enum Requests {
    File(PathBuf),
    /// A copy of what can be read only once; it has no name, so that nothing of
    /// it stays, however the command ends.
    Spooled(std::fs::File),
}

/// The answers, to be written.
pub(crate) type Writer = Box<dyn AsyncWrite + Unpin + Send>;

/// The two files that a run writes to, and what is in them already.
pub(crate) struct Outputs {
    pub(crate) output: Writer,
    pub(crate) errors: Writer,
    pub(crate) done: Done,
}

impl FromStr for Place {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "-" => Self::Standard,
            path => Self::File(path.into()),
        })
    }
}

impl Place {
    /// Its path, if it is a file.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Standard => None,
            Self::File(path) => Some(path),
        }
    }
}

impl Requests {
    /// Finds the requests; a pipe is read to its end.
    ///
    /// # Errors
    ///
    /// Names what cannot be read.
    pub(crate) async fn find(place: &Place) -> Result<Self, BoxError> {
        let because = |error| failure::because(place.to_string(), error);
        match place {
            Place::Standard => spool(tokio::io::stdin()).await.map_err(because),
            Place::File(path) => {
                let file = File::open(path).await.map_err(because)?;
                match file.metadata().await.map_err(because)?.is_file() {
                    true => Ok(Self::File(path.clone())),
                    false => spool(file).await.map_err(because),
                }
            }
        }
    }

    /// Opens them at their beginning. What was opened before must have been read.
    ///
    /// # Errors
    ///
    /// Names the file that cannot be opened.
    pub(crate) async fn open(&self) -> Result<File, BoxError> {
        match self {
            Self::File(path) => File::open(path)
                .await
                .map_err(|error| failure::because(path.display().to_string(), error)),
            Self::Spooled(file) => {
                let mut file = File::from_std(file.try_clone()?);
                file.rewind().await?;
                Ok(file)
            }
        }
    }
}

async fn spool(mut from: impl AsyncRead + Unpin) -> io::Result<Requests> {
    let folder = std::env::temp_dir();
    let copy = tempfile::tempfile_in(&folder).map_err(|error| {
        let what = format!("cannot be copied into {}: {error}", folder.display());
        io::Error::new(error.kind(), what)
    });
    let mut file = File::from_std(copy?);
    tokio::io::copy(&mut from, &mut file).await?;
    file.flush().await?;
    Ok(Requests::Spooled(file.into_std().await))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard => f.write_str("standard input"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Outputs {
    /// Opens what a run writes to; `-` has nothing in it yet.
    ///
    /// With `retry_errors`, what failed before is not taken for done.
    ///
    /// # Errors
    ///
    /// Names the file that cannot be opened, or holds something else.
    pub(crate) async fn open(
        output: &Place,
        errors: &Path,
        retry_errors: bool,
    ) -> Result<Self, BoxError> {
        let mut done = Done::new();
        let output: Writer = match output {
            Place::Standard => Box::new(tokio::io::stdout()),
            Place::File(path) => Box::new(done.open(path).await?),
        };
        let errors = match retry_errors {
            true => Done::new().open(errors).await?,
            false => done.open(errors).await?,
        };
        Ok(Self {
            output,
            errors: Box::new(errors),
            done,
        })
    }
}

/// Empties an errors file whose requests are about to be sent again, once it is
/// known to hold errors and nothing else.
///
/// # Errors
///
/// Names the file that cannot be emptied.
pub(crate) async fn empty(errors: &Path) -> Result<(), BoxError> {
    let because = |error| failure::because(errors.display().to_string(), error);
    let metadata = tokio::fs::metadata(errors).await.map_err(because)?;
    if metadata.is_file() {
        let file = File::options().write(true).open(errors).await;
        file.map_err(because)?.set_len(0).await.map_err(because)?;
    }
    Ok(())
}

/// What the output of an earlier run answers; it is not changed.
pub(crate) async fn answered(path: &Path) -> Result<Done, BoxError> {
    let name = || path.display().to_string();
    let file = File::open(path).await;
    let file = file.map_err(|error| failure::because(name(), error))?;
    let mut done = Done::new();
    let read = done.read(file).await;
    read.map_err(|error| failure::because(name(), error))?;
    Ok(done)
}

/// Where failed requests go unless it is said: the output's whole name, but for
/// `.jsonl`, and `.errors.jsonl`.
pub(crate) fn errors_beside(output: &Path) -> PathBuf {
    let stem = match output.extension() {
        Some(extension) if extension == "jsonl" => output.with_extension(""),
        _ => output.to_owned(),
    };
    let mut name = stem.into_os_string();
    name.push(".errors.jsonl");
    name.into()
}

/// A file that a command reads or writes, by the name that the user knows it by.
pub(crate) type Named<'a> = (&'static str, Option<&'a Path>);

/// Refuses files that are one file, by whatever names.
pub(crate) fn all_different(files: &[Named<'_>]) -> Result<(), BoxError> {
    for (n, (name, path)) in files.iter().enumerate() {
        for (other, before) in &files[..n] {
            if let (Some(path), Some(before)) = (path, before)
                && is_same_file(path, before)
            {
                let (one, two) = (before.display(), path.display());
                let both = match before == path {
                    true => format!("are both {two}"),
                    false => format!("are one file, {one} and {two}"),
                };
                return Err(failure::error(format!(
                    "{name} and {other} {both}; they must be different files"
                )));
            }
        }
    }
    Ok(())
}

/// Refuses a file that could not be written when all is over, as far as that is known before.
pub(crate) fn has_a_folder((name, path): Named<'_>) -> Result<(), BoxError> {
    let Some(path) = path else {
        return Ok(());
    };
    let shown = path.display();
    if path.is_dir() {
        return Err(failure::error(format!(
            "{name}: {shown} is a folder, and no file"
        )));
    }
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => Err(failure::error(format!(
            "{name}: there is no folder {} for {shown}",
            folder.display()
        ))),
        None => Ok(()),
    }
}

/// Whether two paths lead to one file, which need not be there yet. A terminal, a
/// pipe or the null device is no file that could be overwritten.
fn is_same_file(one: &Path, other: &Path) -> bool {
    match (identity(one), identity(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => matches!((real(one), real(other)), (Ok(one), Ok(other)) if one == other),
        _ => false,
    }
}

/// What tells a file that is there from every other.
#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<PathBuf> {
    std::fs::canonicalize(path).ok()
}

/// Where a file will be that is not there yet.
fn real(path: &Path) -> io::Result<PathBuf> {
    // A link to nowhere names the file that it will become.
    if let Ok(target) = std::fs::read_link(path) {
        let folder = path.parent().unwrap_or(Path::new(""));
        return real(&folder.join(target));
    }
    let path = std::path::absolute(path)?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(path);
    };
    let folder = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    Ok(folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_stand_beside_the_output() {
        let beside = |path| errors_beside(Path::new(path));
        assert_eq!(beside("a/out.jsonl"), Path::new("a/out.errors.jsonl"));
        assert_eq!(beside("out"), Path::new("out.errors.jsonl"));
        assert_eq!(beside("run.1"), Path::new("run.1.errors.jsonl"));
        assert_eq!(beside("run.2"), Path::new("run.2.errors.jsonl"));
    }

    #[test]
    fn one_file_is_known_under_two_names() {
        let same = |one: &str, other: &str| is_same_file(Path::new(one), Path::new(other));
        assert!(same("Cargo.toml", "./src/../Cargo.toml"));
        assert!(same("is-not-there", "./is-not-there"));
        assert!(!same("Cargo.toml", "src/main.rs"));
    }
}
