//! Reads what Postgres and a Redis say of leases: the tables, slices and outboxes of
//! docs/PROTOCOL.md.
//!
//! It speaks to Redis in Redis' own words, a handful of them, so that it shares no client with the
//! ledger. Not here: what must hold between them (`escrow`).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use sqlx::postgres::PgPool;
use sqlx::query_as;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::escrow::{Answers, Escrow, Lease, Shard};
use crate::harness::postgres::as_owner;

/// What Redis says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reply {
    Nothing,
    Number(i64),
    Text(Vec<u8>),
    List(Vec<Self>),
}

impl Reply {
    fn text(&self) -> String {
        match self {
            Self::Text(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            Self::Nothing | Self::Number(_) | Self::List(_) => panic!("{self:?} is no text"),
        }
    }

    fn list(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            Self::Nothing | Self::Number(_) | Self::Text(_) => panic!("{self:?} is no list"),
        }
    }

    /// The integers that a packed value begins with.
    fn numbers(&self) -> Vec<i64> {
        match self {
            Self::Text(bytes) => {
                let whole = bytes.chunks_exact(8);
                whole.map(|bytes| i64::from_be_bytes(bytes.try_into().unwrap())).collect()
            }
            Self::Nothing | Self::Number(_) | Self::List(_) => Vec::new(),
        }
    }
}

/// A connection, from either side: a command is a list too.
struct Wire(BufReader<TcpStream>);

impl Wire {
    async fn read(&mut self) -> Option<Reply> {
        let mut line = String::new();
        if self.0.read_line(&mut line).await.unwrap() == 0 {
            return None;
        }
        let (kind, rest) = line.trim_end().split_at(1);
        let number = || rest.parse::<i64>().unwrap();
        Some(match kind {
            "+" => Reply::Text(rest.into()),
            ":" => Reply::Number(number()),
            "$" => match usize::try_from(number()) {
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.0.read_exact(&mut bytes).await.unwrap();
                    bytes.truncate(length);
                    Reply::Text(bytes)
                }
                Err(_) => Reply::Nothing,
            },
            "*" => {
                let mut items = Vec::new();
                for _ in 0..number() {
                    items.push(Box::pin(self.read()).await?);
                }
                Reply::List(items)
            }
            _ => panic!("Redis said {line}"),
        })
    }

    async fn write(&mut self, words: &[&[u8]]) {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend(format!("${}\r\n", word.len()).into_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&bytes).await.unwrap();
    }

    async fn ask(&mut self, words: &[&str]) -> Reply {
        self.write(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>()).await;
        self.read().await.unwrap()
    }
}

/// The two numbers of a place in an outbox.
fn place(id: &str) -> (i64, i64) {
    let (epoch, seq) = id.split_once('-').unwrap();
    (epoch.parse().unwrap(), seq.parse().unwrap())
}

type LeaseRow = (String, String, i64, i16, i64, i64, i64, i64, i64);

impl Escrow {
    /// Reads a Postgres database and a Redis in which nobody writes any more.
    pub(crate) async fn read(database: &str, redis: SocketAddr) -> Self {
        let pool = PgPool::connect(&as_owner(database)).await.unwrap();
        let authorities: Vec<(i16, i64, i64, i64)> = query_as(
            "SELECT shard, epoch, position_epoch, position_seq FROM shard_authority ORDER BY shard",
        )
        .fetch_all(&pool)
        .await
        .unwrap();
        let leases: Vec<LeaseRow> = query_as(
            "SELECT encode(mandate_id, 'hex'), subject, starts_at, shard, epoch, number, amount,
            leased, limit_minor FROM lease",
        )
        .fetch_all(&pool)
        .await
        .unwrap();
        pool.close().await;
        let mut wire = Wire(BufReader::new(TcpStream::connect(redis).await.unwrap()));
        let mut shards = Vec::new();
        for (shard, epoch, position_epoch, position_seq) in authorities {
            let (auth, out) =
                (format!("v1:{{s{shard:02}}}:auth"), format!("v1:{{s{shard:02}}}:out"));
            let begun = wire.ask(&["GET", &auth]).await.numbers().first().copied();
            let mut last = (0, 0);
            let mut outbox = Vec::new();
            if begun.is_some() {
                let about = wire.ask(&["XINFO", "STREAM", &out]).await;
                let name = Reply::Text(b"last-generated-id".to_vec());
                let at = about.list().iter().position(|field| *field == name).unwrap();
                last = place(&about.list()[at + 1].text());
                let entries = wire.ask(&["XRANGE", &out, "-", "+"]).await;
                outbox.extend(entries.list().iter().map(|entry| place(&entry.list()[0].text())));
            }
            let position = (position_epoch, position_seq);
            let shard = i64::from(shard);
            shards.push(Shard { shard, epoch, position, begun, last, outbox });
        }
        let leases = leases.into_iter().map(lease).collect::<Vec<_>>();
        let mut slices = BTreeMap::new();
        for lease in &leases {
            let key = lease.key();
            if let [epoch, number, rest, ..] = wire.ask(&["GET", &key]).await.numbers()[..] {
                slices.insert(key, (epoch, number, rest));
            }
        }
        Self { answers: Answers::default(), shards, leases, slices }
    }
}

