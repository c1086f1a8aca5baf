//! One connection, as much of it as a ledger needs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use redis::aio::{ConnectionLike, MultiplexedConnection, SendError};
use redis::{AsyncConnectionConfig, Client, Cmd, PushInfo, PushKind, RedisResult, Value};

use crate::address::Address;

/// What a command comes to.
pub(crate) type Answer<'a> = Pin<Box<dyn Future<Output = RedisResult<Value>> + Send + 'a>>;

/// Runs commands, several at once.
///
/// The whole of what the ledger asks of a Redis client; `docs/decisions/0069-redis-rs.md` says
/// why it is redis-rs.
pub(crate) trait Link: Send + Sync + 'static {
    /// Runs one. Waits for as long as the server does not answer.
    fn run<'a>(&'a self, command: &'a Cmd) -> Answer<'a>;
}

struct Shared<C>(C);

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Link for Shared<C> {
    fn run<'a>(&'a self, command: &'a Cmd) -> Answer<'a> {
        let mut connection = self.0.clone();
        Box::pin(async move { command.query_async(&mut connection).await })
    }
}

/// Connects, and calls `heard` whenever something is told on the channel.
pub(crate) async fn connect<H>(
    address: &Address,
    channel: &str,
    heard: H,
) -> RedisResult<Arc<dyn Link>>
where
    H: Fn() + Send + Sync + 'static,
{
    let pushed = move |push: PushInfo| {
        if push.kind == PushKind::Message {
            heard();
        }
        Ok::<(), SendError>(())
    };
    match address {
        Address::Server(info) => {
            let client = Client::open(info.clone())?;
            Ok(Arc::new(Shared(open(&client, channel, pushed).await?)))
        }
        #[cfg(feature = "cluster")]
        Address::Cluster(nodes) => {
            let client = redis::cluster::ClusterClientBuilder::new(nodes.clone())
                .use_protocol(redis::ProtocolVersion::RESP3)
                // One more look at where the slot is now.
                .retries(2)
                .push_sender(pushed)
                .build()?;
            let mut connection = client.get_async_connection().await?;
            connection.subscribe(channel).await?;
            Ok(Arc::new(Shared(connection)))
        }
        #[cfg(feature = "sentinel")]
        Address::Sentinels {
            sentinels,
            master,
            node,
            tls,
        } => {
            let mut info = redis::sentinel::SentinelNodeConnectionInfo::default()
                .set_redis_connection_info(node.clone());
            if *tls {
                info = info.set_tls_mode(redis::TlsMode::Secure);
            }
            let mut sentinel = redis::sentinel::Sentinel::build(sentinels.clone())?;
            let client = sentinel.async_master_for(master, Some(&info)).await?;
            Ok(Arc::new(Shared(open(&client, channel, pushed).await?)))
        }
    }
}

async fn open(
    client: &Client,
    channel: &str,
    pushed: impl redis::aio::AsyncPushSender,
) -> RedisResult<MultiplexedConnection> {
    // Whoever asks has a deadline of its own, and whoever connects, too.
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_connection_timeout(None)
        .set_push_sender(pushed);
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    connection.subscribe(channel).await?;
    Ok(connection)
}
