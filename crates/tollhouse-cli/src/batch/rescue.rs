//! What could not be written: the files are cut back to whole lines, what they lack
//! is put somewhere else, and the next run takes it in.
//!
//! A write that fails may have written a part, and how much of it only the file
//! knows. So nothing is guessed: the end of the file is compared with what was to be
//! written.

use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tollhouse_batch::{Done, Error};

use super::files::Outputs;
use crate::failure::{self, BoxError};
use crate::print::Counted;

/// Which of a run's two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Answers,
    Failures,
}

impl Lane {
    fn name(self) -> &'static str {
        match self {
            Lane::Answers => "answers",
            Lane::Failures => "failures",
        }
    }
}

/// Keeps what a run could not write; the error names where.
pub(super) fn rescue(error: Error, output: Option<&Path>, errors: &Path) -> BoxError {
    let lanes = [
        (Lane::Answers, output, error.unwritten_answers()),
        (Lane::Failures, Some(errors), error.unwritten_failures()),
    ];
    let mut places = Vec::new();
    let mut lost = Vec::new();
    for (lane, file, unwritten) in lanes {
        match keep(lane, file, output.unwrap_or(errors), unwritten) {
            Ok(Some(place)) => places.push(place.display().to_string()),
            Ok(None) => {}
            Err(error) => lost.push(format!("its {} are lost ({error})", lane.name())),
        }
    }
    let again = match output {
        Some(_) => "the same command takes them in and goes on",
        None => "standard output cannot be resumed",
    };
    let mut said = Vec::new();
    if !places.is_empty() {
        let places = places.join(" and ");
        said.push(format!(
            "the answers that could not be saved are in {places}; {again}"
        ));
    }
    said.extend(lost);
    match said.is_empty() {
        true => error.into(),
        false => failure::because(said.join("; "), error),
    }
}

/// Cuts a file back and keeps what it lacks; says where.
fn keep(
    lane: Lane,
    file: Option<&Path>,
    of: &Path,
    unwritten: &[u8],
) -> io::Result<Option<PathBuf>> {
    let missing = match file.filter(|file| file.is_file()) {
        Some(file) => cut_back(file, unwritten)?,
        None => unwritten,
    };
    if missing.is_empty() {
        return Ok(None);
    }
    let mut last = None;
    for place in places(of) {
        match write_new(lane, of, &place, missing) {
            Ok(path) => return Ok(Some(path)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("there is no place for them")))
}

/// Cuts a file back to its last whole line; returns what of `unwritten`, which was
/// to be appended to it, it does not have.
fn cut_back<'u>(path: &Path, unwritten: &'u [u8]) -> io::Result<&'u [u8]> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let reach = length.min(unwritten.len() as u64);
    file.seek(SeekFrom::Start(length - reach))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    let written = overlap(&end, unwritten);
    let whole = unwritten[..written]
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |last| last + 1);
    if whole < written {
        file.set_len(length - (written - whole) as u64)?;
        file.sync_all()?;
    }
    Ok(&unwritten[whole..])
}

/// How much of `unwritten` stands at the end of `end`. Every line begins with an id
/// of its own, so the longest is the one.
fn overlap(end: &[u8], unwritten: &[u8]) -> usize {
    let most = end.len().min(unwritten.len());
    let ends_with = |written: &usize| end.ends_with(&unwritten[..*written]);
    (1..=most).rev().find(ends_with).unwrap_or(0)
}

/// Where to put it, the best first: another disk than the full one, perhaps.
fn places(of: &Path) -> Vec<PathBuf> {
    let beside = of.parent().map(Path::to_owned);
    let beside = beside.map(|folder| match folder.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => folder,
    });
    [Some(std::env::temp_dir()), beside]
        .into_iter()
        .flatten()
        .collect()
}

/// What all rescued files of this output are called, to be found again.
fn prefix(lane: Lane, of: &Path) -> String {
    let path = fs::canonicalize(of).or_else(|_| std::path::absolute(of));
    let mut hasher = DefaultHasher::new();
    path.unwrap_or_else(|_| of.to_owned()).hash(&mut hasher);
    format!("tollhouse-{}-{:016x}-", lane.name(), hasher.finish())
}