fn lease(row: LeaseRow) -> Lease {
    let (mandate, subject, starts_at, shard, epoch, number, amount, leased, limit) = row;
    let shard = i64::from(shard);
    Lease { mandate, subject, starts_at, shard, epoch, number, amount, leased, limit }
}

/// The tables of the protocol, as far as they are read.
const TABLES: &str = "
CREATE TABLE shard_authority (shard SMALLINT, epoch BIGINT, position_epoch BIGINT,
    position_seq BIGINT);
CREATE TABLE lease (mandate_id BYTEA, subject TEXT, starts_at BIGINT, shard SMALLINT, epoch BIGINT,
    number BIGINT, amount BIGINT, leased BIGINT, limit_minor BIGINT);
INSERT INTO shard_authority VALUES (7, 2, 2, 5), (8, 1, 1, 0);
INSERT INTO lease VALUES ('\\x0a0b', 'b:none', 0, 7, 2, 3, 40, 30, 100)";

/// Packed integers, as scripts write them.
fn packed(numbers: &[i64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// A stand-in for a Redis that has the keys of one shard.
async fn stand_in(slice: Vec<u8>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut wire = Wire(BufReader::new(listener.accept().await.unwrap().0));
        while let Some(command) = wire.read().await {
            let words = command.list().iter().map(Reply::text).collect::<Vec<_>>().join(" ");
            match words.as_str() {
                "GET v1:{s07}:auth" => answer(&mut wire, &packed(&[2, 99])).await,
                "GET v1:{s07}:b:0a0b:b:none:0" => answer(&mut wire, &slice).await,
                "XINFO STREAM v1:{s07}:out" => {
                    wire.write(&[b"length", b"2", b"last-generated-id", b"2-5"]).await;
                }
                "XRANGE v1:{s07}:out - +" => {
                    let entries = "*2\r\n*2\r\n$3\r\n2-4\r\n*0\r\n*2\r\n$3\r\n2-5\r\n*0\r\n";
                    wire.0.get_mut().write_all(entries.as_bytes()).await.unwrap();
                }
                _ => wire.0.get_mut().write_all(b"$-1\r\n").await.unwrap(),
            }
        }
    });
    address
}

async fn answer(wire: &mut Wire, bytes: &[u8]) {
    let head = format!("${}\r\n", bytes.len());
    let whole = [head.as_bytes(), bytes, b"\r\n"].concat();
    wire.0.get_mut().write_all(&whole).await.unwrap();
}

#[tokio::test]
async fn leases_slices_and_outboxes_are_read_as_the_protocol_says() {
    let database = crate::harness::postgres::fresh_database().await;
    let pool = PgPool::connect(&database).await.unwrap();
    sqlx::raw_sql(TABLES).execute(&pool).await.unwrap();
    pool.close().await;
    for (rest, wrong) in [(30, 0), (29, 1), (31, 1)] {
        let redis = stand_in(packed(&[2, 3, rest, 7])).await;
        let escrow = Escrow::read(&database, redis).await;
        assert_eq!(escrow.leases[0].leased, 30);
        assert_eq!(escrow.shards[0].outbox, [(2, 4), (2, 5)]);
        assert_eq!((escrow.shards[0].begun, escrow.shards[0].last), (Some(2), (2, 5)));
        assert_eq!((escrow.shards[1].begun, escrow.shards[1].position), (None, (1, 0)));
        let books = super::books::Books { escrow: Some(escrow), ..Default::default() };
        let found = super::of_books(&books);
        assert_eq!(found.len(), wrong, "{rest}: {}", super::report(&found));
    }
}
