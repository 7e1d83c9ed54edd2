//! What is on its way, and what has arrived.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::task::Waker;

use bytes::Bytes;

use super::link::LinkState;
use crate::dice::Dice;
use crate::history::SimTime;
use crate::trace;

/// Bytes that one direction of a connection takes before its writer waits.
pub(super) const WINDOW: usize = 256 << 10;

/// A connection, named by its number.
pub(super) type Conn = u64;

/// The two ends of a connection: the one that connected, and the one that accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Caller,
    Callee,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }
}

/// Something that arrives at one end of a connection.
#[derive(Debug)]
pub(super) enum Packet {
    /// A wish to connect arrives at the address.
    Syn(String),
    /// The caller learns that it is connected.
    Ack,
    /// The caller learns that nobody listens.
    Refuse,
    Data(Bytes),
    /// The other side writes no more.
    Fin,
    /// The connection is broken.
    Reset,
}

/// One end of a connection.
#[derive(Default)]
pub(super) struct End {
    pub(super) host: u64,
    pub(super) arrived: VecDeque<Bytes>,
    /// Bytes that the other end has sent and this one has not read.
    pub(super) unread: usize,
    pub(super) finished: bool,
    pub(super) broken: Option<io::ErrorKind>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// The program has dropped it, or its host is gone.
    pub(super) dropped: bool,
    /// Packets sent to it, and packets it has taken: in their order, as TCP does.
    sent: u64,
    taken: u64,
    /// Packets that came before their turn.
    early: BTreeMap<u64, Packet>,
}

pub(super) struct Connection {
    pub(super) established: bool,
    caller: End,
    callee: End,
}

impl Connection {
    pub(super) fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Caller => &mut self.caller,
            Side::Callee => &mut self.callee,
        }
    }
}

/// A place where connections arrive.
#[derive(Default)]
pub(super) struct Port {
    pub(super) waiting: VecDeque<Conn>,
    pub(super) acceptor: Option<Waker>,
}

/// A packet under way: to this side of this connection.
struct Flight {
    /// Its number among those to this end.
    number: u64,
    conn: Conn,
    to: Side,
    packet: Packet,
}

/// The state of the network.
pub(super) struct Wires {
    now: SimTime,
    dice: Dice,
    links: BTreeMap<(u64, u64), LinkState>,
    all: LinkState,
    pub(super) ports: BTreeMap<String, Port>,
    pub(super) connections: BTreeMap<Conn, Connection>,
    next: Conn,
    sent: u64,
    flying: BTreeMap<(SimTime, u64), Flight>,
    /// What waits at a link that is cut.
    held: BTreeMap<(u64, u64), Vec<Flight>>,
    woken: Vec<Waker>,
    /// Hosts without power: what they would say is not heard.
    mute: BTreeMap<u64, bool>,
}

