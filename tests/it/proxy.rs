//! A TCP proxy whose two directions can be cut, delayed and ended apart from each other, as a
//! network does it.
//!
//! What is sent into a cut is kept and delivered when it heals, as TCP would send it again, unless
//! the connection is ended meanwhile. Not here: loss of single packets, which TCP hides.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// What clients send.
    Up,
    /// What servers send.
    Down,
}

/// What becomes of bytes in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    Open,
    /// Nothing arrives until it heals.
    Cut,
    /// Everything arrives so much later.
    Slow(Duration),
}

struct Wires {
    upstream: Mutex<SocketAddr>,
    up: watch::Sender<Passage>,
    down: watch::Sender<Passage>,
    /// Counts how often all connections were ended.
    ends: watch::Sender<u64>,
    /// How many more pieces of what clients send are delivered before nothing comes back; 0 for no
    /// end.
    left: watch::Sender<usize>,
}

impl Wires {
    fn to(upstream: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            upstream: Mutex::new(upstream),
            up: watch::Sender::new(Passage::Open),
            down: watch::Sender::new(Passage::Open),
            ends: watch::Sender::new(0),
            left: watch::Sender::new(0),
        })
    }

    fn passage(&self, way: Way) -> &watch::Sender<Passage> {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }

    /// Counts a piece that clients sent; behind the last one nothing comes back.
    fn delivered(&self) {
        self.left.send_if_modified(|left| {
            if *left == 1 {
                self.down.send_replace(Passage::Cut);
            }
            let counts = *left > 0;
            *left = left.saturating_sub(1);
            counts
        });
    }
}

/// A proxy to one address at a time; it ends when it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    wires: Arc<Wires>,
    task: JoinHandle<()>,
}

/// A proxy whose clients come from addresses of their own, each with wires that are cut apart from
/// those of the others.
pub(crate) struct Exchange {
    address: SocketAddr,
    upstream: SocketAddr,
    wires: Arc<Mutex<HashMap<IpAddr, Arc<Wires>>>>,
    task: JoinHandle<()>,
}

async fn pump(wires: &Wires, way: Way, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut passage = wires.passage(way).subscribe();
    let mut buffer = vec![0; 16 * 1_024];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or_default();
        // The end of a connection is held up too.
        let Ok(now) = passage.wait_for(|now| *now != Passage::Cut).await.map(|now| *now) else {
            return;
        };
        if let Passage::Slow(delay) = now {
            tokio::time::sleep(delay).await;
        }
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            drop(to.shutdown().await);
            return;
        }
        if way == Way::Up {
            wires.delivered();
        }
    }
}

async fn carry(client: TcpStream, wires: Arc<Wires>, mut ends: watch::Receiver<u64>) {
    let upstream = *wires.upstream.lock().unwrap();
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    let both = async {
        tokio::join!(
            pump(&wires, Way::Up, from_client, to_server),
            pump(&wires, Way::Down, from_server, to_client)
        )
    };
    tokio::select! {
        _ = both => {}
        _ = ends.changed() => {}
    }
}

impl Proxy {
    pub(crate) async fn to(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let wires = Wires::to(upstream);
        let carried = Arc::clone(&wires);
        let task = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let ends = carried.ends.subscribe();
                tokio::spawn(carry(client, Arc::clone(&carried), ends));
            }
        });
        Self { address, wires, task }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where new connections go.
    pub(crate) fn point_to(&self, upstream: SocketAddr) {
        *self.wires.upstream.lock().unwrap() = upstream;
    }

    pub(crate) fn set(&self, way: Way, passage: Passage) {
        self.wires.passage(way).send_replace(passage);
    }

    /// Delivers so many pieces more of what clients send, and then lets nothing come back, until
    /// the way down is opened; waits for that at most as long.
    pub(crate) async fn cut_behind(&self, pieces: usize, longest: Duration) {
        let mut left = self.wires.left.subscribe();
        self.wires.left.send_replace(pieces);
        drop(tokio::time::timeout(longest, left.wait_for(|left| *left == 0)).await);
        self.wires.left.send_replace(0);
    }

    /// Ends every connection, whatever was on its way.
    pub(crate) fn end_all(&self) {
        self.wires.ends.send_modify(|ends| *ends += 1);
    }
}

impl Exchange {
    pub(crate) async fn to(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let wires = Arc::<Mutex<HashMap<_, Arc<Wires>>>>::default();
        let carried = Arc::clone(&wires);
        let task = tokio::spawn(async move {
            loop {
                let Ok((client, from)) = listener.accept().await else { continue };
                let wires = Self::of(&carried, from.ip(), upstream);
                let ends = wires.ends.subscribe();
                tokio::spawn(carry(client, wires, ends));
            }
        });
        Self { address, upstream, wires, task }
    }

