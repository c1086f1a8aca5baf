//! One account in several processes, here in one, on one ledger in memory.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tollhouse_openai::call::Endpoint::Chat as ChatCompletions;
use tollhouse_openai::shared::{Fallback, InMemory, Sharing};
use tollhouse_openai::{Account, AccountConfig, Refused};

const SEC: Duration = Duration::from_secs(1);

const FILE: &str = r#"
    [defaults]
    tokens_per_minute = 60_000
    headroom = 0
    max_concurrency = 100
    stagger_seconds = 0
    window = "off"

    [account]
    max_concurrency = 6

    [pools.large]
    tokens_per_minute = 600_000

    [models."large-*"]
    pool = "large"
"#;

fn processes(many: usize) -> Vec<Account> {
    let ledger = InMemory::new();
    let accounts = (0..many).map(|_| {
        let (sharing, agent) = Sharing::new(ledger.clone(), Fallback::Closed);
        tokio::spawn(agent);
        Account::from_toml(FILE).unwrap().shared(&sharing)
    });
    accounts.collect()
}

#[tokio::test(start_paused = true)]
async fn every_pool_is_shared_by_its_name() {
    let accounts = processes(2);
    let budget = |process: usize, model| accounts[process].budget(model, ChatCompletions);
    let most = budget(0, "gpt-4o").reserve(60_000).await.unwrap();
    most.launched();
    most.settle(60_000);
    // One has spent what both have, of this model.
    let start = Instant::now();
    let less = budget(1, "gpt-4o").reserve(6_000);
    let other = budget(1, "large-1").reserve(600_000).await.unwrap();
    assert!(start.elapsed() <= SEC, "{:?}", start.elapsed());
    drop(less.await.unwrap());
    let waited = start.elapsed();
    assert!(waited >= 6 * SEC && waited <= 7 * SEC, "{waited:?}");
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn the_accounts_slots_are_those_of_all_processes() {
    let accounts = processes(2);
    let mut held = Vec::new();
    for n in 0..6 {
        let budget = accounts[n % 2].budget(["gpt-4o", "o3", "large-1"][n / 2], ChatCompletions);
        held.push(budget.reserve(100).await.unwrap());
    }
    let seventh = || accounts[0].budget("gpt-4o", ChatCompletions).reserve(100);
    assert!(timeout(30 * SEC, seventh()).await.is_err());
    held.pop();
    assert!(timeout(2 * SEC, seventh()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_one_process_binds_the_others() {
    let accounts = processes(2);
    let budget = |process: usize| accounts[process].budget("gpt-4o", ChatCompletions);
    budget(0).reserve(100).await.unwrap().settle(100);
    budget(1).reserve(100).await.unwrap().settle(100);
    let lower = FILE.replace("tokens_per_minute = 60_000", "tokens_per_minute = 6_000");
    let changes = accounts[0].reload_toml(&lower).unwrap();
    assert!(!changes.is_empty());
    sleep(2 * SEC).await;
    // It would fit into its own limit.
    let refused = budget(1).reserve(30_000).await.unwrap_err();
    assert!(
        matches!(refused, Refused::TooLarge { limit: 6_000, .. }),
        "{refused}"
    );
}

#[test]
fn everything_that_is_wrong_with_a_shared_ledger_is_told() {
    let table = [
        (
            "redis = \"10.0.0.7:6379\"",
            "line 2, [shared]: redis is no URL of a Redis: redis:// is meant, perhaps",
        ),
        (
            "name = \"two words\"",
            "line 2, [shared]: name is \"two words\": allowed is a text from 1 to 200 visible \
             ASCII letters without braces",
        ),
        (
            "fallback = \"shut\"",
            "line 2, [shared]: fallback is \"shut\": allowed is share or closed or open",
        ),
        (
            "floor = 2",
            "line 2, [shared]: floor is 2: allowed is a number from 0 to 1",
        ),
        (
            "floor = 0.1\nfallback = \"open\"",
            "line 2, [shared]: floor is the least share, and fallback is none",
        ),
        (
            "redi = \"redis://10.0.0.7\"",
            "line 2, [shared]: redi is not known: redis is meant, perhaps",
        ),
    ];
    for (line, told) in table {
        let error = AccountConfig::from_toml(&format!("[shared]\n{line}")).unwrap_err();
        assert_eq!(error.to_string(), told);
    }
    let floor = AccountConfig::from_toml("[shared]\nfloor = 0.2").unwrap();
    let fallback = floor.shared.unwrap().fallback;
    assert_eq!(fallback, Fallback::Share { floor: 0.2 });
}