impl Wires {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: SimTime::default(),
            dice: Dice::new(seed),
            links: BTreeMap::new(),
            all: LinkState::default(),
            ports: BTreeMap::new(),
            connections: BTreeMap::new(),
            next: 0,
            sent: 0,
            flying: BTreeMap::new(),
            held: BTreeMap::new(),
            woken: Vec::new(),
            mute: BTreeMap::new(),
        }
    }

    pub(super) fn deliver(&mut self, now: SimTime) -> Vec<Waker> {
        self.now = now;
        while let Some(first) = self.flying.first_entry().filter(|first| first.key().0 <= now) {
            let flight = first.remove();
            self.arrive(flight);
        }
        std::mem::take(&mut self.woken)
    }

    pub(super) fn set_link(&mut self, from: u64, to: u64, change: impl FnOnce(&mut LinkState)) {
        let link = self.links.entry((from, to)).or_insert(self.all);
        change(link);
        if !link.cut {
            self.mend((from, to));
        }
    }

    pub(super) fn set_all_links(&mut self, change: impl Fn(&mut LinkState)) {
        change(&mut self.all);
        self.links.values_mut().for_each(&change);
        let held: Vec<_> = self.held.keys().copied().collect();
        for link in held {
            if !self.link(link).cut {
                self.mend(link);
            }
        }
    }

    /// What waited is sent now.
    fn mend(&mut self, link: (u64, u64)) {
        for flight in self.held.remove(&link).unwrap_or_default() {
            self.fly(flight);
        }
    }

    fn link(&self, link: (u64, u64)) -> LinkState {
        self.links.get(&link).copied().unwrap_or(self.all)
    }

    pub(super) fn connect(&mut self, from: u64, addr: &str, to: u64) -> Conn {
        let conn = self.next;
        self.next += 1;
        let end = |host| End { host, ..End::default() };
        self.connections.insert(conn, Connection { established: false, caller: end(from), callee: end(to) });
        self.send(conn, Side::Callee, Packet::Syn(addr.to_owned()));
        conn
    }

    /// Data to the other side of `from`.
    pub(super) fn send_data(&mut self, conn: Conn, from: Side, data: Bytes) {
        let to = from.other();
        let connection = self.connections.get_mut(&conn).expect("both ends keep it");
        let (here, there) = (connection.end(from).host, connection.end(to).host);
        connection.end(to).unread += data.len();
        trace::bytes(format_args!("net {here}>{there} #{conn}"), &data);
        self.send(conn, to, Packet::Data(data));
    }

    /// The program on `side` has dropped its end.
    pub(super) fn drop_end(&mut self, conn: Conn, side: Side) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let end = connection.end(side);
        if std::mem::replace(&mut end.dropped, true) {
            return;
        }
        let lost_data = end.unread > 0;
        (end.reader, end.writer) = (None, None);
        end.arrived.clear();
        let host = end.host;
        if !self.mute.contains_key(&host) {
            self.send(conn, side.other(), if lost_data { Packet::Reset } else { Packet::Fin });
        }
        self.forget_if_done(conn);
    }

    /// The program on `side` writes no more.
    pub(super) fn finish(&mut self, conn: Conn, side: Side) {
        self.send(conn, side.other(), Packet::Fin);
    }

    fn forget_if_done(&mut self, conn: Conn) {
        let gone = self.connections.get(&conn).is_some_and(|it| it.caller.dropped && it.callee.dropped);
        if gone {
            self.connections.remove(&conn);
        }
    }

    fn send(&mut self, conn: Conn, to: Side, packet: Packet) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let end = connection.end(to);
        end.sent += 1;
        let number = end.sent;
        self.fly(Flight { number, conn, to, packet });
    }

    fn fly(&mut self, flight: Flight) {
        let (conn, to) = (flight.conn, flight.to);
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let link = (connection.end(to.other()).host, connection.end(to).host);
        let state = self.links.get(&link).copied().unwrap_or(self.all);
        if state.cut {
            self.held.entry(link).or_default().push(flight);
            return;
        }
        let at = self.now.after(state.draw(&mut self.dice));
        self.sent += 1;
        self.flying.insert((at, self.sent), flight);
    }

    fn arrive(&mut self, flight: Flight) {
        let (conn, side) = (flight.conn, flight.to);
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let link = (connection.end(side.other()).host, connection.end(side).host);
        if self.link(link).cut {
            self.held.entry(link).or_default().push(flight);
            return;
        }
        if self.mute.get(&link.1).copied() == Some(true) {
            // Nobody is there to answer.
            return;
        }
        let connection = self.connections.get_mut(&conn).expect("looked up above");
        let end = connection.end(side);
        end.early.insert(flight.number, flight.packet);
        while let Some(packet) = self.next_packet(conn, side) {
            self.take(conn, side, packet);
        }
    }

    /// The next packet of an end, if it has come.
    fn next_packet(&mut self, conn: Conn, side: Side) -> Option<Packet> {
        let end = self.connections.get_mut(&conn)?.end(side);
        let packet = end.early.remove(&(end.taken + 1))?;
        end.taken += 1;
        Some(packet)
    }

    fn take(&mut self, conn: Conn, side: Side, packet: Packet) {
        if let Packet::Syn(addr) = packet {
            return self.syn(conn, &addr);
        }
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let end = connection.end(side);
        if end.dropped {
            if matches!(packet, Packet::Data(_)) {
                self.send(conn, side.other(), Packet::Reset);
            }
            return;
        }
        match packet {
            Packet::Syn(_) => {}
            Packet::Ack => connection.established = true,
            Packet::Refuse => end.broken = Some(io::ErrorKind::ConnectionRefused),
            Packet::Data(data) => end.arrived.push_back(data),
            Packet::Fin => end.finished = true,
            Packet::Reset => end.broken = Some(io::ErrorKind::ConnectionReset),
        }
        let end = connection.end(side);
        self.woken.extend(end.reader.take());
        if end.broken.is_some() {
            self.woken.extend(end.writer.take());
        }
    }

    fn syn(&mut self, conn: Conn, addr: &str) {
        let Some(port) = self.ports.get_mut(addr) else {
            return self.send(conn, Side::Caller, Packet::Refuse);
        };
        port.waiting.push_back(conn);
        self.woken.extend(port.acceptor.take());
        self.send(conn, Side::Caller, Packet::Ack);
    }

    pub(super) fn reset_between(&mut self, one: u64, other: u64) -> Vec<Waker> {
        for connection in self.connections.values_mut() {
            let hosts = (connection.caller.host, connection.callee.host);
            if hosts == (one, other) || hosts == (other, one) {
                for side in [Side::Caller, Side::Callee] {
                    let end = connection.end(side);
                    end.broken = Some(io::ErrorKind::ConnectionReset);
                    self.woken.extend(end.reader.take());
                    self.woken.extend(end.writer.take());
                }
            }
        }
        std::mem::take(&mut self.woken)
    }

    pub(super) fn host_down(&mut self, host: u64, silent: bool) -> Vec<Waker> {
        self.mute.insert(host, silent);
        let listened: Vec<_> =
            self.ports.keys().filter(|addr| super::host_of(addr).is_ok_and(|at| at == host)).cloned().collect();
        for addr in listened {
            self.ports.remove(&addr);
        }
        let ends: Vec<_> = self
            .connections
            .iter()
            .flat_map(|(conn, it)| [(*conn, Side::Caller, it.caller.host), (*conn, Side::Callee, it.callee.host)])
            .filter(|(_, _, at)| *at == host)
            .collect();
        for (conn, side, _) in ends {
            let Some(connection) = self.connections.get_mut(&conn) else { continue };
            let end = connection.end(side);
            if std::mem::replace(&mut end.dropped, true) {
                continue;
            }
            end.arrived.clear();
            (end.reader, end.writer) = (None, None);
            if !silent {
                self.send(conn, side.other(), Packet::Reset);
            }
            self.forget_if_done(conn);
        }
        std::mem::take(&mut self.woken)
    }

    pub(super) fn host_up(&mut self, host: u64) {
        self.mute.remove(&host);
    }
}
