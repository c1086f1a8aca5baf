//! A plan as a table for people.

use std::fmt;

use super::{LimitTime, Load, Plan, Remarks};
use crate::format::{Count, Counted, Span};

/// Of each kind of remark the table shows the first so many.
const SHOWN: usize = 10;

/// One line of the limits.
struct Row<'a> {
    pool: &'a str,
    time: &'a LimitTime,
    binds: bool,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_loads(f)?;
        self.write_times(f)?;
        self.write_conclusion(f)?;
        write_remarks(f, "that can never be sent", &self.impossible)?;
        write_remarks(f, "without a valid request", &self.bad_lines)
    }
}

impl Plan {
    fn write_loads(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let models = self.loads.iter().map(|load| load.model().chars().count());
        let model_width = models.max().unwrap_or(0).max("model".len());
        let endpoints = self.loads.iter().map(|load| load.endpoint.chars().count());
        let width = endpoints.max().unwrap_or(0).max("endpoint".len());
        writeln!(
            f,
            "{:model_width$}  {:width$}  {:>10}  {:>14}",
            "model", "endpoint", "requests", "tokens"
        )?;
        let rows = self.loads.iter().map(Load::row);
        for (model, endpoint, requests, tokens) in rows.chain([self.total()]) {
            writeln!(
                f,
                "{model:model_width$}  {endpoint:width$}  {:>10}  {:>14}",
                Count(requests),
                Count(tokens)
            )?;
        }
        Ok(())
    }

    fn total(&self) -> (&str, &str, u64, u64) {
        ("total", "", self.requests, self.tokens)
    }

    fn write_times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<_> = self.rows().collect();
        if rows.is_empty() {
            return Ok(());
        }
        // One pool needs no name.
        let widest = rows.iter().map(|row| row.pool.chars().count()).max();
        let width = match self.pools.len() {
            0 | 1 => 0,
            _ => widest.unwrap_or(0).max("pool".len()) + 2,
        };
        let widest = rows.iter().map(|row| row.time.limit.to_string().len());
        let limit_width = widest.max().unwrap_or(0).max("time between launches".len());
        let name = |name: &str| match width {
            0 => String::new(),
            width => format!("{name:width$}"),
        };
        writeln!(
            f,
            "\n{}{:limit_width$}  {:>12}  {:>10}  {:>12}",
            name("pool"),
            "limit",
            "allowed",
            "takes",
            "to halve it"
        )?;
        let mut before = None;
        for Row { pool, time, binds } in rows {
            let is_new = before.replace(pool) != Some(pool);
            writeln!(
                f,
                "{}{:limit_width$}  {:>12}  {:>10}  {:>12}{}",
                name(if is_new { pool } else { "" }),
                time.limit,
                time.allowed,
                Span(time.time),
                match &time.to_halve {
                    Some(allowed) => allowed.to_string(),
                    None => "-".to_owned(),
                },
                if binds { "  <- binds" } else { "" }
            )?;
        }
        Ok(())
    }

    /// Every limit with its pool, those that all share last.
    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let bound = |pool: Option<&str>, time: &LimitTime| {
            self.binding == Some(time.limit) && self.bound_pool.as_deref() == pool
        };
        let of_pools = self.pools.iter().flat_map(move |pool| {
            pool.times.iter().map(move |time| Row {
                pool: &pool.pool,
                binds: bound(Some(&pool.pool), time),
                time,
            })
        });
        let shared = self.shared.iter().map(move |time| Row {
            pool: "all pools",
            binds: bound(None, time),
            time,
        });
        of_pools.chain(shared)
    }

    fn write_conclusion(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", Counted(self.lines, "line"))?;
        if self.skipped > 0 {
            write!(f, ", {} already done", Count(self.skipped))?;
        }
        write!(f, "; {} to send", Counted(self.requests, "request"))?;
        match self.binding {
            Some(_) => writeln!(f, " in about {}", Span(self.time)),
            None => writeln!(f, " at once"),
        }
    }
}

impl Load {
    fn model(&self) -> &str {
        self.model.as_deref().unwrap_or("-")
    }

    fn row(&self) -> (&str, &str, u64, u64) {
        (self.model(), &self.endpoint, self.requests, self.tokens)
    }
}

fn write_remarks<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    remarks: &Remarks<T>,
) -> fmt::Result {
    if remarks.count == 0 {
        return Ok(());
    }
    writeln!(f, "\n{} {what}:", Counted(remarks.count, "line"))?;
    for remark in remarks.first.iter().take(SHOWN) {
        writeln!(f, "  {remark}")?;
    }
    let more = remarks.count.saturating_sub(SHOWN as u64);
    if more > 0 {
        writeln!(f, "  and {} more", Count(more))?;
    }
    Ok(())
}

impl fmt::Display for super::Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, custom_id {:?}: costs {}; at most {} can ever be admitted",
            self.line,
            self.custom_id,
            Counted(self.cost, self.meter.counts()),
            Count(self.limit)
        )?;
        match &self.pool {
            Some(pool) => write!(f, " to {pool}"),
            None => Ok(()),
        }
    }
}