    fn of(
        wires: &Mutex<HashMap<IpAddr, Arc<Wires>>>,
        client: IpAddr,
        upstream: SocketAddr,
    ) -> Arc<Wires> {
        let mut wires = wires.lock().unwrap();
        Arc::clone(wires.entry(client).or_insert_with(|| Wires::to(upstream)))
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Of the connections of one client, those that it makes later too.
    pub(crate) fn set(&self, client: IpAddr, way: Way, passage: Passage) {
        let wires = Self::of(&self.wires, client, self.upstream);
        wires.passage(way).send_replace(passage);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.task.abort();
        for wires in self.wires.lock().unwrap().values() {
            wires.ends.send_modify(|ends| *ends += 1);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.end_all();
    }
}

/// A server that answers every byte with the next one, and counts what it got.
#[cfg(test)]
async fn counting() -> (SocketAddr, watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, (count, counted)) = (listener.local_addr().unwrap(), watch::channel(0));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                while let Ok(byte) = client.read_u8().await {
                    count.send_modify(|count| *count += 1);
                    client.write_u8(byte + 1).await.unwrap();
                }
            });
        }
    });
    (address, counted)
}

const SOON: Duration = Duration::from_secs(20);
const A_WHILE: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_cut_holds_one_direction_and_healing_delivers_what_it_held() {
    let (server, mut counted) = counting().await;
    let proxy = Proxy::to(server).await;
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    client.write_u8(1).await.unwrap();
    assert_eq!(tokio::time::timeout(SOON, client.read_u8()).await.unwrap().unwrap(), 2);
    // The server hears, and is not heard.
    proxy.set(Way::Down, Passage::Cut);
    client.write_u8(5).await.unwrap();
    tokio::time::timeout(SOON, counted.wait_for(|count| *count == 2)).await.unwrap().unwrap();
    assert!(tokio::time::timeout(A_WHILE, client.read_u8()).await.is_err());
    proxy.set(Way::Down, Passage::Open);
    assert_eq!(tokio::time::timeout(SOON, client.read_u8()).await.unwrap().unwrap(), 6);
    // Now it does not hear.
    proxy.set(Way::Up, Passage::Cut);
    client.write_u8(7).await.unwrap();
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(*counted.borrow(), 2);
    proxy.set(Way::Up, Passage::Open);
    assert_eq!(tokio::time::timeout(SOON, client.read_u8()).await.unwrap().unwrap(), 8);
}

#[tokio::test]
async fn a_slow_direction_delays_and_an_end_reaches_both_sides() {
    let (server, counted) = counting().await;
    let proxy = Proxy::to(server).await;
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    proxy.set(Way::Up, Passage::Slow(A_WHILE));
    let began = tokio::time::Instant::now();
    client.write_u8(1).await.unwrap();
    assert_eq!(tokio::time::timeout(SOON, client.read_u8()).await.unwrap().unwrap(), 2);
    assert!(began.elapsed() >= A_WHILE);
    proxy.set(Way::Up, Passage::Cut);
    client.write_u8(3).await.unwrap();
    proxy.end_all();
    assert!(tokio::time::timeout(SOON, client.read_u8()).await.unwrap().is_err());
    // What was in the cut is lost with its connection.
    proxy.set(Way::Up, Passage::Open);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(*counted.borrow(), 1);
    let (other, _counted) = counting().await;
    proxy.point_to(other);
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    client.write_u8(9).await.unwrap();
    assert_eq!(tokio::time::timeout(SOON, client.read_u8()).await.unwrap().unwrap(), 10);
    assert_eq!(*counted.borrow(), 1);
}

#[tokio::test]
async fn behind_the_last_piece_nothing_comes_back() {
    let (server, mut counted) = counting().await;
    let proxy = Proxy::to(server).await;
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    let send = async {
        client.write_u8(1).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), 2);
        client.write_u8(5).await.unwrap();
        // It arrived, and its answer does not.
        counted.wait_for(|count| *count == 2).await.unwrap();
        assert!(tokio::time::timeout(A_WHILE, client.read_u8()).await.is_err());
    };
    tokio::join!(proxy.cut_behind(2, SOON), tokio::time::timeout(SOON, send)).1.unwrap();
    proxy.set(Way::Down, Passage::Open);
    assert_eq!(tokio::time::timeout(SOON, client.read_u8()).await.unwrap().unwrap(), 6);
}
