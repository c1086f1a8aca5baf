//! What is looked at before anything is sent.

use std::fmt::Display;

use tollhouse_batch::plan::Remarks;
use tollhouse_batch::{Done, Plan};

use super::Args;
use super::files::Requests;
use super::outlook::Outlook;
use crate::failure::{self, BoxError};
use crate::plan::plan;
use crate::pools::Pools;
use crate::prices::PriceTable;
use crate::print::{Count, Counted};

/// Of each kind of line that forbids a run so many are named.
const NAMED: usize = 5;

/// How much there is to be done.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) plan: Plan,
    pub(super) outlook: Outlook,
}

/// Reads the whole input, and refuses what would go wrong.
///
/// # Errors
///
/// Names the lines for which the file as it is must not be sent.
pub(super) async fn preflight(
    args: &Args,
    input: &Requests,
    done: Done,
    pools: &Pools,
) -> Result<Scope, BoxError> {
    let reader = input.open().await?;
    let plan = plan(reader, done, pools, None, args.url.clone()).await?;
    refuse(
        &args.input,
        &plan.duplicates,
        (
            "with the custom_id of an earlier line",
            "with the custom_ids of earlier lines",
        ),
        "",
    )?;
    refuse(
        &args.input,
        &plan.changed,
        (
            "that was changed since an earlier run answered it",
            "that were changed since an earlier run answered them",
        ),
        "; --changed send sends them again, --changed keep keeps their old answers",
    )?;
    // A dry run lets them pass.
    if !args.skip_impossible && !pools.account().config().dry_run {
        let advice = "; --skip-impossible sends the others";
        refuse(
            &args.input,
            &plan.impossible,
            ("that can never be sent", "that can never be sent"),
            advice,
        )?;
    }
    Ok(Scope {
        outlook: Outlook::new(&plan, pools.clone(), args.caller(pools.account())),
        plan,
    })
}

/// Refuses a plan with models that have no price.
///
/// # Errors
///
/// Names them.
pub(super) fn all_have_prices(plan: &Plan, table: &PriceTable) -> Result<(), BoxError> {
    let models = plan.loads.iter().map(|load| load.model.as_deref());
    let mut unknown: Vec<_> = models
        .filter(|model| !model.is_some_and(|model| table.knows(model)))
        .map(|model| model.unwrap_or("a request without a model"))
        .collect();
    unknown.dedup();
    if unknown.is_empty() {
        return Ok(());
    }
    let unknown = unknown.join(", ");
    Err(failure::error(format!(
        "--prices has no price for {unknown}, so --cost-limit cannot be kept and nothing was sent"
    )))
}

fn refuse<T: Display>(
    input: &impl Display,
    lines: &Remarks<T>,
    (one, several): (&str, &str),
    advice: &str,
) -> Result<(), BoxError> {
    if lines.count == 0 {
        return Ok(());
    }
    let named = lines.first.iter().take(NAMED).map(T::to_string);
    let named = named.collect::<Vec<_>>().join("; ");
    let more = match lines.count.saturating_sub(NAMED as u64) {
        0 => String::new(),
        more => format!("; and {} more", Count(more)),
    };
    let count = Counted(lines.count, "line");
    let what = if lines.count == 1 { one } else { several };
    Err(failure::error(format!(
        "{input} has {count} {what}, so nothing was sent: {named}{more}{advice}"
    )))
}