/// A new file, of a name that nobody can foresee and for nobody else to read.
fn write_new(lane: Lane, of: &Path, place: &Path, text: &[u8]) -> io::Result<PathBuf> {
    let mut file = tempfile::Builder::new()
        .prefix(&prefix(lane, of))
        .suffix(".jsonl")
        .tempfile_in(place)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    let (_, path) = file.keep().map_err(|error| error.error)?;
    Ok(path)
}

/// Takes in what earlier runs rescued: appends what is missing, and removes the
/// file it was in. Says how many lines that were.
pub(super) async fn take_in(
    output: Option<&Path>,
    errors: &Path,
    outputs: &mut Outputs,
    retry_errors: bool,
) -> Result<u64, BoxError> {
    let Some(of) = output else {
        return Ok(0);
    };
    let mut taken = 0;
    for (lane, file) in [(Lane::Answers, of), (Lane::Failures, errors)] {
        for rescued in rescued(lane, of) {
            let because = |error| failure::because(rescued.display().to_string(), error);
            let lines = fs::read(&rescued).map_err(because)?;
            // Those that failed are sent again.
            if lane == Lane::Answers || !retry_errors {
                taken += append(file, &lines, &mut outputs.done).await?;
            }
            fs::remove_file(&rescued).map_err(because)?;
        }
    }
    Ok(taken)
}

/// Appends the lines that a file does not have.
async fn append(file: &Path, lines: &[u8], done: &mut Done) -> Result<u64, BoxError> {
    let because = |error| failure::because(file.display().to_string(), error);
    let mut missing = Vec::new();
    let mut count = 0;
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        // A torn one is no answer, and is sent again.
        let whole = line.ends_with(b"\n") && !done.knows(line);
        if whole && done.read(line).await.is_ok() {
            missing.extend_from_slice(line);
            count += 1;
        }
    }
    if missing.is_empty() {
        return Ok(0);
    }
    let mut opened = OpenOptions::new()
        .append(true)
        .open(file)
        .map_err(because)?;
    let before = opened.metadata().map_err(because)?.len();
    let written = opened.write_all(&missing).and_then(|()| opened.sync_all());
    if let Err(error) = written {
        // Still no room: everything is as it was, the rescued file included.
        if opened.metadata().is_ok_and(|now| now.is_file()) {
            opened.set_len(before).map_err(because)?;
        }
        let lines = Counted(count, "line");
        let what = format!(
            "{}: no room for the {lines} of an earlier run",
            file.display()
        );
        return Err(failure::because(what, error));
    }
    Ok(count)
}

/// Files of ours with that name; no link is followed, and nobody else's is read.
fn rescued(lane: Lane, of: &Path) -> Vec<PathBuf> {
    let prefix = prefix(lane, of);
    let mut found = Vec::new();
    for place in places(of) {
        let Ok(entries) = fs::read_dir(place) else {
            continue;
        };
        let named = entries.flatten().filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with(&prefix) && name.ends_with(".jsonl")
        });
        found.extend(named.map(|entry| entry.path()).filter(|path| is_ours(path)));
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(unix)]
fn is_ours(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let us = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(path).is_ok_and(|file| {
        file.is_file() && file.uid() == us && file.nlink() == 1 && file.mode() & 0o077 == 0
    })
}

#[cfg(not(unix))]
fn is_ours(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_at_the_end_is_found_however_much_it_is() {
        let unwritten = b"{\"id\":\"a\"}\n{\"id\":\"b\"}\n";
        for written in 0..=unwritten.len() {
            let end = [b"{\"id\":\"z\"}\n", &unwritten[..written]].concat();
            assert_eq!(overlap(&end, unwritten), written);
        }
    }

    #[test]
    fn a_file_is_cut_back_to_whole_lines_and_lacks_the_rest() {
        let unwritten = b"{\"id\":\"a\"}\n{\"id\":\"b\"}\n";
        let before = b"{\"id\":\"z\"}\n";
        for written in 0..=unwritten.len() {
            let file = tempfile::NamedTempFile::new().expect("a file");
            let torn = [before, &unwritten[..written]].concat();
            fs::write(file.path(), torn).expect("it is there");
            let missing = cut_back(file.path(), unwritten).expect("it can be cut");
            let kept = fs::read(file.path()).expect("it is there");
            assert!(kept.ends_with(b"\n"));
            assert_eq!([&kept, missing].concat(), [before, &unwritten[..]].concat());
        }
    }
}
